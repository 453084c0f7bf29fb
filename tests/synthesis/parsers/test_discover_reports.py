"""From a folder to hardware reports."""

import shutil
from pathlib import Path

import pytest

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.discover import load_reports
from trigger_prune.synthesis.parsers.failure import FailureCause
from trigger_prune.synthesis.parsers.text import sha256
from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports

REPORTS = Path(__file__).parent / "reports"


@pytest.fixture
def tagger(tmp_path) -> Path:
    return Path(shutil.copytree(REPORTS / "tagger", tmp_path / "tagger"))


def synthesis(project: Path) -> Path:
    return project / "tagger_prj" / "solution1" / "syn" / "report"


def by_stage(path: Path) -> dict[str, HardwareReport]:
    (solution,) = load_reports(path)
    return {report.stage.value: report for report in to_hardware_reports(solution)}


def test_a_project_gives_a_report_for_every_stage(tagger):
    (solution,) = load_reports(tagger)
    assert (solution.name, solution.top, solution.core, solution.failure) == ("solution1", "tagger", None, None)
    reports = to_hardware_reports(solution)
    assert [report.stage for report in reports] == [
        CostStage.CSYNTH,
        CostStage.COSIM,
        CostStage.VSYNTH,
        CostStage.PNR,
    ]
    csynth, cosim, vsynth, pnr = reports
    assert (csynth.tool, csynth.tool_version, csynth.part) == ("Vitis HLS", "2023.2", "xcvu13p-flga2577-2-e")
    assert (csynth.lut, csynth.ff, csynth.dsp, csynth.bram18, csynth.uram) == (2551, 1350, 8, 4, 0)
    assert (csynth.latency_cycles, csynth.latency_ns, csynth.ii) == (12, 30.0, 1)
    assert (csynth.estimated_clock_ns, csynth.clock_uncertainty_ns, csynth.timing_met) == (1.711, 0.67, True)
    assert csynth.available is not None
    assert csynth.available.lut == 1728000
    assert csynth.content_hash == sha256((synthesis(tagger) / "tagger_csynth.xml").read_text())
    assert csynth.details["forced_operators"] == {"mul": "dsp"}
    layers = [(layer.name.split("_")[0], layer.lut, layer.latency_cycles, layer.ii) for layer in csynth.layers]
    assert layers == [("dense", 2100, 3, 1), ("relu", 120, 0, 1), ("softmax", 300, 7, 1)]
    assert (cosim.tool, cosim.latency_best_cycles, cosim.latency_cycles, cosim.ii) == ("xsim", 12, 13, 2)
    assert (cosim.lut, cosim.details["status"]) == (None, "pass")
    assert (vsynth.lut, vsynth.latency_cycles, vsynth.clock_period_ns, vsynth.timing_met) == (1455, None, None, None)
    assert (pnr.lut, pnr.wns_ns, pnr.achieved_clock_ns, pnr.clock_period_ns) == (1402, 0.286, pytest.approx(2.214), 2.5)
    assert pnr.timing_met is True
    for report in reports:
        assert HardwareReport.from_json(report.to_json()) == report


def test_any_part_of_a_project_may_be_given(tagger):
    whole = by_stage(tagger)
    for path in (tagger / "tagger_prj", tagger / "tagger_prj/solution1", synthesis(tagger)):
        found = by_stage(path)["csynth"]
        assert (found.lut, found.layers, found.content_hash) == (
            2551,
            whole["csynth"].layers,
            whole["csynth"].content_hash,
        )
    only = by_stage(synthesis(tagger) / "tagger_csynth.rpt")
    assert list(only) == ["csynth"]
    assert only["csynth"].lut == 2551
    assert by_stage(tagger / "vivado_synth.rpt")["vsynth"].lut == 1455


def test_several_projects_and_several_solutions(tagger, tmp_path):
    shutil.copytree(tagger, tmp_path / "other")
    assert [solution.folder for solution in load_reports(tmp_path)] == [
        tmp_path / "other/tagger_prj/solution1",
        tmp_path / "tagger/tagger_prj/solution1",
    ]
    shutil.copytree(tagger / "tagger_prj/solution1/syn", tagger / "tagger_prj/solution2/syn")
    first, second = load_reports(tagger)
    assert (first.name, second.name) == ("solution1", "solution2")
    # hls4ml's Vivado script reads solution1 only.
    assert "vivado_synth.rpt" in [file.path.name for file in first.files]
    assert "vivado_synth.rpt" not in [file.path.name for file in second.files]


def test_a_component_of_vitis_with_its_compile_report(tagger, tmp_path):
    component = tmp_path / "workspace" / "tagger_component"
    shutil.copytree(tagger / "tagger_prj/solution1", component / "hls")
    (component / "reports").mkdir()
    (component / "hls/syn/report/csynth.rpt").rename(component / "reports/hls_compile.rpt")
    (component / "logs").mkdir()
    shutil.copy(tagger / "vitis_hls.log", component / "logs/hls_compile.log")
    (solution,) = load_reports(tmp_path / "workspace")
    assert (solution.name, solution.top) == ("hls", "tagger")
    assert {file.kind for file in solution.files} >= {"csynth_summary", "log", "csynth_xml", "timing"}
    summary = component / "reports/hls_compile.rpt"
    summary.write_text(summary.read_text().replace("8 (~0%)", "9 (~0%)", 1))
    with pytest.raises(ReportFormatError, match="used dsp is 8 and 9"):
        load_reports(tmp_path / "workspace")


def test_loose_reports_form_one_design_per_folder(tmp_path):
    for name in ("printed_by_hls4ml_csynth.rpt", "synthesis_export.rpt"):
        shutil.copy(REPORTS / name, tmp_path / name)
    found = by_stage(tmp_path)
    assert list(found) == ["csynth", "cosim", "vsynth"]
    assert (found["csynth"].latency_best_cycles, found["csynth"].ii) == (12408, 11903)
    assert [layer.lut for layer in found["csynth"].layers] == [8604, 780]
    assert (found["cosim"].latency_cycles, found["cosim"].ii_min) == (20114, 433)
    assert (found["vsynth"].clock_period_ns, found["vsynth"].achieved_clock_ns) == (5.0, 5.94)
    assert found["vsynth"].timing_met is False


def test_an_axi_wrapper_and_its_core(tagger):
    folder = synthesis(tagger)
    (folder / "tagger_csynth.rpt").unlink()
    (folder / "csynth.rpt").unlink()
    top = (folder / "tagger_csynth.xml").read_text().replace(">tagger<", ">tagger_axi<")
    top = top.replace("<LUT>2551", "<LUT>3600").replace("<FF>1350", "<FF>2000")
    (folder / "tagger_axi_csynth.xml").write_text(top)
    design = (folder / "csynth.xml").read_text().replace("<TopModelName>tagger<", "<TopModelName>tagger_axi<")
    design = design.replace("<ModuleName>tagger<", "<ModuleName>tagger_axi<")
    design = design.replace("<LUT>2551", "<LUT>3600", 1).replace("<FF>1350", "<FF>2000", 1)
    inner = design[design.index("<InstancesList>") : design.index("</InstancesList>") + len("</InstancesList>")]
    core = f"<Instance><InstName>core</InstName><ModuleName>tagger</ModuleName>{inner}</Instance>"
    wrapped = f"<InstancesList>{core}</InstancesList>"
    (folder / "csynth.xml").write_text(design.replace(inner, wrapped))
    (solution,) = load_reports(tagger / "tagger_prj")
    assert (solution.top, solution.core) == ("tagger_axi", "tagger")
    (csynth, *_) = to_hardware_reports(solution)
    assert (csynth.lut, csynth.details["core"], csynth.details["core_used"]["lut"]) == (3600, "tagger", 2551)
    assert [layer.lut for layer in csynth.layers] == [2100, 120, 300]


def test_without_text_reports_vivado_hls_layers_are_the_other_modules(tagger):
    folder = synthesis(tagger)
    for name in ("tagger_csynth.rpt", "csynth.rpt", "csynth.xml"):
        (folder / name).unlink()
    found = by_stage(tagger)
    assert sorted(layer.lut for layer in found["csynth"].layers) == [120, 300, 2100]


@pytest.mark.parametrize(
    ("name", "find", "put", "message"),
    [
        ("csynth.xml", "<DSP>8</DSP>", "<DSP>9</DSP>", "used dsp is . and ."),
        ("tagger_csynth.xml", "<EstimatedClockPeriod>1.711", "<EstimatedClockPeriod>1.712", "estimated_clock_ns"),
        ("csynth.rpt", "2551 (~0%)", "2552 (~0%)", "used lut is 2551 and 2552"),
        ("csynth.rpt", "  12 |   30.000 |", "  13 |   32.500 |", "latency_worst is 12 and 13"),
    ],
)
def test_reports_that_contradict_each_other_are_both_named(tagger, name, find, put, message):
    file = synthesis(tagger) / name
    text = file.read_text()
    assert find in text
    file.write_text(text.replace(find, put, 1))
    with pytest.raises(ReportFormatError, match=f"contradict each other: {message}") as caught:
        load_reports(tagger)
    assert str(file) in caught.value.message
    (solution,) = load_reports(tagger, strict=False)
    assert len(solution.problems) == 1
    assert "contradict" in solution.problems[0]


def test_a_killed_run_names_its_cause_and_its_broken_report(tagger):
    file = synthesis(tagger) / "tagger_csynth.xml"
    file.write_text(file.read_text()[:900])
    log = tagger / "vitis_hls.log"
    log.write_text(log.read_text()[:2000] + "\nKilled\n")
    with pytest.raises(ReportFormatError, match=r"tagger_csynth\.xml is not complete XML"):
        load_reports(tagger)
    (solution,) = load_reports(tagger, strict=False)
    assert [str(file) in problem for problem in solution.problems] == [True]
    assert solution.failure is not None
    assert (solution.failure.cause, solution.failure.line) == (FailureCause.KILLED, "Killed")
    assert by_stage_lenient(solution)["csynth"].lut == 2551


def by_stage_lenient(solution):
    return {report.stage.value: report for report in to_hardware_reports(solution)}


def test_an_empty_report_is_a_problem_and_foreign_files_are_none(tagger):
    (tagger / "notes.log").write_text("")
    (tagger / "tb_data").mkdir()
    (tagger / "tb_data" / "csim_results.log").write_text("0.1 0.2\n")
    (tagger / "power.rpt").write_text("Power Report\n")
    (tagger / ".autopilot").mkdir()
    (tagger / ".autopilot" / "tagger.verbose.rpt").write_text("== Vitis HLS Report for 'tagger'\n")
    assert len(load_reports(tagger)) == 1
    (synthesis(tagger) / "extra_csynth.rpt").write_text("")
    with pytest.raises(ReportFormatError, match=r"extra_csynth\.rpt is empty"):
        load_reports(tagger)


def test_paths_without_reports(tmp_path):
    with pytest.raises(ReportFormatError, match="does not exist"):
        load_reports(tmp_path / "nowhere")
    with pytest.raises(ReportFormatError, match="holds no synthesis report"):
        load_reports(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ReportFormatError, match="is no report of a format"):
        load_reports(tmp_path / "a.txt")


def test_a_failed_cosimulation_has_no_latency(tagger):
    file = tagger / "tagger_prj/solution1/sim/report/tagger_cosim.rpt"
    file.write_text(file.read_text().replace("Pass", "Fail"))
    cosim = by_stage(tagger)["cosim"]
    assert (cosim.details["status"], cosim.latency_cycles, cosim.ii) == ("fail", None, None)


def test_latency_of_a_simulation_comes_from_its_transactions_when_the_report_has_none(tagger):
    folder = tagger / "tagger_prj/solution1/sim/report"
    row = "|   Verilog|      Pass|" + "|".join([f"{'NA':>15}"] * 6) + f"|{'NA':>22}|"
    lines = (folder / "tagger_cosim.rpt").read_text().splitlines()
    (folder / "tagger_cosim.rpt").write_text("\n".join(row if "Verilog" in line else line for line in lines) + "\n")
    (folder / "verilog/lat.rpt").unlink()
    cosim = by_stage(tagger)["cosim"]
    assert (cosim.latency_best_cycles, cosim.latency_cycles, cosim.ii_min, cosim.ii) == (12, 13, 1, 2)
