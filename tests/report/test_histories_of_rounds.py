"""The rounds of a pruning loop as one training curve of the report."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trigger_prune.pipeline.stages.reporting import joined
from trigger_prune.train.history import EpochRecord, FitHistory


def epochs(phase: str, n: int, best: int) -> FitHistory:
    records = tuple(EpochRecord(phase, index, 1.0, 1.0, 0.5, 1e-3, 0.0, 0.1, 0.5) for index in range(n))
    return FitHistory(records, best)


@pytest.mark.parametrize(
    ("chosen", "phase", "epoch"),
    [(0, "ramp 1", 1), (1, "final 2", 3), (2, "final 2", 4)],  # the last round only moved codes
)
def test_the_best_epoch_is_one_of_the_chosen_round_or_the_last_before_it(chosen: int, phase: str, epoch: int) -> None:
    histories = (epochs("ramp 1", 3, 1), epochs("final 2", 5, 3), FitHistory((), 0))
    trials = tuple(SimpleNamespace(chosen=index == chosen) for index in range(3))
    whole = joined(SimpleNamespace(trials=trials, histories=histories))
    assert len(whole.epochs) == 8
    assert (whole.best.phase, whole.best.epoch) == (phase, epoch)


def test_a_network_that_was_measured_as_it_is_has_no_curve() -> None:
    only = SimpleNamespace(trials=(SimpleNamespace(chosen=True),), histories=(FitHistory((), 0),))
    assert joined(only) == FitHistory((), 0)
