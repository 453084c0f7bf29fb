"""Properties of the split by collision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trigger_prune.config.project import SplitConfig
from trigger_prune.data.sample import EventSample
from trigger_prune.data.split import Split, group_positions, split_sample
from trigger_prune.errors import DataError


def sample_of(groups: np.ndarray) -> EventSample:
    n = len(groups)
    # The feature is the row number: it says which events ended up where.
    rows = np.arange(n, dtype=np.float32).reshape(n, 1)
    return EventSample(rows, np.arange(n) % 2, np.ones(n), groups, ("row",), ("a", "b"), "made")


def rows_of(split: Split) -> list[list[int]]:
    return [part.features[:, 0].astype(int).tolist() for part in (split.train, split.validation, split.test)]


def splitmix64(state: int) -> int:
    """The generator's published C code, in Python's unbounded integers."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_splitmix64_reference_values() -> None:
    # First outputs of splitmix64 seeded with 1234567 (Rosetta code): checks the reference itself.
    step, state, outputs = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state += step
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30), st.integers(-(10**25), 10**25))
def test_positions_follow_the_reference(groups: list[int], seed: int) -> None:
    got = group_positions(np.array(groups, dtype=np.int64), seed)
    start = splitmix64(seed % 2**64)
    assert got.tolist() == [(splitmix64((group % 2**64) ^ start) >> 11) / 2**53 for group in groups]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 0.6), st.floats(0.15, 0.3))
def test_parts_are_disjoint_complete_and_of_the_right_size(seed: int, train: float, validation: float) -> None:
    groups = np.repeat(np.arange(4000), np.arange(4000) % 3 + 1)
    sample = sample_of(groups)
    split = split_sample(sample, SplitConfig(train_fraction=train, validation_fraction=validation, seed=seed))
    parts = (split.train, split.validation, split.test)
    sets = [set(part.groups.tolist()) for part in parts]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert sorted(row for part in rows_of(split) for row in part) == list(range(len(groups)))
    for part, fraction in zip(sets, (train, validation, 1 - train - validation), strict=True):
        sigma = np.sqrt(fraction * (1 - fraction) / 4000)
        assert abs(len(part) / 4000 - fraction) < 6 * sigma


def test_a_group_keeps_its_part_whatever_else_is_there() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.permutation(1000), 2)
    whole = split_sample(sample_of(groups), SplitConfig())
    kept = rng.permutation(2000)[:700]
    reduced = split_sample(sample_of(groups[kept]), SplitConfig())
    for part, reduced_part in zip(
        (whole.train, whole.validation, whole.test), (reduced.train, reduced.validation, reduced.test), strict=True
    ):
        expected = set(part.groups.tolist()) & set(groups[kept].tolist())
        assert set(reduced_part.groups.tolist()) == expected


def test_seeds_repeat_and_differ() -> None:
    sample = sample_of(np.arange(1000))
    first, again, other = (rows_of(split_sample(sample, SplitConfig(seed=seed))) for seed in (1, 1, 2))
    assert first == again
    # Two independent splits agree on a row with probability 0.6^2 + 0.2^2 + 0.2^2 = 0.44.
    same = sum(len(set(a) & set(b)) for a, b in zip(first, other, strict=True))
    assert abs(same / 1000 - 0.44) < 0.1


def test_empty_parts_and_missing_classes_are_named() -> None:
    with pytest.raises(DataError, match=r"made: the \w+ part is empty \(40 events in 1 groups\)"):
        split_sample(sample_of(np.zeros(40, dtype=np.int64)), SplitConfig())
    groups = np.arange(200)
    test_row = rows_of(split_sample(sample_of(groups), SplitConfig()))[2][0]
    labels = np.zeros(200, dtype=np.int64)
    labels[test_row] = 1
    lonely = EventSample(np.zeros((200, 1), np.float32), labels, np.ones(200), groups, ("f",), ("a", "rare"), "made")
    with pytest.raises(DataError, match=r"the training part \(\d+ events\) has no events of class rare"):
        split_sample(lonely, SplitConfig())
