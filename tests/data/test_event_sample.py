"""What an EventSample refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.data.sample import EventSample
from trigger_prune.errors import DataError

GOOD = EventSample(
    np.arange(12, dtype=np.float32).reshape(6, 2),
    np.array([0, 1, 0, 1, 0, 1]),
    np.ones(6),
    np.arange(6),
    ("a", "b"),
    ("x", "y"),
    "made.npz",
)


def with_value(array: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    result = array.copy()
    result[index] = value
    return result


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"features": with_value(GOOD.features, (4, 1), np.nan)}, ["'b'", "row 4", "nan", "1 rows"]),
        ({"features": GOOD.features[:, 0]}, ["(6,)"]),
        ({"features": GOOD.features[:5]}, ["5 rows of features", "6 labels"]),
        ({"weights": with_value(GOOD.weights, (2,), -1)}, ["row 2", "-1.0"]),
        ({"weights": np.zeros(6)}, ["all weights are zero"]),
        ({"labels": with_value(GOOD.labels, (3,), 2)}, ["label 2", "row 3", "x, y"]),
        ({"labels": np.zeros(6, np.int64)}, ["no events of class y"]),
        ({"groups": np.zeros((6, 1), np.int64)}, ["groups", "(6, 1)"]),
        ({"feature_names": ("a",)}, ["1 feature names for 2 features"]),
        ({"feature_names": ("a", "a")}, ["'a'", "more than once"]),
        ({"class_names": ("x", "y", "z")}, ["no events of class z"]),
    ],
)
def test_bad_events_are_named(change: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        replace(GOOD, **change)
    for part in ["made.npz", *parts]:
        assert part in caught.value.message


def test_take_keeps_rows_together() -> None:
    taken = GOOD.take(np.array([5, 0]))
    assert taken.features.tolist() == [[10, 11], [0, 1]]
    assert taken.labels.tolist() == [1, 0]
    assert taken.groups.tolist() == [5, 0]
