import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trigger_prune.cli.reports import COMMANDS
from trigger_prune.errors import StageMismatchError

REPORTS = Path(__file__).parent / "synthesis" / "parsers" / "reports"


@pytest.fixture
def run():
    app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
    for name, command, examples in COMMANDS:
        app.command(name, epilog="Examples:\n\n" + "\n\n".join(examples))(command)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def tagger(tmp_path) -> Path:
    return Path(shutil.copytree(REPORTS / "tagger", tmp_path / "tagger"))


def row(output: str, label: str) -> list[str]:
    """Cells of the row of a printed table that begins with a label."""
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip("│ ").split("│")]
        if cells[0] == label:
            return cells[1:]
    raise AssertionError(f"no row {label} in\n{output}")


def test_show_keeps_stages_apart(run, tagger):
    result = run("show", tagger)
    assert result.exit_code == 0, result.output
    assert row(result.output, "LUT") == ["2551 (0.15 %)", "-", "1455 (0.08 %)", "1402 (0.08 %)", "1728000"]
    assert row(result.output, "latency, cycles") == ["12", "13", "-", "-"]
    assert row(result.output, "latency, ns")[:2] == ["30", "32.5"]
    assert row(result.output, "worst slack, ns") == ["-", "-", "-", "0.286"]
    assert row(result.output, "timing met") == ["yes", "-", "-", "yes"]
    assert row(result.output, "dense_tag_ap_fixed_12_4_config2_s") == ["3", "1", "2100", "800", "5", "0", "0"]


def test_show_as_json_is_the_documented_document(run, tagger):
    result = run("show", tagger, "--json")
    assert result.exit_code == 0
    document = json.loads(result.output)
    assert document["format"] == 1
    (solution,) = document["solutions"]
    assert set(solution) == {"folder", "name", "top", "core", "reports", "failure", "problems", "files"}
    assert (solution["top"], solution["core"], solution["failure"], solution["problems"]) == ("tagger", None, None, [])
    csynth = solution["reports"][0]
    assert (csynth["stage"], csynth["lut"], csynth["latency_ns"], csynth["timing_met"]) == ("csynth", 2551, 30.0, True)
    assert csynth["layers"][1]["latency_cycles"] == 0
    assert solution["reports"][2]["latency_cycles"] is None
    assert {file["kind"] for file in solution["files"]} >= {"csynth_xml", "csynth_rpt", "utilization", "log"}


def test_show_tells_why_a_run_failed_and_what_is_broken(run, tagger):
    report = tagger / "tagger_prj/solution1/syn/report/tagger_csynth.xml"
    report.write_text(report.read_text()[:700])
    log = tagger / "vitis_hls.log"
    log.write_text(log.read_text()[:1500] + "\nKilled\n")
    result = run("show", tagger)
    assert result.exit_code == 1
    assert "the run failed: killed" in result.output
    assert "more memory" in result.output
    assert "tagger_csynth.xml is not complete XML" in result.output
    assert row(result.output, "LUT")[0] == "2551 (0.15 %)"


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_show_without_reports_is_an_error_without_a_traceback(run, tmp_path, name):
    (tmp_path / "empty").mkdir()
    result = run("show", tmp_path / name)
    assert result.exit_code == 1
    assert "error:" in result.output
    assert "Traceback" not in result.output


def smaller(tagger: Path) -> Path:
    """A copy in which every C synthesis report states a smaller first layer."""
    other = Path(shutil.copytree(tagger, tagger.parent / "smaller"))
    folder = other / "tagger_prj/solution1/syn/report"
    for file in folder.glob("*csynth.rpt"):
        file.unlink()
    for file in folder.glob("*.xml"):
        file.write_text(file.read_text().replace("<LUT>2100<", "<LUT>1050<").replace("<LUT>2551<", "<LUT>1501<"))
    return other


def test_diff_of_two_designs(run, tagger):
    result = run("diff", tagger, smaller(tagger), "--stage", "csynth")
    assert result.exit_code == 0, result.output
    assert row(result.output, "lut") == ["2551", "1501", "-1050", "-41.2 %"]
    assert row(result.output, "ff") == ["1350", "1350", "+0", "+0.0 %"]
    assert row(result.output, "dense_tag_ap_fixed_12_4_config2_s") == ["lut", "2100", "1050", "-1050", "-50.0 %"]
    assert "relu_tag" not in result.output
    assert run("diff", tagger, tagger).output.count("B - A") == 4


def test_diff_needs_a_common_stage(run, tagger, tmp_path):
    only_vsynth = tmp_path / "only_vsynth"
    only_vsynth.mkdir()
    shutil.copy(tagger / "vivado_synth.rpt", only_vsynth)
    result = run("diff", tagger / "tagger_prj/solution1/syn", only_vsynth)
    assert result.exit_code == 1
    assert "nothing to compare" in result.output
    debugged = run("diff", tagger / "tagger_prj/solution1/syn", only_vsynth, "--debug")
    assert isinstance(debugged.exception, StageMismatchError)
    other_tool = smaller(tagger)
    for file in (other_tool / "tagger_prj/solution1/syn/report").glob("*.xml"):
        file.write_text(file.read_text().replace("DSP>", "DSP48E>"))
    result = run("diff", tagger, other_tool, "--stage", "csynth")
    assert result.exit_code == 1
    assert "Vivado HLS" in result.output


def test_diff_wants_one_design_on_each_side(run, tagger, tmp_path):
    shutil.copytree(tagger, tmp_path / "second")
    result = run("diff", tmp_path, tagger)
    assert result.exit_code == 2
    assert "holds 2 designs" in result.output
    result = run("diff", tagger, tagger, "--stage", "gates")
    assert result.exit_code == 2
    assert "there is no stage gates" in result.output


def test_help_shows_examples_and_the_json_document(run):
    result = run("show", "--help")
    assert "trigger-prune reports show" in result.output
    for key in ("solutions", "reports", "failure", "problems", "files"):
        assert key in result.output
    assert "trigger-prune reports diff" in run("diff", "--help").output
