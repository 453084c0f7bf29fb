"""A validation folder is written, run, packaged and read; all figures come from stand-ins and are invented."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ExportError, ReportFormatError, ToolError
from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.hls.tools import require_hls_tool
from trigger_prune.synthesis.refined_estimate import observations
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.synthesis.validate.build import read_validation_folder, write_validation_folder
from trigger_prune.synthesis.validate.compare import compare_outcomes, rebuild
from trigger_prune.synthesis.validate.keep import keep_reports
from trigger_prune.synthesis.validate.measure import read_validation, run_validation
from trigger_prune.synthesis.validate.package import add_launcher

PART = "xcku115-flvb2104-2-i"
NAMES = ["dense_4b_50", "dense_10b_80_softmax", "resource_6b_50_rf16"]
FIGURES = {
    "dense_4b_50": {"LUT": 7000, "FF": 500},
    "dense_10b_80_softmax": {"LUT": 4000, "FF": 900},
    "resource_6b_50_rf16": {"LUT": 3000, "FF": 1200},
}


def quiet(text: str) -> None:
    pass


@pytest.fixture
def validation(written, tmp_path):
    shutil.copytree(written.folder, tmp_path / "validation")
    return read_validation_folder(tmp_path / "validation")


@pytest.fixture
def figures(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(FIGURES))
    monkeypatch.setenv("STAND_IN_FIGURES", str(path))
    calls = tmp_path / "calls"
    monkeypatch.setenv("STAND_IN_COUNTER", str(calls))
    return calls


def count(calls):
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def test_the_manifest_survives_and_a_begun_folder_is_continued(written, validation, some_designs):
    assert [entry.name for entry in validation.entries] == NAMES
    assert replace(validation, folder=written.folder) == written
    assert all(entry.prediction is not None and entry.prediction.lut for entry in validation.entries)
    project = validation.project("dense_4b_50")
    shutil.rmtree(validation.folder / "designs" / "dense_10b_80_softmax")
    (project / "mine.txt").write_text("kept")
    said: list[str] = []
    again = write_validation_folder(validation.folder, "Vitis", PART, 4.0, designs=some_designs, say=said.append)
    assert again.entries == written.entries  # the same bytes again, so the same hashes
    assert len(said) == 1 and said[0].startswith("dense_10b_80_softmax: written")
    assert (project / "mine.txt").exists()
    with pytest.raises(ExportError, match=r"holds designs for Vitis, xcku115.*, 4 ns"):
        write_validation_folder(validation.folder, "Vitis", PART, 5.0, say=quiet)


def test_every_design_is_run_once_and_measured(validation, stand_ins, figures):
    stand_ins.install("vitis-run")
    outcomes = run_validation(validation, require_hls_tool(), HlsSteps(), say=quiet)
    assert [outcome.problem for outcome in outcomes] == [None] * 3
    measured = {outcome.entry.name: outcome.reports[CostStage.CSYNTH] for outcome in outcomes}
    assert {name: report.lut for name, report in measured.items()} == {
        name: values["LUT"] for name, values in FIGURES.items()
    }
    assert {report.part for report in measured.values()} == {PART}
    assert count(figures) == 3
    said: list[str] = []
    again = run_validation(validation, require_hls_tool(), HlsSteps(), say=said.append)
    assert count(figures) == 3
    assert said == [f"{name}: finished already" for name in NAMES]
    assert [outcome.reports[CostStage.CSYNTH].lut for outcome in again] == [7000, 4000, 3000]
    # Another step was asked for: everything has to be run.
    run_validation(validation, require_hls_tool(), HlsSteps(cosim=True), say=quiet)
    assert count(figures) == 6
    # A marker without its report is not believed.
    next((validation.project(NAMES[0])).rglob("network_csynth.xml")).unlink()
    run_validation(validation, require_hls_tool(), HlsSteps(), say=quiet)
    assert count(figures) == 7


def test_a_design_that_fails_is_named_and_run_again(validation, stand_ins, figures, monkeypatch):
    stand_ins.install("vitis-run")
    monkeypatch.setenv("STAND_IN_MODE", "licence")
    outcomes = run_validation(validation, require_hls_tool(), HlsSteps(), say=quiet)
    assert all("valid license was not found" in outcome.problem for outcome in outcomes)
    assert all("licence" in outcome.problem for outcome in read_validation(validation))
    assert compare_outcomes(outcomes, rebuild(validation, outcomes)) == ()
    monkeypatch.setenv("STAND_IN_MODE", "ok")
    outcomes = run_validation(validation, require_hls_tool(), HlsSteps(), say=quiet)
    assert [outcome.problem for outcome in outcomes] == [None] * 3
    assert count(figures) == 6


def test_a_package_runs_without_python_and_comes_back(validation, stand_ins, figures):
    add_launcher(validation, HlsSteps(vsynth=True), 60)
    launcher = validation.folder / "run_all.sh"
    absent = subprocess.run([launcher], capture_output=True, text=True)
    assert absent.returncode == 127 and "neither vitis-run nor vitis_hls is on PATH" in absent.stderr
    stand_ins.install("vitis_hls")
    stand_ins.install("vivado")
    away = validation.folder.with_name("elsewhere")
    shutil.move(validation.folder, away)
    result = subprocess.run([away / "run_all.sh"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert count(figures) == 3
    again = subprocess.run([away / "run_all.sh"], capture_output=True, text=True)
    assert again.stdout.splitlines() == [f"{name}: finished already" for name in NAMES]
    assert count(figures) == 3
    back = read_validation_folder(away)
    outcomes = read_validation(back)
    assert [set(outcome.reports) for outcome in outcomes] == [{CostStage.CSYNTH, CostStage.VSYNTH}] * 3
    assert [outcome.reports[CostStage.CSYNTH].ff for outcome in outcomes] == [500, 900, 1200]
    stages = [entry.stage for entry in compare_outcomes(outcomes, rebuild(back, outcomes))]
    assert stages == [CostStage.CSYNTH] * 3 + [CostStage.VSYNTH] * 3


def test_a_package_says_which_design_failed_and_goes_on(validation, stand_ins, figures, monkeypatch):
    add_launcher(validation, HlsSteps(), 60)
    stand_ins.install("vitis-run")
    monkeypatch.setenv("STAND_IN_MODE", "killed")
    result = subprocess.run([validation.folder / "run_all.sh"], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout.count("FAILED") == 3 and count(figures) == 3
    assert all(outcome.problem for outcome in read_validation(validation))


def test_a_package_for_vivado_hls_passes_its_options_on_the_command_line(stand_ins, tmp_path, some_designs, figures):
    validation = write_validation_folder(tmp_path / "vivado", "Vivado", PART, 4.0, designs=some_designs[:1], say=quiet)
    add_launcher(validation, HlsSteps(), 60)
    stand_ins.install("vivado_hls")
    result = subprocess.run([validation.folder / "run_all.sh"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert read_validation(validation)[0].reports[CostStage.CSYNTH].lut == 7000
    stand_ins.install("vitis-run")
    with pytest.raises(ToolError, match="holds projects for Vivado; vitis-run builds Vitis"):
        run_validation(validation, require_hls_tool(backend="Vitis"), HlsSteps(), say=quiet)


def test_changed_sources_are_refused(validation):
    firmware = validation.project("dense_4b_50") / "firmware" / "network.cpp"
    firmware.write_text(firmware.read_text() + "// changed\n")
    with pytest.raises(ReportFormatError, match=r"sources in .*dense_4b_50.* are not those that were written"):
        read_validation(validation)


def test_folders_that_are_none_or_damaged(tmp_path, validation):
    with pytest.raises(ReportFormatError, match="no validation folder"):
        read_validation_folder(tmp_path)
    manifest = validation.folder / "validation.json"
    text = manifest.read_text()
    for broken in (text[: len(text) // 2], text.replace('"format": 1', '"format": 9'), "[]", '{"format": 1}'):
        manifest.write_text(broken)
        with pytest.raises(ReportFormatError):
            read_validation_folder(validation.folder)
    manifest.write_text(text)
    shutil.rmtree(validation.project("dense_4b_50"))
    with pytest.raises(ReportFormatError, match="is missing"):
        read_validation(validation)


def test_the_reports_reach_the_store_under_the_key_of_the_csynth_backend(
    validation, stand_ins, figures, tmp_path, monkeypatch
):
    from trigger_prune.synthesis.hls.cost import CsynthCost
    from trigger_prune.synthesis.store.cost import StoredCost
    from trigger_prune.synthesis.store.history import history

    stand_ins.install("vitis-run")
    outcomes = run_validation(validation, require_hls_tool(), HlsSteps(), say=quiet)
    store = ReportStore(tmp_path / "store")
    built = rebuild(validation, outcomes)
    for outcome in outcomes:
        assert keep_reports(store, built[outcome.entry.name], outcome.reports) is not None
    kept = list(history(store))
    assert sorted(measurement.reports[CostStage.CSYNTH].lut for measurement in kept) == [3000, 4000, 7000]
    assert sorted(measurement.network is None for measurement in kept) == [False, False, True]
    # Every one of them refines the estimates, the one with a softmax by the counts over its layers.
    learned = [pair for measurement in kept for pair in observations(measurement, HlsAnalyticCost())]
    assert sorted(pair.measured.lut for pair in learned) == [3000, 4000, 7000]
    (of_softmax,) = (pair for pair in learned if pair.measured.lut == 4000)
    version = of_softmax.measured.tool_version
    design = built["dense_10b_80_softmax"].hls
    expected = HlsAnalyticCost().estimate_design(replace(design, setting=replace(design.setting, version=version)))
    names = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
    assert [getattr(of_softmax.expected, n) for n in names] == [getattr(expected, n) for n in names]
    assert any(layer.kind == "softmax" for layer in design.layers) and expected.dsp > 0
    # The backend finds its network there and does not run the tool again.
    runs = count(figures)
    design = built["dense_4b_50"]
    report = StoredCost(CsynthCost(), store).measure(design.network, design.target)
    assert report.lut == 7000 and count(figures) == runs
    # The network with a softmax behind it is not the network.
    softmax = built["dense_10b_80_softmax"]
    monkeypatch.setenv("STAND_IN_FIGURES", "")
    assert StoredCost(CsynthCost(), store).measure(softmax.network, softmax.target).lut == 12345
    assert count(figures) == runs + 1
