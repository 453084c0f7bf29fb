"""``dense_latency``: a dense layer whose weights are constants of the source (strategy latency).

Exact rules, from the module reports:

* at most ``limit = ceil(n_in n_out / RF) - floor(n_zeros / RF)`` multipliers (hls4ml's own directive), so
  ``min(u3, limit)`` of them (``features.py``); DSP by the widths of their operands (``multiplier.py``);
* RF = 1: II = 1. RF > 1: the pipeline is allowed an II of RF, but takes no more than its latency + 1.
* With u3 > limit the multipliers are shared: they need ceil(u3 / limit) cycles, and the last products another
  (depth - 2) / 2 cycles in the tree.

Modelled: the pipeline stages (``adder_schedule.py``, delays in ``operators.py``). Registers: what crosses the stages;
with II = 1 also the outputs, with compilers from 2020 the inputs, and values that wait for a later stage.

From ``chain_from`` weights on (10 976 was seen, 4096 still makes a tree) the compiler gives up balancing and adds one
term after the other.

Fitted per generation of the compiler: LUT per adder bit; for all: a factor on the registers. The rest are constants of
module reports (2019.2, 2021.1) and, for 2022 and later, declared priors from a study of reports of 2022.2 and 2024.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.adder_schedule import Schedule, schedule
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.features import (
    MULTIPLIER,
    TermCounts,
    WeightFeatures,
    WeightTable,
    accumulator_type,
    counts_from_features,
    term_counts,
    weight_features,
    weight_table,
)
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication
from trigger_prune.cost.hls.operators import DELAYS, Operators, operators
from trigger_prune.errors import CostError

FAMILY = "dense_latency"
DEFAULTS: Mapping[str, float] = {
    **DELAYS,
    "lut_per_adder_bit_2019": 1.10,
    "lut_per_adder_bit_2021": 1.05,
    "lut_per_adder_bit_2022": 1.19,
    "lut_per_dsp": 5.0,
    "lut_per_product_bit_2019": 0.70,
    "lut_per_product_bit_2021": 0.97,
    "lut_per_product_bit_2022": 0.62,
    "lut_per_shared_product": 8.5,
    "lut_per_output_2019": 9.0,
    "lut_per_output_2021": 13.0,
    "lut_per_output_2022": 13.0,
    "ff_factor": 1.0,
    "ff_waiting_per_stage": 0.025,
    "chain_from": 8192.0,
    "chain_delay": 0.74,
    "chain_ff_per_adder_bit": 0.78,
    "chain_shift_registers": 0.55,
}
_SQUARE_BELOW = 10
"""A LUT multiplier up to this width costs by its wider operand alone."""
_SHIFT_REGISTER_FF, _SHIFT_REGISTER_LUT = 64, 32
"""What csynth counts for one value of 16 bits or fewer delayed through a shift register."""

_LEAST_FITTED = 100
"""Smaller layers say nothing about a coefficient: fixed costs prevail."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReuseEffects:
    """Why a reuse factor gives the II it gives.

    limit        multipliers allowed; ``multipliers`` asked for (u3)
    rounds       cycles in which the multipliers are used again
    latency, ii  of the layer, cycles
    """

    limit: int
    multipliers: int
    rounds: int
    latency: int
    ii: int

    @property
    def shared(self) -> bool:
        """Whether multipliers are shared: then a higher limit (fewer zeros) or fewer distinct constants lower II."""
        return self.multipliers > self.limit


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """Costs of many masks of one layer, ``(masks,)`` each; not rounded."""

    lut: Floats
    ff: Floats
    dsp: Floats
    bram18: Floats
    latency_cycles: Floats
    ii: Floats


def generation(setting: HlsSetting) -> str:
    """Group of compilers that share the coefficients."""
    year = setting.release[0]
    return "2019" if year <= 2020 else "2021" if year == 2021 else "2022"


def multiplier_limit(layer: HlsLayer, n_zeros: NDArray[np.int64]) -> NDArray[np.int64]:
    """Multipliers hls4ml's directive allows, for each number of zero weights."""
    reuse = layer.reuse_factor
    return np.maximum(-(-layer.n_weights // reuse) - n_zeros // reuse, 1)


def reuse_effects(features: WeightFeatures, layer: HlsLayer, setting: HlsSetting, reuse_factor: int) -> ReuseEffects:
    """Multiplier limit, demand and their consequences for II and latency at ``reuse_factor``.

    Zeros lower the limit while the distinct constants (u3) stay: so with RF > 1 pruning may raise II and latency.
    """
    layer = replace(layer, reuse_factor=reuse_factor, weight=None, features=features, n_zeros=None)
    counts = counts_from_features(features, layer)
    costs = costs_of(layer, setting, DEFAULTS, counts, None)
    limit = int(multiplier_limit(layer, _zeros(layer, counts))[0])
    latency, ii = int(costs.latency_cycles[0]), int(costs.ii[0])
    return ReuseEffects(limit, features.u3, -(-features.u3 // limit), latency, ii)


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """Cost of a dense layer of strategy latency. Raises CostError when neither weights nor features are known."""
    if layer.weight is None:
        if not isinstance(layer.features, WeightFeatures):
            raise CostError(
                f"layer {layer.name!r}: strategy latency costs by its weights, which are not known",
                hint="give integer weights or their features",
            )
        costs = costs_of(layer, setting, parameters, counts_from_features(layer.features, layer), None)
    else:
        table = weight_table(layer)
        costs = costs_of(layer, setting, parameters, term_counts(table), table)
    return LayerEstimate(
        lut=float(costs.lut[0]),
        ff=float(costs.ff[0]),
        dsp=float(costs.dsp[0]),
        bram18=float(costs.bram18[0]),
        latency_cycles=float(costs.latency_cycles[0]),
        ii=float(costs.ii[0]),
    )


def costs_of(
    layer: HlsLayer,
    setting: HlsSetting,
    parameters: Mapping[str, float],
    counts: TermCounts,
    table: WeightTable | None,
    removed: NDArray[np.int64] | None = None,
) -> LayerCosts:
    """Costs of every mask in ``counts``. ``removed`` are the weights a mask takes away, beyond those that were 0."""
    p = {**DEFAULTS, **parameters}
    version = generation(setting)
    zeros = _zeros(layer, counts) if removed is None or layer.n_zeros is None else layer.n_zeros + removed
    limit = multiplier_limit(layer, zeros)
    wanted = counts.shared_multipliers
    built = np.minimum(wanted, limit)
    shared = wanted > limit
    dsp, product_bits = _multipliers(layer, setting, counts, table, built)

    widths = _operand_widths(layer)
    in_dsp = dsp_per_multiplication(*widths, setting) > 0
    ops = operators(setting, p)
    plan, depth = _plan(layer, ops, counts, in_dsp)
    alive = counts.alive.sum(axis=1)
    rounds = np.where(shared, -(-wanted // np.maximum(limit, 1)), 0)
    tail = depth // (2 * _levels(layer, ops))
    extra = max(ops.multiplier_states(in_dsp, max(widths)) - 1, 0)
    latency = np.maximum(plan.states, np.where(shared, rounds - 1 + tail + extra, 0))
    ff = plan.register_bits * p["ff_factor"]
    lut = counts.adder_bits * p[f"lut_per_adder_bit_{version}"]

    chained = layer.n_weights >= p["chain_from"]
    if chained:
        longest = np.where(counts.alive, counts.terms, 0).max(axis=1, initial=0)
        steps = np.ceil(longest * p["chain_delay"] * ops.add_16_ns / ops.budget_ns).astype(np.int64) - 1
        latency = np.maximum(latency, steps)
        ff = np.where(latency > 0, counts.adder_bits * p["chain_ff_per_adder_bit"], 0.0)
    reuse = layer.reuse_factor
    ii = np.ones_like(latency) if reuse == 1 else np.minimum(latency + 1, reuse)
    if chained:
        values = counts.shared_adders + counts.shared_multipliers + counts.used_inputs
        delayed = np.where(ii < latency, p["chain_shift_registers"] * values / ii, 0.0)
        ff = ff + delayed * _SHIFT_REGISTER_FF
        lut = lut + delayed * (0 if version == "2019" else _SHIFT_REGISTER_LUT)
    elif reuse == 1:
        ff = ff * (1 + p["ff_waiting_per_stage"] * latency)
    piped = latency > 0
    if reuse == 1:
        inputs = 0 if version == "2019" else counts.used_inputs * layer.input_type.width
        ff = ff + np.where(piped, alive * layer.output_type.width + inputs, 0)
        lut = lut + np.where(piped, alive * p[f"lut_per_output_{version}"], 0)
    lut = (
        lut
        + dsp * p["lut_per_dsp"]
        + product_bits * p[f"lut_per_product_bit_{version}"]
        + (wanted - built) * p["lut_per_shared_product"]
    )
    nothing = np.zeros(len(latency))
    return LayerCosts(
        lut=lut.astype(np.float64),
        ff=np.where(piped, ff, 0.0),
        dsp=dsp.astype(np.float64),
        bram18=nothing,
        latency_cycles=latency.astype(np.float64),
        ii=ii.astype(np.float64),
    )


def _zeros(layer: HlsLayer, counts: TermCounts) -> NDArray[np.int64]:
    """Zero weights as hls4ml counts them: its own number, which misses those that only truncation makes zero."""
    if layer.n_zeros is not None:
        return np.full(len(counts.nonzeros), layer.n_zeros, dtype=np.int64)
    return layer.n_weights - counts.nonzeros


def _operand_widths(layer: HlsLayer) -> tuple[int, int]:
    """Operand widths of the widest multiplication the types allow."""
    weight_width = layer.weight_type.width if layer.weight_type is not None else layer.input_type.width
    return layer.input_type.width, weight_width


def _product_width(layer: HlsLayer) -> int:
    """Bits of the widest product the types allow, after truncation to the accumulator."""
    accumulator = accumulator_type(layer)
    inputs, weights = _operand_widths(layer)
    fraction = layer.weight_type.fraction if layer.weight_type is not None else 0
    dropped = max(layer.input_type.fraction + fraction - accumulator.fraction, 0)
    return int(np.clip(inputs + weights - 1 - dropped, 1, accumulator.width))


def _levels(layer: HlsLayer, ops: Operators) -> int:
    """Adder levels in a cycle, at the accumulator's width."""
    width = accumulator_type(layer).width
    return max(ops.levels(0.0, width, width), 1)


def _plan(layer: HlsLayer, ops: Operators, counts: TermCounts, in_dsp: bool) -> tuple[Schedule, NDArray[np.int64]]:
    """Schedule of every mask, and the depth of its deepest balanced tree."""
    inputs, weights = _operand_widths(layer)
    own = ops.multiplier_states(in_dsp, max(inputs, weights))

    plan = schedule(
        counts,
        ops,
        product_width=_product_width(layer),
        adder_width=inputs + weights // 2,
        accumulator_width=accumulator_type(layer).width,
        multiplier_states=own,
        multiplier_ns=ops.multiplier_ns(in_dsp, max(inputs, weights)),
        held=layer.reuse_factor > 1,
    )
    longest = np.where(counts.alive, counts.terms, 0).max(axis=1, initial=1)
    depth = np.ceil(np.log2(np.maximum(longest, 1))).astype(np.int64)
    return plan, depth


def _multipliers(
    layer: HlsLayer,
    setting: HlsSetting,
    counts: TermCounts,
    table: WeightTable | None,
    built: NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """DSPs, and operand bits (wide x narrow) of the multipliers in LUTs."""
    inputs, weights = _operand_widths(layer)
    stated = layer.features.counts if isinstance(layer.features, WeightFeatures) else None
    if table is not None and counts.pairs is not None:
        constants = table.constant_width[table.pair_kind == MULTIPLIER]
        widths, which = np.unique(constants, return_inverse=True)
        of_width = counts.pairs.astype(np.float64) @ (which[:, None] == np.arange(len(widths))).astype(np.float64)
    elif stated is not None:
        widths = np.array([width for width, _ in stated.constant_widths], dtype=np.int64)
        of_width = np.array([[count for _, count in stated.constant_widths]], dtype=np.float64)
    else:
        mean = weights
        if isinstance(layer.features, WeightFeatures) and layer.features.constant_bits:
            mean = math.ceil(layer.features.constant_bits)
        each = dsp_per_multiplication(inputs, mean, setting)
        in_fabric = 0 if each else _fabric_bits(inputs, mean)
        count = built.astype(np.float64)
        return count * each, count * in_fabric
    each_dsp = np.array([dsp_per_multiplication(inputs, int(width), setting) for width in widths], dtype=np.float64)
    each_bits = np.array(
        [0 if dsp else _fabric_bits(inputs, int(width)) for width, dsp in zip(widths, each_dsp, strict=True)],
        dtype=np.float64,
    )
    if not len(widths):
        return np.zeros(len(built)), np.zeros(len(built))
    # Those on DSPs and those in LUTs are bounded each: which of them the limit spares is not known, and a weight less
    # must not make another one appear.
    return _dearest(of_width, each_dsp, built), _dearest(of_width, each_bits, built)


def lut_of_product(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float], width: int) -> float:
    """LUTs of a multiplier by a constant of ``width`` bits, outside DSPs."""
    bits = _fabric_bits(layer.input_type.width, width)
    return parameters[f"lut_per_product_bit_{generation(setting)}"] * bits


def lut_of_adder(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> float:
    """LUTs of the widest adder that makes a product with a constant of two digits."""
    return parameters[f"lut_per_adder_bit_{generation(setting)}"] * sum(_operand_widths(layer))


def _dearest(number: Floats, each: Floats, most: NDArray[np.int64]) -> Floats:
    """Sum over the ``most`` dearest of some multipliers, ``number`` ``(masks, kinds)`` of each kind: a multiplier that
    several constants share is as wide as the widest of them."""
    total, left = np.zeros(len(number)), most.astype(np.float64)
    for kind in np.argsort(-each, kind="stable"):
        taken = np.minimum(number[:, kind], left) if each[kind] > 0 else np.zeros(len(number))
        total += taken * each[kind]
        left = left - taken
    return total


def _fabric_bits(width_a: int, width_b: int) -> int:
    wide, narrow = max(width_a, width_b), min(width_a, width_b)
    # A wider multiplication never costs less: 11 x 3 bits at least what 10 x 3 do.
    return wide * wide if wide <= _SQUARE_BELOW else max(wide * narrow, _SQUARE_BELOW**2)


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """Coefficients fitted to module reports, starting from ``parameters``: medians of ratios, one vote per network.

    A generation without samples keeps its value.
    """
    p = {**DEFAULTS, **parameters}
    lut_ratios: dict[str, dict[str, list[float]]] = {}
    ff_ratios: dict[str, list[float]] = {}
    for sample in samples:
        layer, setting, measured = sample.layer, sample.setting, sample.measured
        if layer.kind != "dense" or layer.strategy != "latency":
            continue
        if layer.weight is None and not isinstance(layer.features, WeightFeatures):
            continue
        estimate = predict(layer, setting, p)
        bits = weight_features(layer)
        adder_bits = bits.tree_bits + bits.csd_bits + bits.negation_bits
        version = generation(setting)
        if measured.lut is not None and estimate.lut is not None and adder_bits >= _LEAST_FITTED:
            coefficient = p[f"lut_per_adder_bit_{version}"]
            other = estimate.lut - coefficient * adder_bits
            if measured.lut > other:
                lut_ratios.setdefault(version, {}).setdefault(sample.project, []).append(
                    (measured.lut - other) / adder_bits
                )
        if measured.ff and estimate.ff and measured.ff >= _LEAST_FITTED and layer.n_weights < p["chain_from"]:
            ff_ratios.setdefault(sample.project, []).append(measured.ff / estimate.ff)
    for version, by_project in lut_ratios.items():
        p[f"lut_per_adder_bit_{version}"] = float(np.mean([np.median(v) for v in by_project.values()]))
    if ff_ratios:
        p["ff_factor"] *= math.exp(float(np.mean([np.log(np.median(v)) for v in ff_ratios.values()])))
    return p
