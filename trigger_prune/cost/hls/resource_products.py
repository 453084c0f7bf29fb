"""Where the products with weights in memory are made: in DSPs, or in LUTs by a multiplier and an adder.

``multiplier.py`` says what the compiler makes of a single product. Vitis HLS (from 2020.2) also puts narrow products
into DSPs where it can add in the same slice: a product and the addition behind it become one multiply-add. Of the k
products that are added to one output in a cycle, one goes with the accumulator and the others go in pairs, one in LUTs
and one in the slice that adds it: (k - 1) // 2 multipliers are left in LUTs, with as many adders. At a reuse factor
from n_in on k is 1, and none is. Seen in the modules of public RTL made from hls4ml's ``nnet_dense_resource.h``:
4 x 4 bits, k = 18, 16 outputs: 161 multiply-adds and 127 multipliers (here 160 and 128); 6 x 6 and 8 x 5 bits, k = 1:
multiply-adds only.

It takes an accumulator that keeps every bit of the product: with a truncating one they were multipliers in LUTs. Below
4 bits nothing was seen; there a multiplier in LUTs is assumed. No synthesis report of Vitis HLS was available for
strategy resource, hence ``is_extrapolated`` and the interval it stands for: none to all of them in DSPs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication
from trigger_prune.cost.hls.reuse_factor import multiplication_size

VITIS = (2020, 2)
"""First release of Vitis HLS."""

_LEAST_FUSED_BITS = 4
"""Narrowest operand that was seen in a multiply-add."""


@dataclass(frozen=True)
class ResourceProducts:
    """Multipliers of one output position.

    dsp           DSPs of all of them
    dsp_least     DSPs, should no narrow product be made in one
    dsp_most      DSPs, should every narrow product be made in one
    in_lut        multipliers made in LUTs
    lut_bits      bits of their products: operand width times operand width, summed
    adders        adders made in LUTs
    """

    dsp: int
    dsp_least: int
    dsp_most: int
    in_lut: int
    lut_bits: float
    adders: int


def resource_products(layer: HlsLayer, setting: HlsSetting, widths: Sequence[int]) -> ResourceProducts:
    """Products of a layer whose multipliers take weights of ``widths`` bits (0: a multiplier that was dropped)."""
    built = [width for width in widths if width]
    each = [dsp_per_multiplication(layer.input_type.width, width, setting) for width in built]
    narrow = [width for width, dsp in zip(built, each, strict=True) if not dsp]
    fused = _fused(layer, setting, narrow)
    in_lut = len(narrow) - fused
    product_bits = layer.input_type.width * sum(narrow) / len(narrow) if narrow else 0.0
    return ResourceProducts(
        dsp=sum(each) + fused,
        dsp_least=sum(each),
        dsp_most=sum(each) + (len(narrow) if is_extrapolated(setting) else 0),
        in_lut=in_lut,
        lut_bits=in_lut * product_bits,
        adders=len(built) - fused,
    )


def is_extrapolated(setting: HlsSetting) -> bool:
    """Whether no report says where this compiler makes narrow products."""
    return setting.release >= VITIS and setting.forced_multiplier is None


def added_at_once(layer: HlsLayer) -> int:
    """Products that are added to one output in one cycle."""
    n_in, _ = multiplication_size(layer)
    return max(n_in // layer.reuse_factor, 1)


def keeps_products(layer: HlsLayer) -> bool:
    """Whether the accumulator has every fractional bit of the products."""
    accumulator, weights = layer.accum_type or layer.output_type, layer.weight_type or layer.input_type
    return accumulator.fraction >= layer.input_type.fraction + weights.fraction


def _fused(layer: HlsLayer, setting: HlsSetting, narrow: Sequence[int]) -> int:
    """Narrow products that are made in a DSP together with an addition."""
    fits = [width for width in narrow if min(width, layer.input_type.width) >= _LEAST_FUSED_BITS]
    if not fits or not is_extrapolated(setting) or not keeps_products(layer):
        return 0
    together = added_at_once(layer)
    return len(fits) - len(fits) * ((together - 1) // 2) // together
