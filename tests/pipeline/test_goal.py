from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trigger_prune.config.project import InputConfig, PhysicsConfig, ProjectConfig, SplitConfig, TrainConfig
from trigger_prune.data.class_choice import signal_classes
from trigger_prune.data.load import with_rates
from trigger_prune.data.sample import EventSample
from trigger_prune.data.split import split_sample
from trigger_prune.data.transform import fit_input_transform
from trigger_prune.errors import ConfigError
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.pipeline.stages.training import calibration_features
from trigger_prune.train.evaluate import Batches

CROSSINGS_HZ = 30_766_688.0


def sample(classes: tuple[str, ...] = ("minimum_bias", "HH4b", "ttbar"), seed: int = 0) -> EventSample:
    rng = np.random.default_rng(seed)
    n = 3000
    labels = rng.integers(0, len(classes), n)
    return EventSample(
        rng.normal(size=(n, 4)).astype(np.float32),
        labels,
        rng.uniform(0.5, 8.0, n),
        np.arange(n) // 2,
        ("a", "b", "c", "d"),
        classes,
        "toy",
        observables={"ht_gev": rng.uniform(0, 500, n)},
    )


def events_of(raw: EventSample, **changes: object) -> Events:
    split = split_sample(raw, SplitConfig())
    transform = fit_input_transform(split.train, InputConfig())
    parts = {
        name: replace(part, features=transform.apply(part.features))
        for name, part in (("train", split.train), ("validation", split.validation), ("test", split.test))
    }
    return Events(**parts, transform=transform, saturated_fraction=())


def context(events: Events, targets: object = None, **keys: object) -> SimpleNamespace:
    config = ProjectConfig(project="toy", **keys)
    results = {"load": events, "teacher": SimpleNamespace(targets=targets, encoder_state=None)}
    return SimpleNamespace(config=config, result=results.__getitem__)


def test_every_part_stands_for_all_crossings() -> None:
    raw = with_rates(sample(), False, CROSSINGS_HZ)
    assert raw.weights[raw.labels == 0].sum() == pytest.approx(CROSSINGS_HZ, rel=1e-12)
    for part in events_of(raw).parts.values():
        assert part.weights[part.labels == 0].sum() == pytest.approx(CROSSINGS_HZ, rel=1e-9)
        # and inside a class the weights keep their ratios
        original = raw.weights[np.isin(raw.observables["ht_gev"], part.observables["ht_gev"])]
        assert np.ptp(part.weights[part.labels == 0] / original[part.labels == 0]) < 1e-6 * part.weights.max()


def test_rates_given_in_hz_are_kept_in_the_sum_of_every_part() -> None:
    raw = with_rates(sample(), True, CROSSINGS_HZ)
    for part in events_of(raw).parts.values():
        assert part.weights[part.labels == 0].sum() == pytest.approx(raw.weights[raw.labels == 0].sum(), rel=1e-9)


def test_the_rate_objective_is_a_share_of_all_crossings() -> None:
    events = events_of(with_rates(sample(), False, CROSSINGS_HZ))
    goal = goal_of(context(events, task="binary", objective="efficiency_at_rate"))
    assert goal.signal_classes == (1, 2)
    assert goal.score == Score("head")
    assert goal.objective.background_fraction == pytest.approx(1e5 / CROSSINGS_HZ, rel=1e-9)
    assert goal.objective.label == "signal efficiency at 100 kHz"


def test_several_logits_make_the_difference_score() -> None:
    events = events_of(with_rates(sample(), False, CROSSINGS_HZ))
    goal = goal_of(context(events, objective="auc"))
    assert goal.score == Score("difference", (1, 2), (0,))
    jets = events_of(sample(("g", "q", "t")))
    assert goal_of(context(jets)).score is None
    assert goal_of(context(jets)).objective.name == "accuracy"


def test_a_binary_loss_balances_signal_against_background_whatever_the_number_of_classes() -> None:
    events = events_of(with_rates(sample(), False, CROSSINGS_HZ))
    train = TrainConfig(class_weights="balanced", weight_power=0.5)
    batches = make_batches(events, "train", goal_of(context(events, task="binary", train=train)))
    signal = batches.targets > 0.5
    assert float(batches.weights[signal].sum()) == pytest.approx(float(batches.weights[~signal].sum()), rel=1e-4)
    # to the power 1/2, ratios of weights are roots of the ratios of rates
    one, other = np.flatnonzero(events.train.labels == 0)[:2]
    ratio = float(batches.weights[one] / batches.weights[other])
    assert ratio == pytest.approx(np.sqrt(events.train.weights[one] / events.train.weights[other]), rel=1e-5)
    assert batches.physical.numpy().tolist() == events.train.weights.tolist()


def test_classes_that_are_not_trained_on_have_no_weight_and_no_influence_on_the_others() -> None:
    events = events_of(with_rates(sample(), False, CROSSINGS_HZ))
    train = TrainConfig(classes=["minimum_bias"], class_weights="balanced")
    targets = {name: np.zeros((part.n_events, 1), np.float32) for name, part in events.parts.items()}
    batches = make_batches(events, "train", goal_of(context(events, targets, task="distil", train=train)))
    background = events.train.labels == 0
    assert not batches.weights.numpy()[~background].any()
    assert batches.weights.numpy()[background].mean() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"physics": PhysicsConfig(signal=["HH4q"])}, "no class 'HH4q'; did you mean 'HH4b'"),
        ({"physics": PhysicsConfig(signal=["minimum_bias", "HH4b", "ttbar"])}, "3 of 3 classes are signal"),
        ({"physics": PhysicsConfig(signal=["HH4b"])}, "leaves ttbar to the background"),
        ({"train": TrainConfig(classes=["soft"])}, "train.classes: there is no class 'soft'"),
        ({"objective": "efficiency_at_rate", "physics": PhysicsConfig(rate_khz=1e6)}, "is not below the rate of all"),
        ({"task": "distil", "objective": "accuracy"}, "task distil has no classes"),
    ],
)
def test_names_what_is_wrong(keys: dict[str, object], message: str) -> None:
    events = events_of(with_rates(sample(), False, CROSSINGS_HZ))
    with pytest.raises(ConfigError, match=message):
        goal_of(context(events, **({"task": "binary"} | keys)))


def test_a_rate_needs_weights_that_are_rates() -> None:
    events = events_of(sample(("background", "signal")))
    with pytest.raises(ConfigError, match="weights are no rates"):
        goal_of(context(events, objective="efficiency_at_rate"))
    assert signal_classes(None, events.train) == (1,)
    with pytest.raises(ConfigError, match="no class is signal"):
        goal_of(context(events_of(sample()), objective="efficiency_at_fpr"))


def test_ranges_are_calibrated_on_every_process_and_on_nothing_that_is_not_trained_on() -> None:
    process = torch.arange(10).repeat_interleave(1000).float()
    weights = (process != 3).float()
    found = calibration_features(Batches(process[:, None], process, weights), most=90)
    counts = torch.bincount(found[:, 0].long(), minlength=10)
    assert counts.tolist() == [10, 10, 10, 0, 10, 10, 10, 10, 10, 10]
    few = calibration_features(Batches(process[:5, None], process[:5], weights[:5]))
    assert len(few) == 5
