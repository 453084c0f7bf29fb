"""The stage on small projects: figures, the published thresholds, and what is left out without a signal."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from trigger_prune.config.load import load_project
from trigger_prune.errors import ConfigError
from trigger_prune.pipeline.runner import RunResult, run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.report.trigger_page import trigger_page

PROJECT = """
project: small trigger
seed: 3
task: {task}
data: {{path: events.npz, observables: [mass]{more}}}
input: {{width_bits: 8, integer_bits: 4}}
model: {{name: mlp, args: {{hidden: [6]}}}}
train: {{epochs: 4, batch_size: 256, learning_rate: 0.01, weight_power: 0.5}}
quantize: {{epochs: 2}}
baseline: {{epochs: 2}}
sensitivity: {{sparsities: [0.5], max_events: 500}}
prune: {{first_sparsity: 0.4, epochs_per_round: 2, final_epochs: 2, max_rounds: 4}}
budget: {{lut: 20000}}
cost: {{backend: analytic}}
"""


def write_project(folder: Path, task: str, more: str = "", classes: tuple[str, ...] = ("bkg", "sig")) -> Path:
    rng = np.random.default_rng(11)
    n = 6000
    labels = rng.integers(0, len(classes), n)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    x[:, 0] += 2.0 * labels
    x[:, 1] -= 1.5 * labels
    x[:, 2] = 3.25
    weights = np.where(labels == 0, np.exp(-2.5 * x[:, 0]), 1.0)
    mass = 100 + 20 * x[:, 0].astype(np.float64) + rng.normal(size=n)
    names = np.array(classes)[labels]
    np.savez(folder / "events.npz", x=x, y=names, group=np.arange(n) // 2, weight=weights, mass=mass)
    (folder / "project.yaml").write_text(PROJECT.format(task=task, more=more))
    return folder


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """One logit, weights that are shares of all crossings."""
    folder = write_project(tmp_path_factory.mktemp("rates"), "binary", ", weight_unit: minimum_bias")
    return folder, run_pipeline(load_project(folder), STAGES, folder / "build", until="export")


def published_scores(run: RunResult, part: str) -> np.ndarray:
    """What the exported network gives, without any code of the stage."""
    session = onnxruntime.InferenceSession(str(run.out / "model_lowered.onnx"))
    features = getattr(run.result("load"), part).features[:, list(run.result("prune").kept_inputs)]
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[session.get_inputs()[0].type]
    return session.run(None, {session.get_inputs()[0].name: features.astype(kind)})[0].astype(np.float64)


def test_the_published_thresholds_give_the_published_rates(rates: tuple[Path, RunResult]) -> None:
    """Integers in a comparator behind the exported network: same decisions as floats, same rates, same efficiencies."""
    _, run = rates
    published = json.loads((run.out / "trigger.json").read_text())
    assert published["score"]["kind"] == "head"
    assert 2 not in run.result("prune").kept_inputs, "the deployed network reads fewer features than the others"
    validation, test = (run.result("load").parts[part] for part in ("validation", "test"))
    before, after = (published_scores(run, part)[:, 0] for part in ("validation", "test"))
    codes = after / published["score_step"]
    assert (codes == np.round(codes)).all()
    targets = [point["target_khz"] for point in published["working_points"]]
    assert targets == [1.0, 10.0, 100.0]
    total = test.weights[test.labels == 0].sum() / 1e3
    assert total == pytest.approx(2736 * 11.2455, rel=1e-4)
    for point in published["working_points"]:
        passes = codes.astype(np.int64) >= point["threshold_integer"]
        assert (passes == (after >= point["threshold"])).all()
        for values, sample, part in ((before, validation, "validation"), (after, test, "test")):
            accepted = sample.weights[(values >= point["threshold"]) & (sample.labels == 0)]
            assert point[part]["rate_khz"] == pytest.approx(accepted.sum() / 1e3)
            warned = any(text.startswith(part) for text in point["warnings"])
            assert warned == (point[part]["n_effective"] < 100)
        assert point["validation"]["rate_khz"] <= point["target_khz"] * (1 + 1e-9)
        assert point["efficiency"]["sig"]["value"] == pytest.approx(passes[test.labels == 1].mean())
        assert point["target_background_efficiency"] == pytest.approx(point["target_khz"] / total)


def test_every_network_is_studied_and_the_collisions_are_named(rates: tuple[Path, RunResult]) -> None:
    _, run = rates
    found = run.result("trigger")
    assert list(found.study.networks) == ["float", "dense", "deployed"]
    assert found.luminosity == "72b (2736 colliding bunches)"
    assert found.study.cuts == {}, "an event file has no trigger objects"
    assert {(pair.reference, pair.candidate) for pair in found.study.differences} == {
        ("float", "deployed"),
        ("dense", "deployed"),
    }


def test_an_observable_that_is_missing_is_an_error(rates: tuple[Path, RunResult]) -> None:
    folder, run = rates
    with pytest.raises(ConfigError, match="no observable 'mas'; did you mean 'mass'"):
        run_pipeline(load_project(folder, ["physics.turn_on=[mas]"]), STAGES, run.out, until="trigger")
    changed = run_pipeline(load_project(folder, ["physics.turn_on=[mass]"]), STAGES, run.out, until="trigger")
    assert changed.computed == ("trigger",)
    assert [curve.variable for curve in changed.result("trigger").study.turn_ons["deployed"]] == ["mass"]


def test_two_classes_without_rates_have_background_efficiencies(tmp_path: Path) -> None:
    folder = write_project(tmp_path, "classify")
    run = run_pipeline(load_project(folder), STAGES, folder / "build", until="export")
    published = json.loads((run.out / "trigger.json").read_text())
    assert (published["score"]["kind"], published["score"]["formula"]) == ("difference", "z_sig - z_bkg")
    test = run.result("load").test
    outputs = published_scores(run, "test")
    after = outputs[:, 1] - outputs[:, 0]
    background = test.weights * (test.labels == 0)
    points = published["working_points"]
    assert [point["target_background_efficiency"] for point in points] == pytest.approx([1e-4, 1e-3, 1e-2])
    for point in points:
        assert point["target_khz"] is None and point["test"]["rate_khz"] is None
        if point["threshold"] is None:
            assert point["threshold_integer"] is None and any("nothing passes" in text for text in point["warnings"])
            continue
        passes = after / published["score_step"] >= point["threshold_integer"]
        assert point["test"]["background_efficiency"] == pytest.approx((background * passes).sum() / background.sum())
        assert not any("kHz" in text for text in point["warnings"])


def test_without_a_signal_there_is_nothing_and_an_old_file_goes(tmp_path: Path) -> None:
    folder = write_project(tmp_path, "classify", classes=("q", "g", "t"))
    out = folder / "build"
    out.mkdir()
    (out / "trigger.json").write_text("of another network")
    run = run_pipeline(load_project(folder), STAGES, out, until="trigger")
    assert run.result("trigger").study is None and run.result("trigger").firmware is None
    assert not (out / "trigger.json").exists()


@pytest.mark.slow
def test_summary_and_page_say_what_the_stage_found(rates: tuple[Path, RunResult]) -> None:
    folder, _ = rates
    keys = ["objective=efficiency_at_rate", "verify.qonnx_events=20", "verify.rtl_events=0"]
    run = run_pipeline(load_project(folder, keys), STAGES, folder / "build")
    summary: dict[str, Any] = json.loads((run.out / "summary.json").read_text())
    study = run.result("trigger").study
    published = json.loads((run.out / "trigger.json").read_text())
    trigger = summary["trigger"]
    for stated, point in zip(trigger["networks"]["deployed"], published["working_points"], strict=True):
        assert stated == {key: value for key, value in point.items() if key != "threshold_integer"}
    assert trigger["thresholds_integer"] == [point["threshold_integer"] for point in published["working_points"]]
    # the objective is the efficiency at exactly the rate, counted again from the scores of the exported network
    test = run.result("load").test
    after = published_scores(run, "test")[:, 0]
    values = np.unique(after)[::-1]
    rate = np.array([test.weights[(after >= v) & (test.labels == 0)].sum() for v in values])
    above = int((rate <= 1e5).sum())
    share = (1e5 - rate[above - 1]) / (rate[above] - rate[above - 1])
    signal = [(after >= v)[test.labels == 1].mean() for v in values[above - 1 : above + 1]]
    merit = signal[0] + share * (signal[1] - signal[0])
    assert summary["objective"]["name"] == "efficiency_at_rate"
    assert summary["objective"]["test"]["deployed"] == pytest.approx(merit, abs=1e-9)
    found = {pair["signal"]: pair for pair in trigger["differences"] if pair["reference"] == "float"}
    difference = found["sig"]["difference"]["value"]
    merits = summary["objective"]["test"]
    assert merits["deployed"] - merits["float"] == pytest.approx(difference, abs=1e-9)
    page = (run.out / "report.html").read_text()
    assert page.index('id="trigger"') < page.index('id="input"')
    marks = trigger_page(study, trigger, {"float": "float", "dense": "dense", "deployed": "deployed"}).marks
    assert {key for key, mark in marks.items() if mark} == {
        (name, index)
        for name, points in trigger["networks"].items()
        for index, point in enumerate(points)
        if min(point["validation"]["n_effective"], point["test"]["n_effective"]) < 100 or point["warnings"]
    }


def test_the_loop_says_when_its_objective_rests_on_few_events(tmp_path: Path) -> None:
    folder = write_project(tmp_path, "binary", ", weight_unit: minimum_bias")
    keys = ["objective=efficiency_at_rate", "physics.rate_khz=100"]
    with pytest.warns(UserWarning, match=r"at 100 kHz: \d+ effective background events on validation, below 100"):
        run_pipeline(load_project(folder, keys), STAGES, folder / "few", until="prune")
    # a third of all crossings rests on many
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loose = ["objective=efficiency_at_fpr", "physics.false_positive_rate=0.3", "data.weight_unit=relative"]
        keys = [*loose, "train.weight_power=0", "data.weight=mass"]
        run_pipeline(load_project(folder, keys), STAGES, folder / "many", until="prune")
    assert not [entry for entry in caught if "effective background events" in str(entry.message)]
