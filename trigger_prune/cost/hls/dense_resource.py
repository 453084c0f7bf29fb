"""``dense_resource``: a dense layer that reuses its multipliers (strategies resource and resource_unrolled).

hls4ml's ``nnet_dense_resource.h`` builds N = ceil(n_in x n_out / RF) multipliers that take RF steps. Exact, because the
source says so:

* II = RF; latency = RF + 2 (read, multiply, accumulate), + 3 and the reads of the input in io_stream.
* DSPs and multipliers in LUTs: ``resource_products.py``. A weight memory is one ROM of N weights a row and the compiler
  drops constant sign bits at the top of a row, so the last multiplier can be narrower than the others.
* block RAM: RF rows of N weights; at RF > n_in also the table of output indices where it holds 1024 bits or more. Up to
  1024 bits lie in LUTs.

LUT and FF by generation of the compiler (``generation``). The terms are the parts of a csynth report: multiplexers in
front of input and output registers (csynth counts them by inputs, not by bits), an adder per multiplier, selectors.
Vivado HLS, fitted: an RF-to-1 selector in front of every multiplier where RF < n_in, else one n_in-to-1 for all; an
n_out-to-1 selector per multiplier where RF > 2 n_in (at RF = 2 n_in the two candidates are found at compile time, but
not in io_stream); in io_stream the unpacking of the input.

Vitis HLS, of which no report of this strategy is public: the same parts, counted instead of fitted. Its RTL shows that
multipliers that read the same input share its selector: n_in / RF of them, RF to 1, or one of n_in to 1. Every part has
the cost that csynth states for it elsewhere: selectors in the sweep of 2020.1 (``selector.py``), multipliers and adders
in layers of constant weights. Coefficients of registers and control are those of Vivado HLS. ``fit`` replaces the
priors as soon as there are reports.

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
from trigger_prune.cost.hls.comparison import adder_lut
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.features import stated_counts
from trigger_prune.cost.hls.log_fit import fit_positive
from trigger_prune.cost.hls.memory import rom_bram18
from trigger_prune.cost.hls.resource_products import VITIS, ResourceProducts, resource_products
from trigger_prune.cost.hls.reuse_factor import effective_strategy, multiplication_size
from trigger_prune.cost.hls.selector import selector_lut

FAMILY = "dense_resource"
GENERATIONS = ("v2019", "v2020", "vitis")
"""Vivado HLS up to 2019.x; Vivado HLS 2020.1; Vitis HLS, of which no report of this strategy is public."""

_VIVADO_LUT = ("input", "output", "multiplier", "select", "index", "fabric", "stream_input", "stream_select")
LUT_TERMS: Mapping[str, tuple[str, ...]] = {
    "v2019": _VIVADO_LUT,
    "v2020": _VIVADO_LUT,
    "vitis": ("input", "output", "parts", "fixed", "index", "stream_input"),
}
FF_TERMS = ("input", "output", "multiplier", "fixed", "stream_input")

_REFERENCE_WIDTH = 16.0
"""The LUT coefficient of adders is that of 16-bit accumulators, which nearly all reports have."""

_SPARE_SIGN_BITS = 2

_STREAM_CYCLES = 3
"""io_stream: read of the packed input, write of the packed output, handshake."""

_VIVADO: Mapping[str, float] = {
    "lut_input": 15.0,
    "lut_output": 15.0,
    "lut_multiplier": 16.0,
    "lut_select": 1.0,
    "lut_index": 100.0,
    "lut_fabric": 5.0,
    "lut_stream_input": 15.0,
    "lut_stream_select": 1.0,
    "ff_input": 1.0,
    "ff_output": 1.0,
    "ff_multiplier": 1.0,
    "ff_fixed": 100.0,
    "ff_stream_input": 1.0,
}
_VITIS: Mapping[str, float] = {
    "lut_input": 32.0,
    "lut_output": 18.0,
    "lut_parts": 1.0,
    "lut_fixed": 100.0,
    "lut_index": 100.0,
    "lut_stream_input": 23.0,
    "ff_input": 0.03,
    "ff_output": 1.05,
    "ff_multiplier": 0.41,
    "ff_fixed": 58.0,
    "ff_stream_input": 2.8,
}
DEFAULTS: Mapping[str, float] = {
    **{f"v2019_{name}": value for name, value in _VIVADO.items()},
    **{f"v2020_{name}": value for name, value in _VIVADO.items()},
    **{f"vitis_{name}": value for name, value in _VITIS.items()},
    "latency_overhead": 2.0,
}
"""Vivado HLS: start values, not fitted ones: what csynth counts for the part where that is known (a multiplexer of
three inputs 15 LUT, a register a bit). A fit that leaves a project out starts here, so it has not seen that project.
Vitis HLS: priors; registers and multiplexers as Vivado HLS 2019.2 and 2020.1 have them, control a few counters."""

_VITIS_INTERVAL = (0.33, 3.0)
"""Factors on LUT and FF of Vitis HLS, declared: at least three either way."""


def generation(setting: HlsSetting) -> str:
    """The set of coefficients for a compiler release."""
    if setting.release >= VITIS:
        return "vitis"
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
    prefix = generation(setting)
    lut = _total(lut_terms(layer, setting), LUT_TERMS[prefix], f"{prefix}_lut_", parameters)
    ff = _total(ff_terms(layer, setting), FF_TERMS, f"{prefix}_ff_", parameters)
    reads = math.prod(layer.input_size) if layer.kind == "dense" else 1
    stream = _STREAM_CYCLES + (reads if reads > 1 else 0) if setting.io_type == "io_stream" else 0
    return LayerEstimate(
        lut=lut,
        ff=ff,
        dsp=float(resource_products(layer, setting, widths).dsp),
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


def declared_spread(layer: HlsLayer, setting: HlsSetting) -> dict[str, tuple[float, float]]:
    """Factors for what no report covers, to be widened by those of the reports; empty where reports do."""
    if generation(setting) != "vitis":
        return {}
    spread = {"lut": _VITIS_INTERVAL, "ff": _VITIS_INTERVAL}
    found = resource_products(layer, setting, multiplier_widths(layer, setting))
    if found.dsp:
        spread["dsp"] = (found.dsp_least / found.dsp, found.dsp_most / found.dsp)
    return spread


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """LUT and FF coefficients by generation; every project counts the same.

    A coefficient that the samples of its generation of Vivado HLS leave open (no sample, or none with that part) and
    that was never fitted takes the value found for the other one. Those of Vitis HLS stay what they are.
    """
    fitted = dict(parameters)
    for quantity in ("lut", "ff"):
        settled: set[str] = set()
        for prefix in GENERATIONS:
            names = LUT_TERMS[prefix] if quantity == "lut" else FF_TERMS
            terms = lut_terms if quantity == "lut" else ff_terms
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
        for name in _VIVADO_LUT if quantity == "lut" else FF_TERMS:
            pair = [f"{prefix}_{quantity}_{name}" for prefix in ("v2019", "v2020")]
            for key, other in (pair, pair[::-1]):
                if other in settled and key not in settled and parameters[key] == DEFAULTS[key]:
                    fitted[key] = fitted[other]
    return fitted


def _total(terms: Sequence[float], names: Sequence[str], prefix: str, parameters: Mapping[str, float]) -> float:
    return sum(parameters[prefix + name] * term for name, term in zip(names, terms, strict=True))


def lut_terms(layer: HlsLayer, setting: HlsSetting) -> list[float]:
    """Counts behind the LUT coefficients, in the order of ``LUT_TERMS`` of the generation."""
    if generation(setting) == "vitis":
        return _vitis_lut_terms(layer, setting)
    n_in, n_out = multiplication_size(layer)
    factor = min(layer.reuse_factor, n_in * n_out)
    count = multipliers(layer)
    words = 2 ** max(n_out - 1, 1).bit_length()
    select = count * selector_lut(factor, setting) if factor < n_in else selector_lut(n_in, setting)
    if factor > 2 * n_in:
        select += count * selector_lut(words, setting)
    streamed = setting.io_type == "io_stream"
    return [
        n_in,
        n_out,
        count * _accumulator_width(layer) / _REFERENCE_WIDTH,
        select,
        1.0 if factor > n_in else 0.0,
        float(resource_products(layer, setting, multiplier_widths(layer, setting)).in_lut),
        n_in if streamed else 0.0,
        count * selector_lut(words, setting) if streamed and n_in <= factor <= 2 * n_in else 0.0,
    ]


def lut_of_product(
    layer: HlsLayer, setting: HlsSetting, products: ResourceProducts, parameters: Mapping[str, float]
) -> float:
    """LUTs of one product that is made in them, the adder that a DSP would have spared included; 0 without any."""
    prefix = generation(setting)
    if not products.in_lut:
        return 0.0
    if prefix != "vitis":
        return parameters[f"{prefix}_lut_fabric"]
    multiplier = products.lut_bits / products.in_lut * _lut_per_product_bit(setting)
    return parameters["vitis_lut_parts"] * (multiplier + adder_lut(_accumulator_width(layer), setting))


def _lut_per_product_bit(setting: HlsSetting) -> float:
    return dense_latency.DEFAULTS[f"lut_per_product_bit_{dense_latency.generation(setting)}"]


def _vitis_lut_terms(layer: HlsLayer, setting: HlsSetting) -> list[float]:
    n_in, n_out = multiplication_size(layer)
    factor = min(layer.reuse_factor, n_in * n_out)
    products = resource_products(layer, setting, multiplier_widths(layer, setting))
    inputs = n_in // factor * selector_lut(factor, setting) if factor < n_in else selector_lut(n_in, setting)
    candidates = n_out if factor > 2 * n_in else min(factor // n_in, 2)
    parts = (
        products.lut_bits * _lut_per_product_bit(setting)
        + products.adders * adder_lut(_accumulator_width(layer), setting)
        + inputs
        + multipliers(layer) * selector_lut(candidates, setting)
    )
    return [n_in, n_out, parts, 1.0, 1.0 if factor > n_in else 0.0, n_in if setting.io_type == "io_stream" else 0.0]


def ff_terms(layer: HlsLayer, setting: HlsSetting) -> list[float]:
    """Counts behind the FF coefficients, in the order of ``FF_TERMS``."""
    n_in, n_out = multiplication_size(layer)
    width = _accumulator_width(layer)
    input_bits = n_in * layer.input_type.width
    streamed = input_bits if setting.io_type == "io_stream" else 0.0
    return [input_bits, n_out * width, multipliers(layer) * width, 1.0, streamed]


def _accumulator_width(layer: HlsLayer) -> int:
    return (layer.accum_type or layer.output_type).width
