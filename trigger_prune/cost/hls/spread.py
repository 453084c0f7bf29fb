"""``spread``: by which factors the truth of an unseen project lies around an estimate, 9 times in 10.

Split-conformal quantiles of truth / prediction over projects that were held out of the fit. With fewer than 19
samples no finite conformal interval of 90 % exists; a t interval of log(truth / prediction) stands in, which is wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample

QUANTITIES = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
COVERAGE = 0.90
UNKNOWN = (0.33, 3.0)
"""Where no report exists at all: a factor of three either way, declared, not measured."""


class Family(Protocol):
    """A module of formulas: what ``spread`` needs of it."""

    @property
    def predict(self) -> Callable[[HlsLayer, HlsSetting, Mapping[str, float]], LayerEstimate]: ...

    @property
    def fit(self) -> Callable[[Sequence[LayerSample], Mapping[str, float]], dict[str, float]]: ...


def ratios(truth: Sequence[float], prediction: Sequence[float]) -> NDArray[np.float64]:
    """truth / prediction; one unit is added to both where either is below 1, so that 0 against 0 is 1."""
    actual, estimate = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    shift = np.where((actual < 1) | (estimate < 1), 1.0, 0.0)
    return np.asarray((actual + shift) / (estimate + shift))


def interval(values: NDArray[np.float64], coverage: float = COVERAGE) -> tuple[float, float]:
    """Factors (low <= 1 <= high) that enclose ``coverage`` of further values like these."""
    count = len(values)
    if count < 2:
        return UNKNOWN
    tail = (1.0 - coverage) / 2.0
    rank = math.floor((count + 1) * tail)
    if rank >= 1:
        ordered = np.sort(values)
        low, high = float(ordered[rank - 1]), float(ordered[count - rank])
    else:
        logs = np.log(values)
        half = float(stats.t.ppf(1.0 - tail, count - 1) * logs.std(ddof=1) * math.sqrt(1.0 + 1.0 / count))
        low, high = math.exp(float(logs.mean()) - half), math.exp(float(logs.mean()) + half)
    return min(low, 1.0), max(high, 1.0)


def held_out_predictions(
    family: Family, samples: Sequence[LayerSample], parameters: Mapping[str, float]
) -> list[LayerEstimate]:
    """An estimate of every sample by coefficients fitted without its project (with one project: ``parameters``).

    ``parameters`` are the start values and must not have seen the samples: the family's ``DEFAULTS``, not fitted ones,
    because a coefficient that the other projects leave open keeps its start value.
    """
    projects = sorted({sample.project for sample in samples})
    fitted: dict[str, Mapping[str, float]] = {}
    for project in projects:
        others = [sample for sample in samples if sample.project != project]
        fitted[project] = family.fit(others, parameters) if others else parameters
    return [family.predict(sample.layer, sample.setting, fitted[sample.project]) for sample in samples]


def spread(
    family: Family, samples: Sequence[LayerSample], parameters: Mapping[str, float], *, refit: bool = True
) -> dict[str, tuple[float, float]]:
    """(low, high) by quantity. ``refit=False`` takes ``parameters`` as they are (they were fitted elsewhere)."""
    if refit:
        predicted = held_out_predictions(family, samples, parameters)
    else:
        predicted = [family.predict(sample.layer, sample.setting, parameters) for sample in samples]
    result = {}
    for quantity in QUANTITIES:
        pairs = [
            (getattr(sample.measured, quantity), getattr(estimate, quantity))
            for sample, estimate in zip(samples, predicted, strict=True)
        ]
        known = [(truth, estimate) for truth, estimate in pairs if truth is not None and estimate is not None]
        if known:
            result[quantity] = interval(ratios(*zip(*known, strict=True)))
    return result


def widened(factors: tuple[float, float], distance: int) -> tuple[float, float]:
    """The interval for a compiler release ``distance`` generations from the nearest calibrated one."""
    low, high = factors
    return low / 1.25**distance, high * 1.25**distance
