"""Intervals of figures: percentiles of resamples, or normal ones that hold at every look of a sequential test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from trigger_prune.physics.intervals import LEVEL_68
from trigger_prune.sensitivity.findings import Figure
from trigger_prune.sensitivity.metrics import Judge
from trigger_prune.sensitivity.resample import Moving, Resampler

Figures = dict[str, Figure]


def percentile_figures(
    block: dict[str, Moving], base: dict[str, Moving], resampler: Resampler, level: float = LEVEL_68
) -> list[Figures]:
    """Figures of every variant; central intervals of ``level`` from the percentiles of the resamples.

    An interval always holds the figure itself: where its resamples lie to one side (an efficiency at few events does
    that) it is the wider for it.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    found: list[Figures] = [{} for _ in next(iter(block.values())).values]
    for name, moving in block.items():
        values, changes = moving.resampled(base[name], resampler)
        change = moving.values - base[name].values
        bounds = [
            (np.minimum(low, own), np.maximum(high, own))
            for (low, high), own in (
                (np.quantile(values, tails, axis=1), moving.values),
                (np.quantile(changes, tails, axis=1), change),
            )
        ]
        _put(found, name, moving, base[name], *bounds)
    return found


@dataclass(frozen=True)
class Looks:
    """A sequential test: numbers of events at which is looked, and the level of all intervals together.

    The interval of one look has the level ``1 - (1 - level) / number of looks``: by Bonferroni's inequality all of them
    hold together with probability ``level`` or more, hence also that of the look at which a rule, whatever it is, has
    stopped.
    """

    events: tuple[int, ...]
    level: float = LEVEL_68

    @property
    def sigmas(self) -> float:
        """Half width of an interval in standard errors."""
        return float(ndtri(1 - (1 - self.level) / (2 * len(self.events))))


def make_looks(n_events: int, first: int, level: float = LEVEL_68) -> Looks:
    """Doubling numbers of events from ``first`` to all ``n_events``."""
    found = []
    events = first
    while events < n_events:
        found.append(events)
        events *= 2
    return Looks((*found, n_events), level)


def padded_errors(
    name: str, block: Moving, base: Moving, judge: Judge, resampler: Resampler, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard errors of a figure and of its change, ``(V,)`` each, from the first ``n`` events.

    Two events are added, one that changed for the better and one for the worse: a right decision that became wrong and
    a wrong one that became right (Agresti and Min, Biometrics 61 (2005) 515, add two for matched pairs). Without them a
    network that agrees with the unpruned one on the first thousand events would have an interval of no width.
    """
    one = _one_event(name, base, judge, n)
    error, change_error = block.errors(base, resampler)
    return np.sqrt(error**2 + 2 * one**2), np.sqrt(change_error**2 + 2 * one**2)


def _one_event(name: str, base: Moving, judge: Judge, n: int) -> float:
    """What a figure moves by when one event of typical weight changes: its decision, or its loss by the mean loss."""
    if name in ("loss", "accuracy"):
        step = abs(float(base.values[0])) if name == "loss" else 1.0
        return step * _share(judge.weights[:n])
    shares = [min(_share(judge.physical[:n][ranking.positive[:n]]), 1.0) for ranking in judge.rankings]
    return float(np.mean(shares)) / math.sqrt(len(shares))


def _share(weights: NDArray[np.float64]) -> float:
    total = float(weights.sum())
    return math.sqrt(float(np.square(weights).mean())) / total if total > 0 else math.inf


def normal_figures(
    block: dict[str, Moving], base: dict[str, Moving], judge: Judge, resampler: Resampler, n: int, sigmas: float
) -> list[Figures]:
    """Figures of every variant; intervals of ``sigmas`` standard errors to both sides."""
    found: list[Figures] = [{} for _ in next(iter(block.values())).values]
    for name, moving in block.items():
        error, change_error = padded_errors(name, moving, base[name], judge, resampler, n)
        changes = moving.values - base[name].values
        values = (moving.values - sigmas * error, moving.values + sigmas * error)
        _put(
            found, name, moving, base[name], values, (changes - sigmas * change_error, changes + sigmas * change_error)
        )
    return found


def _put(
    found: list[Figures],
    name: str,
    moving: Moving,
    base: Moving,
    values: tuple[NDArray[np.float64], ...],
    changes: tuple[NDArray[np.float64], ...],
) -> None:
    low, high = values if name == "loss" else (np.clip(bound, 0.0, 1.0) for bound in values)
    columns = (moving.values, low, high, moving.values - base.values, *changes)
    for entry, row in zip(found, np.stack(columns, axis=1).tolist(), strict=True):
        entry[name] = Figure(*row)
