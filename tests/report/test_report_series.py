"""The numbers behind the plots, and numbers as texts."""

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.report import numbers
from trigger_prune.report.series import (
    poorly_known_below,
    rank_inputs,
    roc_series,
    sensitivity_series,
    training_series,
    trial_quantity,
    trial_series,
)
from trigger_prune.report.svg import power_of_ten
from trigger_prune.target import Budget


@pytest.fixture(scope="module")
def jets(make_inputs):
    return make_inputs(3000)


def test_roc_points_are_operating_points_of_the_test_part(jets):
    curves = roc_series(jets)
    assert [(curve.class_name, curve.network) for curve in curves[:2]] == [("q", "float"), ("q", "deployed")]
    logits, truth = jets.deployed_network.logits, jets.test_labels == 0
    score = logits[:, 0] - logits[:, 1:].max(axis=1)
    curve = curves[1].curve
    for index in (0, len(curve.threshold) // 2, -1):
        passing = score >= curve.threshold[index]
        assert curve.signal_efficiency[index] == pytest.approx(passing[truth].mean())
        assert curve.background_efficiency[index] == pytest.approx(passing[~truth].mean())


def test_shading_reaches_up_to_a_hundred_background_events(jets):
    # 100 of the about 2400 background events of each class, found to within one drawn point
    background = min((jets.test_labels != c).sum() for c in range(5))
    assert 0.6 * 100 / background < poorly_known_below(roc_series(jets)) <= 100 / background


def test_trials_keep_order_phase_and_choice(jets):
    series = trial_series(jets.trials)
    assert series.cost[0] == 61_912
    assert series.phases == ("dense", *["ramp"] * 5, "final")
    assert series.chosen == 6
    assert (series.cost[6], series.quality[6], series.quality_name) == (5_912, 0.6692, "validation accuracy")
    assert series.meets_budget[-1] is True


def test_trials_without_accuracy_show_the_loss(jets):
    trials = tuple(replace(trial, validation_accuracy=None, chosen=False) for trial in jets.trials)
    series = trial_series(trials)
    assert series.quality == tuple(trial.validation_loss for trial in trials)
    assert (series.quality_name, series.chosen) == ("validation loss", None)


def test_trials_are_drawn_over_what_they_state(jets, on_processor):
    processor = on_processor(jets)
    assert trial_quantity(jets.trials, jets.budget) == "lut"
    assert trial_quantity(processor.trials, processor.budget) == "event_time_us"
    assert trial_quantity(processor.trials, Budget(latency_p99_us=3.0)) == "latency_p99_us"
    assert trial_quantity(processor.trials, Budget()) == "event_time_us"
    assert trial_quantity((jets.trials[0], processor.trials[1]), Budget()) is None
    series = trial_series(processor.trials, "event_time_us")
    assert series.cost == pytest.approx([0.84 - 0.06 * number for number in range(len(processor.trials))])


def test_run_times_as_text():
    values = (None, 0.0421, 0.4249, 0.99951, 4.249, 9.9949, 9.996, 42.46, 99.96, 1234.5)
    texts = (numbers.MISSING, "0.042", "0.425", "1.00", "4.25", "9.99", "10.0", "42.5", "100", "1\u202f234")
    assert tuple(numbers.time_us(value) for value in values) == texts
    assert numbers.bounds((999.6, 12_345.0)) == "1\u202f000 … 12\u202f345" and numbers.bounds(None) == ""


def test_sensitivity_curves_start_at_the_baseline_and_are_sorted(jets):
    shuffled = replace(jets.scan, layers=jets.scan.layers[::-1])
    first, *_ = sensitivity_series(shuffled)
    assert first.name == "output"
    assert first.sparsity == (0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95)
    assert first.quality[0] == first.low[0] == jets.scan.baseline_accuracy
    points = {point.sparsity: point for point in jets.scan.layers if point.layer == "output"}
    assert first.quality[3] == points[0.7].accuracy
    assert first.high[3] == points[0.7].accuracy_high


def test_several_criteria_are_told_apart(jets):
    other = tuple(replace(point, criterion="magnitude_l2") for point in jets.scan.layers)
    names = [curve.name for curve in sensitivity_series(replace(jets.scan, layers=jets.scan.layers + other))]
    assert len(names) == len(set(names)) == 8
    assert "fc1 (magnitude_l2)" in names


def test_sensitivity_of_a_task_without_classes_is_the_loss(make_inputs):
    scan = make_inputs(100, task="autoencoder").scan
    curve = sensitivity_series(scan)[0]
    assert curve.low is None
    assert curve.quality == (scan.baseline_loss, *(point.loss for point in scan.layers if point.layer == "fc1"))


def test_training_rounds_are_counted_through(jets):
    series = training_series("prune", jets.histories["prune"])
    assert len(series.train_loss) == 120
    assert series.restarts == (20, 40, 60, 80, 100)
    assert series.validation_loss[series.best] == min(series.validation_loss)
    assert series.sparsity[-1] > 0.9
    assert training_series("float", jets.histories["float"]).sparsity is None


def test_inputs_are_ranked_with_redundant_ones_first(jets):
    ranked = rank_inputs(jets.scan)
    assert ranked[0].name == "d2_b1"
    assert ranked[0].same_as == "d2_a1_b1"
    drops = [finding.accuracy_drop for finding in ranked[1:]]
    assert drops == sorted(drops, reverse=True)
    assert len(ranked) == 16


def test_digits_follow_the_error():
    raw = {"value": 0.67614, "low68": 0.67392, "high68": 0.67836, "low95": 0.6717, "high95": 0.6805}
    assert numbers.estimate_parts(raw, 100) == {"value": "67.61", "band68": "± 0.22", "range95": "67.17 … 68.05"}
    lopsided = raw | {"value": 0.95, "low68": 0.90, "high68": 0.97}
    assert numbers.estimate_parts(lopsided, 100)["band68"] == "+2.0 −5.0"  # noqa: RUF001
    certain = raw | {"value": 1.0, "low68": 1.0, "high68": 1.0, "low95": 1.0, "high95": 1.0}
    assert numbers.estimate_parts(certain)["value"] == "1.000"


def test_texts():
    assert numbers.count(1_728_000) == "1\u202f728\u202f000"
    assert (numbers.ratio(8.126), numbers.ratio(1.234), numbers.ratio(153.2)) == ("8.1", "1.23", "153")
    assert numbers.duration(4.25) == "4.2\u202fs"
    assert numbers.duration(59.99) == "60.0\u202fs"
    assert numbers.duration(3723) == "1\u202fh 2\u202fmin 3\u202fs"
    assert numbers.with_error(-0.00931, 0.0012, 100) == "−0.93 ± 0.12"  # noqa: RUF001
    assert numbers.signed(-0.001, 2) == "0.00"
    for text in (numbers.count, numbers.ratio, numbers.percent, numbers.decimal, numbers.duration, numbers.time_ns):
        assert text(None) == numbers.MISSING


def test_shortened_names_keep_both_ends():
    names = [f"a_feature_with_a_rather_long_name_{i}" for i in range(30)]
    short = [numbers.shorten(name) for name in names]
    assert {len(name) for name in short} == {24}
    assert len(set(short)) == 30
    assert numbers.shorten("mass") == "mass"


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.1, "10⁻¹"), (1e-5, "10⁻⁵"), (1000.0, "10³"), (np.float64(0.01), "10⁻²")]
)
def test_powers_of_ten(value, text):
    assert power_of_ten(value) == text
