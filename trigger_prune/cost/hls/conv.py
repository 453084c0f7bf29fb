"""Convolutions: a matrix product (``dense_resource`` or ``dense_latency``) that is fed one position after the other.

K = kernel x channels inputs and F filters make the product. With P positions (of the padded input in io_stream, of the
output in io_parallel):

* io_stream, line buffer, strategy resource: latency = II = P (RF + c), c cycles to shift the window and accumulate: 4
  in Vivado HLS 2019.2 at 5 ns, 9 to 11 in N-TORC's at 4 ns. Positions that produce no output take 2, so the least is
  2 P.
* io_stream, strategy latency: P x II of the product, plus its depth.
* io_parallel: P x II of the product, plus its depth; a selector picks the window out of the array. With hls4ml's
  parallelisation factor F there are P / F steps, and F products that share one memory of weights.
* DSP and block RAM are those of the product.
* LUT and FF (resource): inputs, outputs, multipliers and selectors, with coefficients of their own.

Fitted on the modules of Keb-L/hls4ml-data (2-d, 2019.2.1) and N-TORC (1-d, 2019.1). The kernel-window implementation of
hls4ml before 0.5 (``implementation="kernel_window"``) keeps the window in registers: more FF, one more cycle, and one
FIFO a window element for images too wide for LUT memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trigger_prune.cost.hls import dense_latency, dense_resource
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.log_fit import fit_positive
from trigger_prune.cost.hls.reuse_factor import effective_strategy, multiplication_size

FAMILY = "conv"
LUT_TERMS = ("input", "output", "multiplier", "read_select", "write_select", "index")
FF_TERMS = ("input", "output", "multiplier", "fixed", "kernel_window")
DEFAULTS: Mapping[str, float] = {
    "cycles": 4.0,
    "lut_input": 15.0,
    "lut_output": 15.0,
    "lut_multiplier": 16.0,
    "lut_read_select": 100.0,
    "lut_write_select": 4.0,
    "lut_index": 100.0,
    "ff_input": 1.0,
    "ff_output": 1.0,
    "ff_multiplier": 1.0,
    "ff_fixed": 100.0,
    "ff_kernel_window": 1.0,
    "latency_lut_window": 15.0,
    "latency_ff_window_bit": 1.0,
    "parallel_select_bit": 0.25,
}
"""Start values where a ``fit`` exists; a fit that leaves a project out has not seen it."""
_FIFO_BITS = 1024
_REFERENCE_WIDTH = 16.0
"""The coefficients are those of 16-bit data, which all reports have."""


def positions(layer: HlsLayer, setting: HlsSetting) -> int:
    """Steps of one inference: every pixel of the padded input (io_stream), every pixel of the output (io_parallel), or
    as many pixels at a time as the parallelisation factor says."""
    if setting.io_type == "io_parallel":
        return -(-math.prod(layer.output_size) // layer.parallelization_factor)
    stride = layer.stride or (1,) * len(layer.output_size)
    padded = [
        max(size, (out - 1) * step + width)
        for size, out, step, width in zip(layer.input_size, layer.output_size, stride, layer.kernel, strict=True)
    ]
    return math.prod(padded)


def matrix_product(layer: HlsLayer) -> HlsLayer:
    """The dense layer that computes one output position."""
    n_in, n_out = multiplication_size(layer)
    weight = None
    if layer.weight is not None:
        # hls4ml's order of a row: kernel first, then channels
        weight = np.moveaxis(np.asarray(layer.weight, dtype=np.int64), 1, -1).reshape(n_out, -1)
    return replace(
        layer, kind="dense", n_in=n_in, n_out=n_out, weight=weight, kernel=(), stride=(), input_size=(), output_size=()
    )


def has_constant_weights(layer: HlsLayer) -> bool:
    """Whether the product is one of constants (``dense_latency``), as in strategy latency and at reuse factor 1."""
    return layer.strategy not in ("resource", "resource_unrolled") or layer.reuse_factor == 1


def predict(
    layer: HlsLayer,
    setting: HlsSetting,
    parameters: Mapping[str, float],
    constants: Mapping[str, float] = dense_latency.DEFAULTS,
) -> LayerEstimate:
    """Cost of one convolution. ``input_size``, ``output_size``, ``kernel``, ``stride`` are spatial, all of one
    length; ``constants`` are the coefficients of a product of constants."""
    strategy = effective_strategy(layer.strategy, layer.reuse_factor, layer.kind, setting.io_type)
    steps = positions(layer, setting)
    product = replace(matrix_product(layer), strategy=strategy)
    inside = replace(setting, io_type="io_parallel")
    if not has_constant_weights(layer):
        core = dense_resource.predict(product, inside, dense_resource.DEFAULTS)
        lut = sum(
            parameters[f"lut_{name}"] * term for name, term in zip(LUT_TERMS, _lut_terms(layer, setting), strict=True)
        )
        ff = sum(
            parameters[f"ff_{name}"] * term for name, term in zip(FF_TERMS, _ff_terms(layer, setting), strict=True)
        )
        interval = steps * (layer.reuse_factor + parameters["cycles"] + _kernel_window(layer))
        latency = interval
    else:
        core = dense_latency.predict(replace(product, strategy="latency"), inside, constants)
        lut = (core.lut or 0.0) + parameters["latency_lut_window"] * product.n_in
        ff = (core.ff or 0.0) + parameters["latency_ff_window_bit"] * product.n_in * layer.input_type.width
        interval = steps * max(core.ii or 1.0, 1.0)
        latency = interval + (core.latency_cycles or 0.0)
    copies = layer.parallelization_factor if setting.io_type == "io_parallel" else 1
    lut, ff = copies * lut, copies * ff
    dsp = None if core.dsp is None else copies * core.dsp
    if setting.io_type == "io_parallel" and steps > 1:
        selected = copies * product.n_in * layer.input_type.width
        lut += parameters["parallel_select_bit"] * selected * 2 ** (steps - 1).bit_length()
    window_blocks = _window_blocks(layer) if setting.io_type == "io_stream" else 0
    bram18 = None if core.bram18 is None else core.bram18 + window_blocks
    return LayerEstimate(lut, ff, dsp, bram18, latency, interval)


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """LUT, FF and cycles of strategy resource; every project counts the same."""
    fitted = dict(parameters)
    chosen = [s for s in samples if s.layer.strategy == "resource" and s.layer.reuse_factor > 1]
    for quantity, names, terms in (("lut", LUT_TERMS, _lut_terms), ("ff", FF_TERMS, _ff_terms)):
        known = [s for s in chosen if getattr(s.measured, quantity)]
        if len(known) < 2 * len(names):
            continue
        keys = [f"{quantity}_{name}" for name in names]
        found = fit_positive(
            np.array([terms(s.layer, s.setting) for s in known], dtype=np.float64),
            np.array([getattr(s.measured, quantity) for s in known], dtype=np.float64),
            [parameters[key] for key in keys],
            [s.project for s in known],
        )
        fitted.update(zip(keys, map(float, found), strict=True))
    cycles: dict[str, list[float]] = {}
    for sample in chosen:
        if sample.measured.latency_cycles and sample.setting.io_type == "io_stream":
            each = sample.measured.latency_cycles / positions(sample.layer, sample.setting)
            cycles.setdefault(sample.project, []).append(
                each - sample.layer.reuse_factor - _kernel_window(sample.layer)
            )
    if cycles:
        fitted["cycles"] = max(float(np.median([np.median(values) for values in cycles.values()])), 1.0)
    return fitted


def _kernel_window(layer: HlsLayer) -> float:
    return 1.0 if layer.implementation == "kernel_window" else 0.0


def _window_blocks(layer: HlsLayer) -> int:
    """Kernel-window implementation: a FIFO of one image for every element of the window."""
    n_in, _ = multiplication_size(layer)
    deep = math.prod(layer.output_size) * layer.input_type.width >= 4 * _FIFO_BITS
    return n_in if _kernel_window(layer) and deep else 0


def _lut_terms(layer: HlsLayer, _: HlsSetting) -> list[float]:
    n_in, n_out = multiplication_size(layer)
    factor = min(layer.reuse_factor, n_in * n_out)
    count = dense_resource.multipliers(layer)
    accumulator = (layer.accum_type or layer.output_type).width / _REFERENCE_WIDTH
    words = 2 ** max(n_out - 1, 1).bit_length() if factor > 2 * n_in else 0
    return [
        n_in,
        n_out,
        count * accumulator,
        count * layer.input_type.width / _REFERENCE_WIDTH if factor < n_in else 0.0,
        count * words * accumulator,
        1.0 if factor > n_in else 0.0,
    ]


def _ff_terms(layer: HlsLayer, setting: HlsSetting) -> list[float]:
    counts = dense_resource.ff_terms(layer, setting)[: len(FF_TERMS) - 1]
    return [*counts, counts[0] * _kernel_window(layer)]
