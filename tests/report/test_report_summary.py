"""Every key of summary.json is documented and every documented key is there; the numbers are counted again."""

import json
from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import CostStage
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import StageMismatchError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.report.files import write_text
from trigger_prune.report.inputs import summarise_layers, summarise_sample
from trigger_prune.report.summary import SUMMARY_KEYS, build_summary, write_summary
from trigger_prune.target import Budget

REQUIRED = """project seed versions float.accuracy float.auc dense.bits dense.accuracy dense.lut deployed.accuracy
deployed.auc deployed.lut deployed.ff deployed.dsp deployed.latency_cycles deployed.ii deployed.cost_stage
deployed.nonzeros deployed.inputs_used verify.events verify.mismatches budget timings_s"""


def leaves(tree, path=""):
    """Dotted keys; an object below a documented key is that key's value."""
    for key, value in tree.items():
        dotted = f"{path}{key}"
        if dotted in SUMMARY_KEYS or not isinstance(value, dict):
            yield dotted
        else:
            yield from leaves(value, f"{dotted}.")


@pytest.fixture
def jets(make_inputs):
    return make_inputs(3000)


@pytest.mark.parametrize("task", ["classify", "autoencoder"])
def test_documented_keys_are_the_keys(make_inputs, task):
    inputs = make_inputs(500, task=task)
    for variant in (inputs, replace(inputs, csynth=inputs.deployed_cost, analytic_dense=None, scan=None, trials=())):
        assert sorted(leaves(build_summary(variant))) == sorted(SUMMARY_KEYS)


def test_the_promised_keys_are_documented():
    assert set(REQUIRED.split()) <= set(SUMMARY_KEYS)


def test_performance_is_counted_from_the_logits(jets):
    summary = build_summary(jets)
    right = {name: network.logits.argmax(axis=1) == jets.test_labels for name, network in jets.networks.items()}
    for name, hits in right.items():
        assert summary[name]["accuracy"] == pytest.approx(hits.mean())
        assert summary[name]["auc"] == pytest.approx(np.mean(list(summary[name]["auc_per_class"].values())))
        assert summary["intervals"][name]["accuracy"]["value"] == summary[name]["accuracy"]
    gain = right["float"].astype(int) - right["deployed"]
    assert summary["accuracy_drop"]["value"] == pytest.approx(gain.mean())
    pairs = gain.reshape(-1, 2).sum(axis=1) - 2 * gain.mean()
    assert summary["accuracy_drop"]["error"] == pytest.approx(np.sqrt(np.square(pairs).sum()) / len(gain))


def test_signal_efficiency_is_that_of_the_tightest_percent_of_background(jets):
    summary = build_summary(jets)
    logits, c = jets.deployed_network.logits, 4
    score = logits[:, c] - np.delete(logits, c, axis=1).max(axis=1)
    signal, background = score[jets.test_labels == c], score[jets.test_labels != c]
    # 16 steps per unit: between the two thresholds whose background efficiencies enclose 1 %
    steps = np.unique(score)
    loose = [t for t in steps if (background >= t).mean() >= 0.01][-1]
    tight = next(t for t in steps if (background >= t).mean() <= 0.01)
    found = summary["deployed"]["signal_efficiency_bkg_1pct"]["t"]
    assert (signal >= tight).mean() <= found <= (signal >= loose).mean()


def test_cost_and_weights(jets):
    summary = build_summary(jets)
    assert summary["lut_ratio"] == 61_912 / 5_912
    assert (summary["deployed"]["nonzeros"], summary["deployed"]["weights"]) == (51 + 122 + 92 + 48, 4256)
    assert summary["deployed"]["layer_sparsity"]["output"] == pytest.approx(1 - 48 / 160)
    assert summary["deployed"]["cost_stage"] == "rtl_synth"
    assert (summary["deployed"]["latency_ns"], summary["deployed"]["bram18"]) == (30.0, 0)
    assert summary["deployed"]["inputs_dropped"].keys() == {"d2_b1"}
    assert "d2_b1" not in summary["deployed"]["inputs_used"]
    assert summary["timings_s"]["total"] == pytest.approx(sum(jets.timings_s.values()))


def test_budget(jets):
    met = build_summary(jets)
    assert met["budget_met"] is True
    assert met["budget_use"] == {"lut": 5912 / 8000, "dsp": 0.0, "latency_cycles": 0.6}
    missed = build_summary(replace(jets, budget=Budget(lut=5_000)))
    assert missed["budget_met"] is False
    assert missed["budget"]["lut"] == 5_000
    assert missed["budget"]["ff"] is None


def test_run_times_have_keys_of_their_own(jets, on_processor):
    summary = build_summary(on_processor(jets))
    assert (summary["lut_ratio"], summary["event_time_ratio"]) == (None, pytest.approx(2.0))
    assert summary["deployed"]["event_time_us"] == pytest.approx(0.42)
    assert (summary["deployed"]["lut"], summary["deployed"]["latency_p99_us"]) == (None, 8.25)
    assert summary["deployed"]["runtime"]["batch_sizes"] == [1, 16, 256]
    assert summary["budget_use"] == {"latency_p99_us": pytest.approx(8.25 / 9), "event_time_us": pytest.approx(1.05)}
    assert summary["budget_met"] is False and summary["hls_estimate_note"] == "the target is a processor"
    mixed = replace(on_processor(jets), dense_cost=jets.dense_cost)
    with pytest.raises(StageMismatchError):
        build_summary(mixed)


def test_an_estimate_carries_its_interval(jets):
    estimate = replace(jets.analytic_deployed, predicts=CostStage.CSYNTH, interval_90={"lut": (5.5, 8.0)})
    summary = build_summary(replace(jets, hls_dense=estimate, hls_deployed=estimate))
    assert summary["hls_estimate"]["deployed"]["interval_90"] == {"lut": [5.5, 8.0]}
    assert summary["deployed"]["interval_90"] == {} and summary["deployed"]["timing_met"] is None


def test_failed_verification(jets, make_broken_verdict):
    verify = build_summary(replace(jets, verdict=make_broken_verdict(3000)))["verify"]
    assert verify["mismatches"] == {"onnxruntime": 0, "hls4ml": 12, "alkaid": None}
    assert verify["ok"] is False


def test_a_task_without_classes_has_nulls(make_inputs):
    summary = build_summary(make_inputs(300, task="autoencoder"))
    assert summary["float"]["loss"] == 0.1312
    for key in ("accuracy", "auc", "auc_per_class", "signal_efficiency_bkg_1pct"):
        assert summary["deployed"][key] is None
    assert summary["accuracy_drop"] == {"value": None, "error": None}


def test_costs_of_different_stages_are_refused(jets):
    other = replace(jets.deployed_cost, stage=CostStage.ANALYTIC)
    with pytest.raises(StageMismatchError):
        build_summary(replace(jets, deployed_cost=other))


def test_file_is_sorted_standard_json_without_numpy_or_infinity(jets, tmp_path):
    nothing_left = replace(jets.deployed_cost, lut=0, dsp=3)
    odd = replace(jets, deployed_cost=nothing_left, seed=np.int64(3), timings_s={"data": np.float32(1.5)})
    summary = build_summary(odd)
    path = tmp_path / "new" / "summary.json"
    write_summary(summary, path)
    text = path.read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read == summary
    assert read["lut_ratio"] is None
    assert read["budget_use"]["dsp"] is None
    assert read["budget_met"] is False
    assert list(read) == sorted(read)
    assert [entry.name for entry in path.parent.iterdir()] == ["summary.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.html"
    write_text("old", path)
    with pytest.raises(UnicodeEncodeError):
        write_text("new \ud800", path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_summaries_of_sample_and_network():
    def part(labels):
        n = len(labels)
        return EventSample(
            np.zeros((n, 2), np.float32),
            np.array(labels),
            np.ones(n),
            np.arange(n),
            ("pt", "eta"),
            ("bkg", "sig"),
            "toy.npz",
        )

    sample = summarise_sample({"train": part([0, 1, 1]), "test": part([1, 0])})
    assert sample.part_events == {"train": 3, "test": 2}
    assert (sample.class_events, sample.event_shape, sample.source) == ((2, 3), (2,), "toy.npz")

    six_bit = FixedPoint(6, 1)
    codes = np.array([[1, 0, 0], [0, -3, 2]])
    layer = WeightLayer("fc", "dense", codes, six_bit, np.zeros(2, np.int64), six_bit, six_bit, None, False, 1)
    (summary,) = summarise_layers(NetworkSpec((layer,), six_bit, (3,), 2))
    assert (summary.name, summary.weights, summary.nonzeros) == ("fc", 6, 3)
    assert summary.weight_type == str(six_bit)
