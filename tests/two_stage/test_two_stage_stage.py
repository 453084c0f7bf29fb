"""``trigger-prune two-stage`` on a small project of its own: table, files, resuming, errors, firmware."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from trigger_prune.cli.two_stage import COMMANDS
from trigger_prune.config.load import load_project
from trigger_prune.errors import ConfigError
from trigger_prune.physics.filling import named_filling
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages.two_stage import TWO_STAGE_STAGES
from trigger_prune.pipeline.stages.two_stage_lights import read_lights
from trigger_prune.pipeline.stages.two_stage_setup import (
    check_signal,
    check_two_stage,
    clock_multiples,
    resource_limits,
)
from trigger_prune.two_stage.figures import findings_from_dict
from trigger_prune.verify.representations import torch_outputs

PROJECT = """
project: small trigger
task: binary
seed: 3
data: {path: events.npz, weight_unit: minimum_bias}
physics: {rate_khz: 1500, rates_khz: [1500], signal: [signal]}
input: {width_bits: 8, integer_bits: 4}
model: {name: mlp, args: {hidden: [12, 8], batch_norm: false}}
train: {epochs: 6, batch_size: 256, learning_rate: 0.01}
quantize: {epochs: 2}
baseline: {epochs: 3}
sensitivity: {sparsities: [0.5]}
prune: {scope: global, epochs_per_round: 2, final_epochs: 2}
budget: {lut: 100000}
cost: {backend: analytic}
target: {clock_period_ns: 5.0}
two_stage:
  lights:
    - {kind: tiny, hidden: [3], epochs: 3}
    - {kind: inputs, inputs: 2, hidden: [3], epochs: 3}
  escalated: [0.1, 0.3]
  fifo_depths: [0, 1, 2]
  max_loss: 0.2
  resource: lut
  signal: signal
"""


def write_project(folder: Path, text: str = PROJECT) -> Path:
    generator = np.random.default_rng(11)
    labels = (generator.random(6000) < 0.3).astype(np.int64)
    x = generator.normal(size=(6000, 6)).astype(np.float32)
    x[:, 0] += 1.5 * labels
    x[:, 1] += 1.5 * labels * (x[:, 2] > 0)
    folder.mkdir()
    np.savez(
        folder / "events.npz",
        x=x,
        y=np.array(["background", "signal"])[labels],
        weight=np.where(labels == 0, generator.uniform(0.5, 1.5, 6000), 1.0),
    )
    (folder / "project.yaml").write_text(text)
    return folder


def call(*arguments: Any) -> Result:
    app = typer.Typer()

    @app.callback()
    def top() -> None:
        """One command would be the whole program otherwise."""

    for name, command, _ in COMMANDS:
        app.command(name)(command)
    return CliRunner().invoke(app, ["two-stage", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    project = write_project(tmp_path_factory.mktemp("two_stage") / "project")
    return project, call(project)


@pytest.mark.slow
def test_the_table_the_advice_and_the_files(finished: tuple[Path, Result]) -> None:
    """What is printed is what is stored; the rows are those that were asked for."""
    project, result = finished
    assert result.exit_code == 0, result.output
    folder = project / "build" / "two_stage"
    found = findings_from_dict(json.loads((folder / "two_stage.json").read_text()))
    assert [row.kind for row in found.rows[:4]] == ["full", "pruned", "light", "light"]
    assert found.target_hz == 1.5e6 and found.rate_weights and found.signal_name == "signal"
    assert found.beam == "72b" and found.filled == tuple(named_filling("72b").filled.tolist())
    with (folder / "comparison.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [row.name for row in found.rows]
    assert float(rows[0]["efficiency"]) == found.rows[0].efficiency.value
    with (folder / "designs.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(found.designs) > 0
    words = result.output.replace("\n", " ").split()
    for sentence in found.recommendation.sentences:
        assert " ".join(sentence.split()) in " ".join(words)
    assert f"{found.rows[0].cost.lut}" in result.output and str(folder) in result.output
    assert found.rows[0].name in (folder / "two_stage.html").read_text()


@pytest.mark.slow
def test_rates_and_efficiencies_are_those_of_the_scores(finished: tuple[Path, Result]) -> None:
    """The line of the first light model, counted from the stored network."""
    project, _ = finished
    folder = project / "build" / "two_stage"
    found = findings_from_dict(json.loads((folder / "two_stage.json").read_text()))
    events = run_pipeline(load_project(project), TWO_STAGE_STAGES, project / "build", until="load").result("load")
    light = read_lights(sorted((folder / "models").iterdir()))[0]
    scores = [
        torch_outputs(light.network, part.features[:, list(light.kept_inputs)], double=True).ravel()
        for part in (events.validation, events.test)
    ]
    weights, labels = events.validation.weights, events.validation.labels
    values = np.unique(scores[0][labels == 0])
    rates = np.array([weights[(labels == 0) & (scores[0] >= value)].sum() for value in values])
    threshold = values[rates <= 1.5e6].min()
    passes = scores[1] >= threshold
    row = next(row for row in found.rows if row.name == light.name)
    test = events.test
    assert row.rate.rate_hz == pytest.approx(test.weights[passes & (test.labels == 0)].sum())
    assert row.efficiency.value == pytest.approx(
        test.weights[passes & (test.labels == 1)].sum() / test.weights[test.labels == 1].sum()
    )
    assert test.weights[test.labels == 0].sum() == pytest.approx(named_filling("72b").crossings_hz)


@pytest.mark.slow
def test_a_finished_study_is_loaded_and_a_changed_one_trains_nothing(finished: tuple[Path, Result]) -> None:
    """Other depths re-run the search alone; quiet says the page and nothing else."""
    project, _ = finished
    again = call(project)
    assert "two_stage: loaded" in again.output and "lights: loaded" in again.output
    other = call(project, "--fifo-depth", "0,3", "--escalated", "0.2", "--latency-ns", "500")
    assert "lights: loaded" in other.output and "two_stage: loaded" not in other.output
    found = findings_from_dict(json.loads((project / "build" / "two_stage" / "two_stage.json").read_text()))
    assert {design.engine.fifo_depth for design in found.designs} == {0, 3}
    assert {design.escalated_wanted for design in found.designs} == {0.2} and found.latency_budget_ns == 500
    quiet = call(project, "--quiet")
    assert quiet.output.strip() == f"Two stages: {project / 'build' / 'two_stage' / 'two_stage.html'}"


@pytest.mark.slow
def test_a_list_of_latency_budgets(finished: tuple[Path, Result]) -> None:
    """The page is of the largest; the others are lines of a table, as the command alone finds them."""
    project, _ = finished
    out, folder = project / "budgets", project / "budgets" / "two_stage"
    alone = {}
    for text in ("150", "1000", "1000,150"):
        result = call(project, "--latency-ns", text, "--out", out)
        assert result.exit_code == 0, result.output
        alone[text] = findings_from_dict(json.loads((folder / "two_stage.json").read_text()))
    several = alone["1000,150"]
    assert several.latency_budget_ns == 1000 and alone["150"].budgets == alone["1000"].budgets == ()
    for budget, one in zip(several.budgets, (alone["150"], alone["1000"]), strict=True):
        assert budget.latency_budget_ns == one.latency_budget_ns
        assert budget.recommendation == one.recommendation
        assert budget.design == (None if one.best is None else one.best.point)
        assert budget.row is None or budget.row == one.rows[-1]
    assert several.recommendation == alone["1000"].recommendation
    said = " ".join(result.output.split())
    assert "Latency budgets" in said and "Recommendation at 150 ns" in said and "Recommendation at 1000 ns" in said
    with (folder / "budgets.csv").open() as stream:
        assert [float(line["latency_budget_ns"]) for line in csv.DictReader(stream)] == [150, 1000]
    assert "Every budget as if it were the only one" in (folder / "two_stage.html").read_text()


@pytest.mark.slow
def test_a_report_of_the_full_model_is_used(finished: tuple[Path, Result]) -> None:
    """The recorded report of one reuse factor; a changed one is read again, one of another part is refused."""
    project, _ = finished
    recorded = (Path(__file__).parents[1] / "synthesis" / "csynth_reports" / "vitis_2022.xml").read_text()
    report = project / "reports" / "rf4.xml"
    report.parent.mkdir()
    report.write_text(recorded)
    out = project / "measured"
    arguments = ("--set", "two_stage.full_reports={4: reports/rf4.xml}", "--reuse-factor", "2,4,8", "--out", out)

    def singles() -> dict[int, tuple[str, str]]:
        result = call(project, *arguments)
        assert result.exit_code == 0, result.output
        assert "is measured by Vitis HLS 2022.2" in " ".join(result.output.split())
        with (out / "two_stage" / "single_stages.csv").open() as stream:
            return {int(line["reuse_factor"]): (line["full_stage"], line["lut"]) for line in csv.DictReader(stream)}

    found = singles()
    assert found[4] == ("csynth", "12345") and {stage for stage, _ in found.values()} == {"analytic", "csynth"}
    report.write_text(recorded.replace("12345", "54321"))
    assert singles()[4] == ("csynth", "54321")
    report.write_text(recorded.replace("xcvu13p-flga2577-2-e", "xcku115-flvb2104-2-e"))
    refused = call(project, *arguments)
    assert refused.exit_code == 2 and "rf4.xml is for the part xcku115" in " ".join(refused.output.split())


@pytest.mark.slow
def test_the_lights_of_one_kind(finished: tuple[Path, Result]) -> None:
    """--light keeps the configured ones of that kind with their keys."""
    project, _ = finished
    result = call(project, "--light", "inputs", "--out", project / "other", "--reuse-factor", "4,8", "--firmware")
    assert result.exit_code == 0, result.output
    found = findings_from_dict(json.loads((project / "other" / "two_stage" / "two_stage.json").read_text()))
    assert [row.name for row in found.rows if row.kind == "light"] == ["inputs2-3"]
    assert {design.reuse_factor for design in found.designs} <= {1, 2, 3, 4, 6, 8}
    firmware = project / "other" / "two_stage" / "firmware" / "hls"
    assert firmware.is_dir() == (found.best is not None)
    if found.best is not None:
        text = "".join(path.read_text() for path in firmware.glob("two_stage_config.h"))
        assert str(found.best.integer_thresholds["t_reject"]) in text


@pytest.mark.slow
def test_unrolled_engines_are_refused_with_the_reason(finished: tuple[Path, Result]) -> None:
    """The table is there, the search is not."""
    project, _ = finished
    result = call(project, "--set", "two_stage.strategy=distributed_arithmetic", "--out", project / "build")
    assert result.exit_code == 0, result.output
    assert "fully unrolled" in " ".join(result.output.split())
    found = findings_from_dict(json.loads((project / "build" / "two_stage" / "two_stage.json").read_text()))
    assert found.designs == () and found.best is None and found.recommendation.verdict != "two_stage"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task=autoencoder", "task: two stages do not go with autoencoder"),
        ("two_stage.full=nowhere", "two_stage.full"),
        ("luminosity.filling=2736", "which slots are filled"),
        ("target.clock_period_ns=4.4", "target.clock_period_ns"),
        ("cost.backend=runtime", "cost.backend"),
        ("two_stage.signal=sginal", "did you mean 'signal'"),
        ("physics.signal=[background, signal]", "physics.signal"),
        ("two_stage.multiplicity=[1.0]", "two_stage.multiplicity"),
        ("two_stage.full_reports={8: nowhere}", "two_stage.full_reports: there is no"),
        ("two_stage.full_reports={0: .}", "two_stage.full_reports"),
        ("two_stage.smaller_budgets_ns=[1000]", "1000 is not below latency_budget_ns 1000"),
    ],
)
def test_what_makes_no_sense_is_refused_before_training(tmp_path: Path, setting: str, message: str) -> None:
    """With the key, exit code 2, and without a single epoch."""
    project = write_project(tmp_path / "project")
    result = call(project, "--set", setting)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not list((project / "build").glob("artefacts/train-*"))


def test_no_signal_class_is_told(tmp_path: Path) -> None:
    """Five classes and no word of which is signal."""
    project = write_project(
        tmp_path / "project", PROJECT.replace(", signal: [signal]", "").replace("signal: signal", "")
    )
    with np.load(project / "events.npz") as arrays:
        classes = np.array(["a", "b", "c"])[np.arange(6000) % 3]
        np.savez(project / "events.npz", x=arrays["x"], y=classes)
    result = call(project, "--set", "task=classify", "--set", "data.weight_unit=relative")
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "physics.signal: no class is signal" in said and "a, b, c" in said


def test_options_are_numbers(tmp_path: Path) -> None:
    """The option is named."""
    project = write_project(tmp_path / "project")
    result = call(project, "--fifo-depth", "1;2")
    assert result.exit_code == 2 and "--fifo-depth 1;2: not numbers" in result.output
    (project / "rf8.xml").write_text("<profile>")
    result = call(project, "--set", "two_stage.full_reports={8: rf8.xml}", "--set", "cost.backend=vsynth")
    assert result.exit_code == 2 and "cannot be compared with cost.backend vsynth" in " ".join(result.output.split())


def test_clocks_and_limits(tmp_path: Path) -> None:
    """200 MHz are 5 cycles; LUTs of adder trees limit no HLS design, but the part does."""
    project = write_project(tmp_path / "project")
    config = load_project(project).config
    check_two_stage(config, project)
    assert clock_multiples(config) == (5,)
    assert clock_multiples(load_project(project, ["two_stage.clock_multiples=[9,8,9]"]).config) == (9, 8)
    budget, remarks = resource_limits(config)
    assert budget.lut == 1_728_000 and budget.dsp == 12_288 and budget.uram is None
    assert "budget.lut" in remarks[0] and "not applied" in remarks[0]
    budget, remarks = resource_limits(load_project(project, ["cost.backend=analytic_hls"]).config)
    assert budget.lut == 100_000 and budget.dsp == 12_288 and remarks == ()
    other = load_project(project, ["two_stage.signal=background"]).config
    events = run_pipeline(load_project(project), TWO_STAGE_STAGES, tmp_path / "out", until="load").result("load")
    with pytest.raises(ConfigError, match="no signal class"):
        check_signal(other, events.train, other.two_stage.signal)


@pytest.mark.slow
def test_a_network_from_a_folder_is_the_full_model(finished: tuple[Path, Result]) -> None:
    """What was stored as a light model serves as the full one: same scores, so the same line; its inputs are kept."""
    project, _ = finished
    tiny, inputs = sorted((project / "build" / "two_stage" / "models").iterdir())
    before = findings_from_dict(json.loads((project / "build" / "two_stage" / "two_stage.json").read_text()))
    out = project / "entered"
    result = call(project, "--full", tiny, "--light", "tiny", "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    found = findings_from_dict(json.loads((out / "two_stage" / "two_stage.json").read_text()))
    light = next(row for row in before.rows if row.kind == "light")
    assert found.rows[0].name == tiny.name and found.rows[0].efficiency == light.efficiency
    transform = inputs / "input_transform.json"
    text = transform.read_text()
    transform.unlink()
    refused = call(project, "--full", inputs, "--light", "tiny", "--out", out)
    transform.write_text(text)
    assert refused.exit_code == 2 and "input_transform.json beside it" in " ".join(refused.output.split())
