"""Reports of the full model in the place of estimates: which are taken, what their sums are called, what is refused.

The report is a recorded one of Vitis HLS 2022.2 with invented numbers; projects are written by hls4ml.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_toys import INPUT, network
from study_toys import study_inputs
from two_stage_toys import report

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import CostError, ReportFormatError, StageMismatchError, WrongReportError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import Target
from trigger_prune.two_stage.full_reports import measured_options, report_files, with_measured
from trigger_prune.two_stage.hardware import full_options, layout_of, light_cost
from trigger_prune.two_stage.options import FullOption, LightOption, together
from trigger_prune.two_stage.search import SearchSpace, search
from trigger_prune.two_stage.study import run_study
from trigger_prune.two_stage.table import AloneModel
from trigger_prune.units import BUNCH_CROSSING_NS

RECORDED = Path(__file__).parents[1] / "synthesis" / "csynth_reports" / "vitis_2022.xml"
TARGET = Target()
NETWORK = network(6, (8,), 3, 21)
SPEC = describe_network(NETWORK)
PORT = (
    "<RtlPorts><name>{name}</name><Object>x</Object><IOProtocol>{protocol}</IOProtocol><Dir>{direction}</Dir>"
    "<Bits>{bits}</Bits></RtlPorts>"
)


def ports(bits: int = 6 * INPUT.width, outputs: int = 3, protocol: str = "ap_vld") -> str:
    """As hls4ml's top has them: one reshaped input, an output per value, and their valid bits."""
    listed = [("x", "in", bits), ("x_ap_vld", "in", 1)]
    for k in range(outputs):
        listed += [(f"layer_out_{k}", "out", 16), (f"layer_out_{k}_ap_vld", "out", 1)]
    return "".join(PORT.format(name=n, direction=d, bits=b, protocol=protocol) for n, d, b in listed)


def text(*changes: tuple[str, str], inside: str = "") -> str:
    """The recorded report without its latencies in ns, which would have to fit every other clock."""
    found = re.sub(r"<(\S+RealTimeLatency)>.*?</\1>\n", "", RECORDED.read_text())
    found = found.replace("</InterfaceSummary>", inside + "</InterfaceSummary>")
    for old, new in changes:
        assert old in found
        found = found.replace(old, new)
    return found


def put(path: Path, *changes: tuple[str, str], inside: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(*changes, inside=ports() if inside is None else inside))
    return path


def options(paths: dict[int, Path], multiples: Sequence[int] = (5,)) -> tuple[FullOption, ...]:
    return measured_options("dense", SPEC, TARGET, "Resource", paths, multiples).options


def test_the_numbers_are_those_of_the_report(tmp_path: Path) -> None:
    """A file, a solution and two clocks; a report with nothing about its network is taken, and that is said."""
    loose = put(tmp_path / "rf8" / "csynth.xml")
    solution = tmp_path / "rf16" / "top_prj" / "solution1"
    put(solution / "syn" / "report" / "csynth.xml", ("<LUT>12345<", "<LUT>9000<"))
    slow, quick = options({8: loose, 16: solution.parent.parent})
    cost = slow.cost
    assert (cost.lut, cost.ff, cost.dsp, cost.bram18, cost.latency_cycles, cost.ii) == (12345, 3021, 17, 4, 11, 2)
    assert cost.stage is CostStage.CSYNTH and cost.tool == "Vitis HLS" and cost.tool_version == "2022.2"
    assert cost.clock_period_ns == BUNCH_CROSSING_NS / 5 and cost.details["report"] == "csynth.xml"
    assert (slow.reuse_factor, slow.clock_multiple, slow.strategy) == (8, 5, "Resource")
    assert (quick.reuse_factor, quick.cost.lut) == (16, 9000)
    both = tmp_path / "two clocks"
    put(both / "a" / "csynth.xml")
    put(both / "b" / "csynth.xml", (">5.00<", ">2.77<"))
    assert [option.clock_multiple for option in options({8: both}, (5, 9))] == [5, 9]
    said = measured_options("dense", SPEC, TARGET, "Resource", {8: put(tmp_path / "x.xml", inside="")}, (5,)).remarks
    assert "reuse factor 8 is measured by Vitis HLS 2022.2 (csynth" in said[0]
    assert "nothing in" in said[1] and "x.xml" in said[1]
    met = measured_options("dense", SPEC, TARGET, "Resource", {8: loose}, (5,)).remarks
    assert len(met) == 1
    late = put(tmp_path / "late.xml", ("<EstimatedClockPeriod>3.412<", "<EstimatedClockPeriod>4.9<"))
    assert "does not reach the clock" in measured_options("d", SPEC, TARGET, "Resource", {8: late}, (5,)).remarks[1]
    assert measured_options("dense", SPEC, TARGET, "Resource", {}, (5,)).remarks == ()


REFUSED = {
    "another part": ((("xcvu13p-flga2577-2-e", "xcvu9p-flga2104-2L-e"),), None, "xcvu9p"),
    "another clock": ((("<TargetClockPeriod>5.00<", "<TargetClockPeriod>4.80<"),), None, "clock period of 4.8"),
    "another input": ((), ports(bits=56), "another network: it reads 56 bits"),
    "another output": ((), ports(outputs=5), "writes 5 values"),
    "no logic": ((("<LUT>12345<", "<LUT>0<"),), None, "0 LUT"),
    "no latency": (tuple((f"-caseLatency>{n}<", "-caseLatency>undef<") for n in (9, 10, 11)), None, "no latency"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_report_of_something_else_is_refused_by_name(tmp_path: Path, name: str) -> None:
    changes, inside, message = REFUSED[name]
    path = put(tmp_path / "rf8.xml", *changes, inside=inside)
    with pytest.raises((WrongReportError, ReportFormatError, CostError), match=message) as caught:
        options({8: path})
    assert "rf8.xml" in str(caught.value) or name == "no latency"


def test_paths_that_say_nothing_or_too_much(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportFormatError, match="no synthesis report"):
        options({8: tmp_path / "empty"})
    shutil.copytree(RECORDED.parents[1] / "parsers" / "reports" / "tagger", tmp_path / "vivado")
    shutil.rmtree(tmp_path / "vivado" / "tagger_prj")
    with pytest.raises(WrongReportError, match="holds no C synthesis report"):
        options({8: tmp_path / "vivado"})
    put(tmp_path / "two" / "a" / "csynth.xml")
    put(tmp_path / "two" / "b" / "csynth.xml")
    with pytest.raises(WrongReportError, match="two C synthesis reports at 5 cycles per crossing"):
        options({8: tmp_path / "two"})
    # stream interfaces say nothing of the network
    path = put(tmp_path / "stream.xml", inside=ports(bits=1, protocol="axis"))
    assert len(measured_options("d", SPEC, TARGET, "Resource", {8: path}, (5,)).remarks) == 2


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hls4ml's project of the network at reuse factor 8, synthesised."""
    target = layout_of(NETWORK, TARGET, "Resource", 8, 5)
    assert max(layer.reuse_factor for layer in target.layers) == 8
    folder = tmp_path_factory.mktemp("hls4ml") / "rf8"
    write_hls4ml_project(NETWORK, folder, target, "full_network")
    put(folder / "full_network_prj" / "solution1" / "syn" / "report" / "full_network_csynth.xml", inside="")
    return folder


def test_the_weights_of_a_project_say_whose_it_is(project: Path, tmp_path: Path) -> None:
    """Also where the report alone, inside the project, is named."""
    deep = next(project.rglob("*_csynth.xml"))
    for path in (project, project / "full_network_prj", deep):
        found = measured_options("dense", SPEC, TARGET, "Resource", {8: path}, (5,))
        assert found.options[0].cost.lut == 12345 and len(found.remarks) == 1, found.remarks
    other = describe_network(network(6, (8,), 3, 22))
    for path in (project, deep):
        with pytest.raises(WrongReportError, match="its weights are not those of the full model"):
            measured_options("dense", other, TARGET, "Resource", {8: path}, (5,))
    with pytest.raises(WrongReportError, match="its weights"):
        measured_options("dense", describe_network(network(6, (9,), 3, 21)), TARGET, "Resource", {8: project}, (5,))
    with pytest.raises(WrongReportError, match=r"has reuse factor 8, two_stage\.full_reports says 16"):
        options({16: project})
    with pytest.raises(WrongReportError, match=r"has strategy resource, two_stage\.strategy is"):
        measured_options("dense", SPEC, TARGET, "Latency", {8: project}, (5,))
    copy = tmp_path / "stamped"
    shutil.copytree(project, copy)
    stamp = copy / "trigger_prune_design.json"
    stamp.write_text(f'{{"content_hash": "{SPEC.content_hash()}"}}')
    assert options({8: copy})
    stamp.write_text('{"content_hash": "0123456789abcdef"}')
    with pytest.raises(WrongReportError, match="stamp of another network"):
        options({8: copy})


def test_every_file_that_decides_is_listed(project: Path, tmp_path: Path) -> None:
    """A change of any of them computes the stage again."""
    names = {path.name for path in report_files({8: project})}
    assert {"full_network_csynth.xml", "hls4ml_config.yml", "parameters.h", "defines.h", "full_network.cpp"} <= names
    assert any(name.startswith("w") and name.endswith(".h") for name in names)
    alone = put(tmp_path / "rf8.xml")
    assert report_files({8: alone}) == [alone] and report_files({}) == []


def test_measured_numbers_take_the_place_of_estimates(tmp_path: Path) -> None:
    """At their reuse factor and clock only; a reuse factor that was not tried is added."""
    estimates = full_options("dense", NETWORK, TARGET, "Resource", (1, 8, 24), (5, 9))
    measured = options({8: put(tmp_path / "rf8.xml"), 12: put(tmp_path / "rf12.xml", ("12345", "11111"))})
    merged = with_measured(estimates, measured)
    found = {(option.clock_multiple, option.reuse_factor): option.cost for option in merged}
    assert len(merged) == len(found) == len(estimates) + 1
    assert found[5, 8].lut == 12345 and found[5, 12].lut == 11111
    for option in estimates:
        key = option.clock_multiple, option.reuse_factor
        if key != (5, 8):
            assert found[key] is option.cost and found[key].stage is CostStage.ANALYTIC


def test_a_sum_with_an_estimate_is_an_estimate() -> None:
    """Of the stage that the other part was measured at; no other mixture has a sum."""
    measured = report("full", lut=100, dsp=7)
    estimate = report("light", lut=10, dsp=1, stage=CostStage.ANALYTIC, tool="formula", predicts=CostStage.CSYNTH)
    for first, second in ((estimate, measured), (measured, estimate)):
        both = together(first, second)
        assert (both.lut, both.dsp, both.ff, both.bram18) == (110, 8, 20, 0)
        assert (both.stage, both.predicts, both.tool) == (CostStage.ANALYTIC, CostStage.CSYNTH, "formula")
        assert both.details["measured"] == "stage csynth (tool)"
        assert both.content_hash == f"{first.content_hash}+{second.content_hash}"
    assert together(measured, measured).stage is CostStage.CSYNTH
    assert together(estimate, estimate) == estimate + estimate
    for wrong in (
        replace(measured, stage=CostStage.VSYNTH),
        replace(estimate, predicts=CostStage.VSYNTH),
        replace(measured, part="other"),
        replace(measured, clock_period_ns=5.0),
    ):
        with pytest.raises(StageMismatchError):
            together(estimate, wrong)


def test_the_study_names_the_stage_of_every_reuse_factor(tmp_path: Path) -> None:
    """One reuse factor measured far smaller than its estimate: it is chosen, and said to be measured."""
    inputs = study_inputs(pruned_dsp=7000)
    estimates = full_options("full", NETWORK, TARGET, "Resource", (2, 4, 8), (5,))
    measured = options(
        {8: put(tmp_path / "rf8.xml", ("<DSP>17<", "<DSP>3<"), ("<Interval-max>2<", "<Interval-max>8<"))}
    )
    # 400 DSP of an invented estimate, so that the three of the report are the least
    estimates = tuple(replace(option, cost=replace(option.cost, dsp=400)) for option in estimates)
    fulls = with_measured(estimates, measured)
    light = light_cost(network(6, (2,), 1, 5), TARGET, 5)
    light = replace(light, dsp=0)
    candidates = tuple(
        replace(candidate, options=(LightOption(candidate.name, candidate.validation, candidate.test, light, 5),))
        for candidate in inputs.lights
    )
    first = candidates[0]
    inputs = replace(
        inputs,
        lights=candidates,
        fulls=fulls,
        full=AloneModel("full", "full", first.validation.full, first.test.full, fulls),
        pruned=None,
    )
    found = run_study(inputs).findings
    stages = {single.reuse_factor: single.full_stage for single in found.singles}
    assert stages == {2: "analytic", 4: "analytic", 8: "csynth"}
    assert {(d.reuse_factor, d.full_stage) for d in found.designs} == set(stages.items())
    best, row = found.best, found.rows[-1]
    assert best is not None and best.point.reuse_factor == 8 and row.cost is not None
    assert row.cost.dsp == 3 and row.cost.lut == 12345 + light.lut
    assert row.cost.stage is CostStage.ANALYTIC and "reuse factor 8, measured: csynth" in row.note
    assert [part.cost.stage for part in best.parts[:2]] == [CostStage.ANALYTIC, CostStage.CSYNTH]
    alone = found.rows[0]
    assert alone.cost is not None and ("measured: csynth" in alone.note) == (alone.cost.stage is CostStage.CSYNTH)
    space = SearchSpace(candidates[0].options, fulls, (0.1,), (1,))
    sums = {d.engine.ii_cycles: d.cost for d in search(space, inputs.requirements, inputs.beam).designs}
    assert all(cost.stage is CostStage.ANALYTIC for cost in sums.values())
    assert np.isclose(sums[8].lut - light.lut, 12345)
