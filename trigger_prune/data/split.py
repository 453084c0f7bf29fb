"""Deterministic split of a sample by collision."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trigger_prune.config.project import SplitConfig
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import DataError
from trigger_prune.physics.luminosity import renormalise_strata, strata_totals

_WORD = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True)
class Split:
    """Three parts of one sample; no group number occurs in two of them.

    train       fits weights, the input transform, thresholds of quantisers
    validation  early stopping, pruning decisions, working points
    test        figures that are quoted, and the events every representation is compared on
    """

    train: EventSample
    validation: EventSample
    test: EventSample


def split_sample(sample: EventSample, config: SplitConfig) -> Split:
    """Split ``sample`` by a hash of the group number and the seed.

    A group's part depends on its number and the seed alone: adding, dropping or reordering rows moves no other
    event. The fractions are therefore met to statistical accuracy (sqrt(f (1 - f) / groups)), not exactly. Rows keep
    their order inside a part.

    Where weights are rates (``sample.rate_weights``), each part stands for all bunch crossings: the weights of every
    stratum are scaled so that the part has the stratum's whole rate.

    Raises DataError when a part is empty or lacks a class.
    """
    position = group_positions(sample.groups, config.seed)
    first = config.train_fraction
    second = config.train_fraction + config.validation_fraction
    return Split(
        _part(sample, position < first, "training"),
        _part(sample, (position >= first) & (position < second), "validation"),
        _part(sample, position >= second, "test"),
    )


def group_positions(groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for each group number, shape ``(events,)``; equal groups get equal numbers."""
    start = _splitmix64(np.array([seed & _WORD], dtype=np.uint64))
    mixed = _splitmix64(np.asarray(groups, dtype=np.int64).astype(np.uint64) ^ start)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One output of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) per state; arithmetic modulo 2**64."""
    z = state + np.uint64(0x9E37_79B9_7F4A_7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))


def _part(sample: EventSample, chosen: NDArray[np.bool_], name: str) -> EventSample:
    rows = np.flatnonzero(chosen)
    hint = "give more events, or change split.train_fraction, split.validation_fraction or split.seed"
    if len(rows) == 0:
        n_groups = len(np.unique(sample.groups))
        raise DataError(
            f"{sample.source}: the {name} part is empty ({sample.n_events} events in {n_groups} groups)", hint=hint
        )
    counts = np.bincount(sample.labels[rows], minlength=sample.n_classes)
    missing = [sample.class_names[i] for i in np.flatnonzero(counts == 0)]
    if missing:
        raise DataError(
            f"{sample.source}: the {name} part ({len(rows)} events) has no events of class {', '.join(missing)}",
            hint=hint,
        )
    part = sample.take(rows)
    if not sample.rate_weights or sample.strata is None or part.strata is None:
        return part
    totals = strata_totals(sample.weights, sample.strata)
    return replace(part, weights=renormalise_strata(part.weights, part.strata, totals))
