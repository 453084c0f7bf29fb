"""Activations: ReLU, quantising ReLU, leaky ReLU, linear, sigmoid / tanh tables, softmax.

Exact or nearly so, as csynth counts (module reports of Vivado HLS 2019.1-2019.2 and Vitis HLS 2021.1; 2022 and later
are declared constants of reports that are not public):

* ReLU: a comparison and a selection an element (``comparison.py``): 28 LUT at 16 bits to 2022, no register.
* ReLU that rounds and saturates: per bit of input and output together; registered below 4 ns.
* leaky ReLU: a ReLU with one multiplication by a constant an element, in DSPs by its widths.
* sigmoid, tanh: one table of 18-bit entries for two elements (both ports of a block RAM), indexed after a shift and a
  clamp of the input.
* softmax ``stable``: DSP = n, tables 2019.2 ceil(n/2) + 1, 2021.1 n, from 2022 2 (ceil(n/2) + 1); latency grows with
  the depth of the maximum and sum trees and with 1 / clock. ``latency`` has no maximum tree; ``argmax`` only
  comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from trigger_prune.cost.hls.comparison import adder_lut, compare_lut
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.log_fit import fit_positive
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication, wide_port
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import Overflow, Rounding

FAMILY = "activation"
DEFAULTS: Mapping[str, float] = {
    "quantise_lut_per_bit_early": 2.0,
    "quantise_lut_per_bit": 2.0,
    "quantise_ff_per_bit": 1.4,
    "stream_lut_channel": 18.0,
    "stream_cycles": 3.0,
    "leaky_lut": 100.0,
    "leaky_lut_element": 1.0,
    "dataflow_lut": 9.0,
    "table_lut_per_bit": 8.0,
    "table_lut_per_bit_virtex7": 8.0,
    "table_ff_per_bit_virtex7": 0.82,
    "softmax_lut": 100.0,
    "softmax_ff_level": 100.0,
    "softmax_ff_ultrascale": 50.0,
    "softmax_fabric_lut": 366.0,
    "softmax_stream_lut": 800.0,
    "softmax_stream_ff": 310.0,
}
"""Start values where a ``fit`` exists; a fit that leaves a project out has not seen it."""

_TABLE_ROWS = 1024
_TABLE_BITS = 18
_QUANTISE_REGISTERED_BELOW_NS = 4.0
_LEAKY_CONTROL_FF = 18.0


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """``n_out`` elements of the array (io_parallel) or of a position (io_stream, positions in ``output_size``).

    Raises CostError for a kind that is no activation.
    """
    formulas: Mapping[str, Callable[[HlsLayer, HlsSetting, Mapping[str, float]], LayerEstimate]] = {
        "relu": _relu,
        "leaky_relu": _leaky_relu,
        "linear": _linear,
        "sigmoid": _table,
        "tanh": _table,
        "softmax": _softmax,
    }
    if layer.kind not in formulas:
        raise CostError(f"layer {layer.name}: {layer.kind} is not an activation")
    return formulas[layer.kind](layer, setting, parameters)


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """Coefficients of one term each: the robust mean over projects of measured / counted."""
    fitted = dict(parameters)
    selections: tuple[tuple[str, str, Callable[[LayerSample], float]], ...] = (
        ("quantise_lut_per_bit_early", "lut", lambda s: _quantised_bits(s) if _early(s.setting) else 0.0),
        ("quantise_lut_per_bit", "lut", lambda s: 0.0 if _early(s.setting) else _quantised_bits(s)),
        ("softmax_lut", "lut", lambda s: _softmax_terms(s, ultrascale=None)),
        ("softmax_ff_level", "ff", lambda s: _softmax_terms(s, ultrascale=False)),
        ("softmax_ff_ultrascale", "ff", lambda s: _softmax_terms(s, ultrascale=True)),
        ("table_lut_per_bit", "lut", lambda s: _table_bits(s) if _ultrascale(s.setting) else 0.0),
        ("table_lut_per_bit_virtex7", "lut", lambda s: 0.0 if _ultrascale(s.setting) else _table_bits(s)),
    )
    for key, quantity, term in selections:
        known = [s for s in samples if getattr(s.measured, quantity) and term(s) > 0]
        if len(known) < 2:
            continue
        counted = np.array([[term(s)] for s in known])
        truth = np.array([getattr(s.measured, quantity) for s in known], dtype=np.float64)
        fitted[key] = float(fit_positive(counted, truth, [parameters[key]], [s.project for s in known])[0])
    return fitted


def quantises(layer: HlsLayer) -> bool:
    """Whether the output type rounds or saturates (the plain AP_TRN, AP_WRAP only drops bits)."""
    kind = layer.output_type
    return kind.overflow is not Overflow.AP_WRAP or kind.rounding not in (Rounding.AP_TRN, Rounding.AP_TRN_ZERO)


def _relu(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    selected = layer.output_type.width - (1 if layer.output_type == layer.input_type else 0)
    per_element = compare_lut(layer.input_type.width, setting) + selected
    return _elementwise(layer, setting, parameters, per_element)


def _leaky_relu(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    plain = _relu(layer, setting, parameters)
    multiplication = dsp_per_multiplication(layer.input_type.width, layer.input_type.width, setting)
    lut = (plain.lut or 0.0) + parameters["leaky_lut"] + parameters["leaky_lut_element"] * layer.n_out
    ff = (plain.ff or 0.0) + (_LEAKY_CONTROL_FF if setting.io_type == "io_stream" else 0.0)
    return replace(plain, lut=lut, ff=ff, dsp=float(multiplication * layer.n_out))


def _linear(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    return _elementwise(layer, setting, parameters, 0.0)


def _elementwise(
    layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float], per_element: float
) -> LayerEstimate:
    ff = latency = 0.0
    if quantises(layer):
        key = "quantise_lut_per_bit_early" if _early(setting) else "quantise_lut_per_bit"
        bits = layer.input_type.width + layer.output_type.width
        per_element = parameters[key] * bits
        if setting.clock_period_ns < _QUANTISE_REGISTERED_BELOW_NS:
            latency = 1.0
            per_element += compare_lut(layer.input_type.width, setting)
            ff = parameters["quantise_ff_per_bit"] * bits * layer.n_out
    interval = 1.0
    if setting.io_type == "io_stream":
        positions = math.prod(layer.output_size) or 1
        per_element += parameters["stream_lut_channel"]
        ff += layer.n_out * layer.input_type.width if positions == 1 else 0.0
        latency = interval = positions + (parameters["stream_cycles"] if positions > 1 else 0.0)
    elif layer.strategy == "resource":
        # the design is a dataflow then: every output waits in a register for its reader
        per_element += parameters["dataflow_lut"]
        ff += layer.n_out * (layer.output_type.width - 1)
    return LayerEstimate(per_element * layer.n_out, ff, 0.0, 0.0, latency, interval)


def _table(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    width, elements = layer.input_type.width, layer.n_out
    blocks = -(-elements // 2) * -(-layer.table_size // _TABLE_ROWS)
    if _ultrascale(setting):
        lut, ff, latency = parameters["table_lut_per_bit"] * width * elements, 2.0, 1.0
    else:
        lut = parameters["table_lut_per_bit_virtex7"] * width * elements
        ff, latency = parameters["table_ff_per_bit_virtex7"] * width * elements, 2.0
    interval = 1.0
    if setting.io_type == "io_stream" and layer.output_size:
        latency = interval = math.prod(layer.output_size) + latency + 1.0
    return LayerEstimate(lut, ff, 0.0, float(blocks), latency, interval)


def _softmax(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    n, width = layer.n_out, layer.input_type.width
    if setting.io_type == "io_stream":
        # one class after the other: exponentials, their sum, its inverse, the products
        return LayerEstimate(
            parameters["softmax_stream_lut"], parameters["softmax_stream_ff"], 1.0, 2.0, 2.0 * n + 1.0, 2.0 * n + 1.0
        )
    levels = math.ceil(math.log2(n)) if n > 1 else 0
    if layer.implementation == "argmax":
        compares = (n - 1) * (compare_lut(width, setting) + width)
        return LayerEstimate(compares, float(n * levels), 0.0, 0.0, float(levels > 2), 1.0)
    if layer.implementation == "latency":
        sums = (n - 1) * adder_lut(width, setting)
        return LayerEstimate(sums, 18.0 * n, _softmax_dsp(n, setting), _softmax_blocks(n, setting), 2.0, 1.0)
    lut = parameters["softmax_lut"] * (n - 1)
    if setting.forced_multiplier == "fabric":
        lut += parameters["softmax_fabric_lut"] * n
    ff = parameters["softmax_ff_ultrascale" if _ultrascale(setting) else "softmax_ff_level"] * (n - 1)
    return LayerEstimate(
        lut, ff, _softmax_dsp(n, setting), _softmax_blocks(n, setting), _softmax_latency(levels, setting), 1.0
    )


def _softmax_dsp(n: int, setting: HlsSetting) -> float:
    return 0.0 if setting.forced_multiplier == "fabric" else float(n)


def _softmax_blocks(n: int, setting: HlsSetting) -> float:
    if setting.release >= (2022, 1):
        return 2.0 * (-(-n // 2) + 1)
    return float(n) if setting.release >= (2020, 2) else float(-(-n // 2) + 1)


def _softmax_latency(levels: int, setting: HlsSetting) -> float:
    """Two table reads, the trees, the product; a level of the trees takes a cycle of 5 ns in 7 series only."""
    if _ultrascale(setting):
        return 4.0 if setting.clock_period_ns >= _QUANTISE_REGISTERED_BELOW_NS else 4.0 + levels
    per_level = 10.0 / setting.clock_period_ns
    return round(4.0 + per_level * (1 + levels))


def _early(setting: HlsSetting) -> bool:
    return setting.release < (2020, 2)


def _ultrascale(setting: HlsSetting) -> bool:
    return wide_port(setting) == 27


def _quantised_bits(sample: LayerSample) -> float:
    layer = sample.layer
    plain = layer.kind == "relu" and quantises(layer) and sample.setting.io_type == "io_parallel"
    if not plain or sample.setting.clock_period_ns < _QUANTISE_REGISTERED_BELOW_NS:
        return 0.0
    return float((layer.input_type.width + layer.output_type.width) * layer.n_out)


def _table_bits(sample: LayerSample) -> float:
    layer = sample.layer
    return float(layer.input_type.width * layer.n_out) if layer.kind in ("sigmoid", "tanh") else 0.0


def _softmax_terms(sample: LayerSample, *, ultrascale: bool | None) -> float:
    layer, setting = sample.layer, sample.setting
    if layer.kind != "softmax" or layer.implementation != "stable" or setting.io_type != "io_parallel":
        return 0.0
    if setting.forced_multiplier == "fabric" or (ultrascale is not None and _ultrascale(setting) is not ultrascale):
        return 0.0
    return float(layer.n_out - 1)
