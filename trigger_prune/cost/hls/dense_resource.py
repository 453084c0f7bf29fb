"""``dense_resource``: a dense layer that reuses its multipliers (strategies resource and resource_unrolled).

hls4ml's ``nnet_dense_resource.h`` builds N = ceil(n_in x n_out / RF) multipliers that take RF steps. Exact, because the
source says so:

* II = RF; latency = RF + 2 (read, multiply, accumulate), + 3 and the reads of the input in io_stream.
* DSP = N x DSPs of one multiplier (``multiplier.py``). A weight memory is one ROM of N weights a row and the compiler
  drops constant sign bits at the top of a row, so the last multiplier can be narrower than the others.
* block RAM: RF rows of N weights; at RF > n_in also the table of output indices where it holds 1024 bits or more. Up to
  1024 bits lie in LUTs.

Fitted, per generation of the compiler (``generation``): LUT and FF. The terms are the parts of a csynth report:
multiplexers in front of input and output registers (csynth counts them by inputs, not by bits), an adder per
multiplier, and selectors: RF-to-1 in front of every multiplier where RF < n_in, one n_out-to-1 per multiplier where
RF > 2 n_in (at RF = 2 n_in the two candidates are found at compile time); in io_stream the unpacking of the input.

resource_unrolled writes the steps out and drops multipliers whose RF weights are all 0; the rest is taken as in
resource. No synthesis of it was available: its interval is a declared one.

Sources: hls4ml 1.3.0 templates and ``unrolled_codegen.py``; public tables wa-hls4ml-search (Vivado HLS 2020.1) and
N-TORC (2019.1), module reports of uw-acme/HLS4ML_VS_MANUAL (2019.1, 2019.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trigger_prune.cost.hls import dense_latency
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.features import stated_counts
from trigger_prune.cost.hls.log_fit import fit_positive
from trigger_prune.cost.hls.memory import rom_bram18
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication
from trigger_prune.cost.hls.reuse_factor import effective_strategy, multiplication_size

FAMILY = "dense_resource"
GENERATIONS = ("v2019", "v2020")
"""Vivado HLS up to 2019.x; Vivado HLS 2020.1 and everything later, of which no report of this strategy is public."""

LUT_TERMS = ("input", "output", "multiplier", "read_select", "write_select", "index", "stream_input")
FF_TERMS = ("input", "output", "multiplier", "fixed", "stream_input")

_REFERENCE_WIDTH = 16.0
"""The LUT coefficients of multiplexers and selectors are those of 16-bit data, which nearly all reports have."""

_SPARE_SIGN_BITS = 2

_STREAM_CYCLES = 3
"""io_stream: read of the packed input, write of the packed output, handshake."""

DEFAULTS: Mapping[str, float] = {
    "v2019_lut_input": 15.0,
    "v2019_lut_output": 15.0,
    "v2019_lut_multiplier": 16.0,
    "v2019_lut_read_select": 100.0,
    "v2019_lut_write_select": 4.0,
    "v2019_lut_index": 100.0,
    "v2019_lut_stream_input": 15.0,
    "v2019_ff_input": 1.0,
    "v2019_ff_output": 1.0,
    "v2019_ff_multiplier": 1.0,
    "v2019_ff_fixed": 100.0,
    "v2019_ff_stream_input": 1.0,
    "v2020_lut_input": 15.0,
    "v2020_lut_output": 15.0,
    "v2020_lut_multiplier": 16.0,
    "v2020_lut_read_select": 100.0,
    "v2020_lut_write_select": 4.0,
    "v2020_lut_index": 100.0,
    "v2020_lut_stream_input": 15.0,
    "v2020_ff_input": 1.0,
    "v2020_ff_output": 1.0,
    "v2020_ff_multiplier": 1.0,
    "v2020_ff_fixed": 100.0,
    "v2020_ff_stream_input": 1.0,
    "latency_overhead": 2.0,
}
"""Start values, not fitted ones: what csynth counts for the part where that is known (a multiplexer of three inputs 15
LUT, a register a bit). A fit that leaves a project out starts here, so it has not seen that project."""


def generation(setting: HlsSetting) -> str:
    """The set of coefficients for a compiler release."""
    return "v2019" if setting.release < (2020, 1) else "v2020"


def multipliers(layer: HlsLayer) -> int:
    """ceil(n_in x n_out / RF) multipliers of one output position."""
    n_in, n_out = multiplication_size(layer)
    return -(-n_in * n_out // min(layer.reuse_factor, n_in * n_out))


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """One matrix product, of a dense layer or of one position of a convolution.

    In io_stream ``layer.input_size`` holds the positions the input arrives in, one a cycle (() = in one read).
    At a reuse factor of 1 the compiler unrolls everything and sees constants: the estimate is that of dense_latency.
    """
    if layer.reuse_factor == 1:
        return dense_latency.predict(replace(layer, strategy="latency"), setting, dense_latency.DEFAULTS)
    n_in, n_out = multiplication_size(layer)
    factor = min(layer.reuse_factor, n_in * n_out)
    widths = multiplier_widths(layer, setting)
    dsp = sum(dsp_per_multiplication(layer.input_type.width, width, setting) for width in widths if width)
    prefix = generation(setting)
    lut = _total(lut_terms(layer, setting), LUT_TERMS, f"{prefix}_lut_", parameters)
    ff = _total(ff_terms(layer, setting), FF_TERMS, f"{prefix}_ff_", parameters)
    reads = math.prod(layer.input_size) if layer.kind == "dense" else 1
    stream = _STREAM_CYCLES + (reads if reads > 1 else 0) if setting.io_type == "io_stream" else 0
    return LayerEstimate(
        lut=lut,
        ff=ff,
        dsp=float(dsp),
        bram18=float(weight_memory_bram18(layer, widths)),
        latency_cycles=factor + parameters["latency_overhead"] + stream,
        ii=float(factor + (parameters["latency_overhead"] + stream if setting.io_type == "io_stream" else 0)),
    )


def multiplier_widths(layer: HlsLayer, setting: HlsSetting) -> list[int]:
    """Weight bits at every multiplier. 0: resource_unrolled drops a multiplier all of whose weights are 0.

    A row of the memory is the weights of all multipliers side by side; equal sign bits at its top are dropped, so the
    last multiplier has as many bits as its largest weight needs. Of unknown weights two spare bits are assumed, which
    the public tables show at every width: trained weights stay well inside the range of their type.
    """
    count = multipliers(layer)
    declared = layer.weight_type.width if layer.weight_type is not None else layer.input_type.width
    stated = stated_counts(layer).multiplier_widths
    if stated:
        return [width for width, number in stated for _ in range(number)]
    if layer.weight is None:
        return [declared] * (count - 1) + [max(declared - _SPARE_SIGN_BITS, 1)]
    flat = np.asarray(layer.weight, dtype=np.int64).reshape(layer.n_out, layer.n_in, -1).transpose(0, 2, 1).ravel()
    rows = np.zeros(count * min(layer.reuse_factor, flat.size), dtype=np.int64)
    rows[: flat.size] = flat
    blocks = rows.reshape(count, -1)
    widths = [declared] * count
    low, high = int(blocks[-1].min()), int(blocks[-1].max())
    widths[-1] = min(declared, max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1)
    if effective_strategy(layer.strategy, layer.reuse_factor, layer.kind, setting.io_type) == "resource_unrolled":
        widths = [width if block.any() else 0 for width, block in zip(widths, blocks, strict=True)]
    return widths


def weight_memory_bram18(layer: HlsLayer, widths: Sequence[int]) -> int:
    """Block RAMs of the weights and, at RF > n_in, of the table that says which output a step adds to."""
    n_in, n_out = multiplication_size(layer)
    factor = min(layer.reuse_factor, n_in * n_out)
    outputs_per_multiplier = factor // n_in
    index_bits = (outputs_per_multiplier - 1).bit_length() if factor > n_in else 0
    return rom_bram18(factor, sum(widths)) + rom_bram18(factor, index_bits)


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """LUT and FF coefficients by generation; every project counts the same.

    A coefficient that the samples of its generation leave open (no sample, or none with that part) and that was never
    fitted takes the value found for the other generation.
    """
    fitted = dict(parameters)
    for quantity, names, terms in (("lut", LUT_TERMS, lut_terms), ("ff", FF_TERMS, ff_terms)):
        settled: set[str] = set()
        for prefix in GENERATIONS:
            known = [
                s
                for s in samples
                if generation(s.setting) == prefix and s.layer.reuse_factor > 1 and getattr(s.measured, quantity)
            ]
            if len(known) < 2 * len(names):
                continue
            keys = [f"{prefix}_{quantity}_{name}" for name in names]
            counted = np.array([terms(s.layer, s.setting) for s in known], dtype=np.float64)
            truth = np.array([getattr(s.measured, quantity) for s in known], dtype=np.float64)
            found = fit_positive(counted, truth, [parameters[key] for key in keys], [s.project for s in known])
            fitted.update(zip(keys, map(float, found), strict=True))
            settled.update(key for key, counts in zip(keys, counted.T, strict=True) if counts.any())
        for name in names:
            pair = [f"{prefix}_{quantity}_{name}" for prefix in GENERATIONS]
            for key, other in (pair, pair[::-1]):
                if other in settled and key not in settled and parameters[key] == DEFAULTS[key]:
                    fitted[key] = fitted[other]
    return fitted


def _total(terms: Sequence[float], names: Sequence[str], prefix: str, parameters: Mapping[str, float]) -> float:
    return sum(parameters[prefix + name] * term for name, term in zip(names, terms, strict=True))


def lut_terms(layer: HlsLayer, setting: HlsSetting) -> list[float]:
    """Counts behind the LUT coefficients, in the order of ``LUT_TERMS``; any layer with a matrix product."""
    n_in, n_out = multiplication_size(layer)
    factor = min(layer.reuse_factor, n_in * n_out)
    count = multipliers(layer)
    data = layer.input_type.width / _REFERENCE_WIDTH
    accumulator = _accumulator_width(layer) / _REFERENCE_WIDTH
    selects_input = count if factor < n_in else 0
    candidates = 2 ** max(n_out - 1, 1).bit_length() if factor > 2 * n_in else 0
    return [
        n_in,
        n_out,
        count * accumulator,
        selects_input * data,
        count * candidates * accumulator,
        1.0 if factor > n_in else 0.0,
        n_in if setting.io_type == "io_stream" else 0.0,
    ]


def ff_terms(layer: HlsLayer, setting: HlsSetting) -> list[float]:
    """Counts behind the FF coefficients, in the order of ``FF_TERMS``."""
    n_in, n_out = multiplication_size(layer)
    width = _accumulator_width(layer)
    input_bits = n_in * layer.input_type.width
    streamed = input_bits if setting.io_type == "io_stream" else 0.0
    return [input_bits, n_out * width, multipliers(layer) * width, 1.0, streamed]


def _accumulator_width(layer: HlsLayer) -> int:
    return (layer.accum_type or layer.output_type).width
