"""Will csynth finish? The chance that the compiler ends with a report, by layer and by design.

What kills a synthesis is the number of multiplications that are written out side by side: the compiler unrolls them all
before it schedules anything, and gives up, runs out of memory or out of the user's patience. Strategies latency and
distributed_arithmetic, and reuse factor 1, unroll every weight whatever the reuse factor; resource unrolls
ceil(weights / RF).

    finish = ceiling / (1 + exp(intercept + size log2(unrolled) + depth log2(inputs summed) + bits weight bits
                                + constants [weights are constants]))

Fitted to the 987 finished and 1700 failed syntheses of one dense layer in the public table wa-hls4ml-search (Vivado HLS
2020.1). ``later_tools`` is a declared shift in log2: reports of Vitis HLS 2021.1 exist for constant-weight layers of
11 220 weights, four times the largest that finished in the table; how far it really goes is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting, LayerEstimate
from trigger_prune.cost.hls.reuse_factor import (
    MULTIPLYING_KINDS,
    effective_strategy,
    multiplication_size,
    valid_reuse_factors,
)
from trigger_prune.errors import CostError

FAMILY = "feasibility"
DEFAULTS: Mapping[str, float] = {
    "ceiling": 0.973,
    "intercept": -58.4,
    "size": 4.38,
    "depth": 1.18,
    "bits": 0.042,
    "constants": 1.15,
    "later_tools": 2.0,
}

_FITTED = ("intercept", "size", "depth", "bits", "constants")
_RIDGE = 2e-5
_LATER = (2021, 1)


@dataclass(frozen=True, eq=False)
class FinishSample:
    """One synthesis that was started, and whether a report came out. ``group`` is the unit of train/test splits."""

    layer: HlsLayer
    setting: HlsSetting
    finished: bool
    group: str


def unrolled_multiplications(layer: HlsLayer, setting: HlsSetting) -> int:
    """Multiplications the compiler writes out side by side; 0 for a layer without weights."""
    if layer.kind not in MULTIPLYING_KINDS:
        return 0
    n_in, n_out = multiplication_size(layer)
    return -(-n_in * n_out // layer.reuse_factor) if _in_memory(layer, setting) else n_in * n_out


def finish_probability(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> float:
    """Chance (0..1) that csynth of this layer alone ends with a report; 1 for a layer without weights."""
    if layer.kind not in MULTIPLYING_KINDS:
        return 1.0
    terms = np.array(_terms(layer, setting, parameters["later_tools"]))
    score = float(terms @ np.array([parameters[name] for name in _FITTED]))
    return parameters["ceiling"] / (1.0 + math.exp(min(score, 700.0)))


def design_finish_probability(design: HlsDesign, parameters: Mapping[str, float]) -> float:
    """Chance that csynth of the design finishes: that of its hardest layer, which decides; layers do not fail alone."""
    return min((finish_probability(layer, design.setting, parameters) for layer in design.layers), default=1.0)


def workable_reuse_factors(
    layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float], *, least: float = 0.5
) -> tuple[int, ...]:
    """Valid reuse factors of strategy resource with which the layer finishes with a chance of at least ``least``."""
    inside = replace(layer, strategy="resource")
    return tuple(
        factor
        for factor in valid_reuse_factors(*multiplication_size(layer))
        if finish_probability(replace(inside, reuse_factor=factor), setting, parameters) >= least
    )


def require_feasible(design: HlsDesign, parameters: Mapping[str, float], *, least: float = 0.5) -> None:
    """Raises CostError when csynth of the design would hardly finish: which layer, why, and what would work."""
    for layer in design.layers:
        chance = finish_probability(layer, design.setting, parameters)
        if chance >= least:
            continue
        unrolled = unrolled_multiplications(layer, design.setting)
        how = (
            f"at reuse factor {layer.reuse_factor}"
            if _in_memory(layer, design.setting)
            else f"because strategy {layer.strategy} at reuse factor {layer.reuse_factor} makes every weight a constant"
        )
        factors = workable_reuse_factors(layer, design.setting, parameters, least=least)
        raise CostError(
            f"layer {layer.name}: csynth would unroll {unrolled} multiplications {how}; its chance to finish is "
            f"{100 * chance:.0f} %, below {100 * least:.0f} %",
            hint=f"strategy resource with reuse factor {_listed(factors)} would finish"
            if factors
            else "no reuse factor is enough: make the layer smaller",
        )


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """This family predicts no resources."""
    return LayerEstimate(None, None, None, None, None, None)


def fit(samples: Sequence[FinishSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """Logistic regression (maximum likelihood with a small ridge towards 0 on standardised terms).

    ``ceiling`` is the share that finished among the samples the first fit calls safe. Raises CostError when the samples
    do not hold both outcomes.
    """
    finished = np.array([sample.finished for sample in samples], dtype=np.float64)
    if not 0 < finished.sum() < len(finished):
        raise CostError("feasibility needs syntheses that finished and syntheses that failed")
    terms = np.array([_terms(sample.layer, sample.setting, parameters["later_tools"]) for sample in samples])
    ceiling = parameters["ceiling"]
    for _ in range(3):
        coefficients = _logistic(terms, finished, ceiling)
        safe = terms @ coefficients < -math.log(19.0)
        if safe.any():
            ceiling = float((finished[safe].sum() + 1.0) / (safe.sum() + 2.0))
    return {**parameters, "ceiling": ceiling, **dict(zip(_FITTED, map(float, coefficients), strict=True))}


def _logistic(terms: NDArray[np.float64], finished: NDArray[np.float64], ceiling: float) -> NDArray[np.float64]:
    mean, scale = terms[:, 1:].mean(axis=0), np.maximum(terms[:, 1:].std(axis=0), 1e-9)
    design = np.concatenate([np.ones((len(terms), 1)), (terms[:, 1:] - mean) / scale], axis=1)

    def loss(weights: NDArray[np.float64]) -> float:
        chance = ceiling / (1.0 + np.exp(np.clip(design @ weights, -50.0, 50.0)))
        likelihood = finished * np.log(chance + 1e-12) + (1.0 - finished) * np.log(1.0 - chance + 1e-12)
        return float(-likelihood.mean() + _RIDGE * (weights[1:] ** 2).sum())

    weights = minimize(loss, np.zeros(design.shape[1]), method="BFGS").x
    slopes = weights[1:] / scale
    return np.concatenate([[weights[0] - slopes @ mean], slopes])


def _in_memory(layer: HlsLayer, setting: HlsSetting) -> bool:
    strategy = effective_strategy(layer.strategy, layer.reuse_factor, layer.kind, setting.io_type)
    return strategy == "resource" and layer.reuse_factor > 1


def _terms(layer: HlsLayer, setting: HlsSetting, later_tools: float) -> list[float]:
    n_in, _ = multiplication_size(layer)
    size = math.log2(max(unrolled_multiplications(layer, setting), 1))
    bits = layer.weight_type.width if layer.weight_type is not None else layer.input_type.width
    shift = later_tools if setting.release >= _LATER else 0.0
    constants = layer.strategy in ("latency", "distributed_arithmetic")
    return [1.0, size - shift, math.log2(n_in), float(bits), float(constants)]


def _listed(factors: Sequence[int]) -> str:
    shown = ", ".join(map(str, factors[:6]))
    return f"{shown} ... {factors[-1]}" if len(factors) > 6 else shown
