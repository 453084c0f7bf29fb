"""hls4ml's strategy distributed_arithmetic: da4ml's adder graph written as C++ and compiled by Vitis HLS.

No multiplication is left, so DSP and block RAM are 0, II is 1, and the compiler adds what it is given. The adders are
those of this package's ``adder_tree`` (canonical signed digits, nothing shared), thinned by the sharing that
``cost/analytic.py`` measured on the same family of optimisers; every adder of w bits is counted as csynth counts it.
Latency is the depth of the trees over the clock, registers the bits alive at the cuts.

No csynth report of this strategy is public: ``DECLARED_SPREAD`` is an assumption, not a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trigger_prune.cost.adder_tree import Ranges, build_trees
from trigger_prune.cost.hls.comparison import adder_lut
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.features import TreeCounts, stated_counts
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint

FAMILY = "distributed_arithmetic"
DEFAULTS: Mapping[str, float] = {"sharing": 0.073, "adder_ns": 0.6, "adder_ns_per_bit": 0.02, "usable_clock": 0.8}
DECLARED_SPREAD: Mapping[str, tuple[float, float]] = {
    "lut": (0.5, 2.0),
    "ff": (0.25, 4.0),
    "dsp": (1.0, 1.0),
    "bram18": (1.0, 1.0),
    "latency_cycles": (0.4, 2.5),
    "ii": (1.0, 1.0),
}


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """One matrix product with constant weights. Raises CostError where the weights are unknown."""
    trees = tree_counts(layer)
    if not trees.inputs:
        return LayerEstimate(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    shared = (trees.terms / trees.inputs) ** -parameters["sharing"]
    adders = max(trees.terms - trees.varying, 0)
    lut = shared * (trees.adder_bits + adders * adder_lut(0, setting))
    level_ns = [parameters["adder_ns"] + parameters["adder_ns_per_bit"] * width for width in trees.level_bits]
    budget_ns = setting.clock_period_ns * parameters["usable_clock"]
    cuts = math.floor(sum(level_ns) / budget_ns)
    ff = shared * sum(_alive(trees, level_ns, cut * budget_ns) for cut in range(1, cuts + 1))
    return LayerEstimate(lut, ff, 0.0, 0.0, float(cuts), 1.0)


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """Nothing is fitted: there are no reports."""
    return dict(parameters)


def _alive(trees: TreeCounts, level_ns: Sequence[float], time_ns: float) -> float:
    passed = int(np.searchsorted(np.cumsum(level_ns), time_ns, side="right"))
    return float(trees.live_bits[passed])


def tree_counts(layer: HlsLayer) -> TreeCounts:
    """What the trees of a layer count up to. Raises CostError where the weights are unknown."""
    stated = stated_counts(layer).trees
    if stated is not None:
        return stated
    if layer.weight is None or layer.weight_type is None:
        raise CostError(
            f"layer {layer.name}: strategy distributed_arithmetic is estimated from integer weights, which are unknown",
            hint="estimate an exported network, or another strategy",
        )
    weight = np.asarray(layer.weight, dtype=np.int64).reshape(layer.n_out, -1)
    low, high = _range(layer.input_type)
    inputs = Ranges(np.full(weight.shape[1], low), np.full(weight.shape[1], high))
    trees = build_trees(weight, _bias_codes(layer), inputs, layer.name)
    varying = int(np.count_nonzero(~trees.sums.constant))
    return TreeCounts(trees.adder_bits, trees.terms, trees.inputs, varying, trees.level_bits, trees.live_bits)


def _bias_codes(layer: HlsLayer) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Biases in units of the accumulator's LSB (input LSB x weight LSB); bits below it are dropped, as hls4ml does."""
    if layer.bias is None or layer.bias_type is None or layer.weight_type is None:
        return np.zeros(layer.n_out, dtype=np.int64)
    shift = layer.input_type.fraction + layer.weight_type.fraction - layer.bias_type.fraction
    codes = np.asarray(layer.bias, dtype=np.int64)
    return codes << shift if shift >= 0 else codes >> -shift


def _range(kind: FixedPoint) -> tuple[int, int]:
    return kind.min_code, kind.max_code
