"""Where the products of a layer are made: in DSPs, or in LUTs by a multiplier or an adder.

Fewer bits may move a product from a DSP into LUTs, as the compiler does: below a width it takes no DSP, and a constant
that is left with two digits is an adder. Then LUTs rise while DSPs fall. Nothing else makes the LUTs of a layer rise by
more than 2 % when bits or weights go: hence this is stated in every estimate, for whoever minimises LUTs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trigger_prune.cost.hls import conv, dense_latency, dense_resource
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.cost.hls.features import ADDER, MULTIPLIER, stated_counts, weight_table
from trigger_prune.cost.hls.layers import family_of
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication
from trigger_prune.cost.hls.resource_products import resource_products
from trigger_prune.cost.report import HardwareReport


@dataclass(frozen=True)
class Products:
    """Products of a layer. Of constant weights the distinct ones: equal ones (same input, same constant) are made once.
    Of weights in memory the multipliers, each of which makes many products in turn.

    dsp       made in DSPs (at a reuse factor above 1 they share them: then DSPs are fewer)
    lut       made in LUTs, by a multiplier or, from two digits, by an adder; powers of two cost nothing
    lut_each  LUTs of the dearest of those (0 where there is none)
    """

    dsp: int
    lut: int
    lut_each: float


def products(layer: HlsLayer, setting: HlsSetting, calibration: Calibration) -> Products | None:
    """Products of a matrix product; None for any other layer, and where the weights are constants that are unknown."""
    family = family_of(layer)
    if layer.n_weights and layer.reuse_factor > 1 and layer.strategy in ("resource", "resource_unrolled"):
        return _in_memory(layer, setting, calibration)
    if family == conv.FAMILY and conv.has_constant_weights(layer):
        layer = conv.matrix_product(layer)
    elif family != dense_latency.FAMILY:
        return None
    found = _constants(layer)
    if found is None:
        return None
    widths, adders = found
    inputs = layer.input_type.width
    in_dsp = {width for width in widths if dsp_per_multiplication(inputs, width, setting)}
    parameters = calibration.parameters(dense_latency.FAMILY, dense_latency.DEFAULTS)
    each = [dense_latency.lut_of_product(layer, setting, parameters, width) for width in set(widths) - in_dsp]
    each += [dense_latency.lut_of_adder(layer, setting, parameters)] if adders else []
    return Products(
        dsp=sum(number for width, number in widths.items() if width in in_dsp),
        lut=adders + sum(number for width, number in widths.items() if width not in in_dsp),
        lut_each=round(max(each, default=0.0), 1),
    )


def _in_memory(layer: HlsLayer, setting: HlsSetting, calibration: Calibration) -> Products:
    widths = dense_resource.multiplier_widths(layer, setting)
    found = resource_products(layer, setting, widths)
    parameters = calibration.parameters(dense_resource.FAMILY, dense_resource.DEFAULTS)
    each = dense_resource.lut_of_product(layer, setting, found, parameters)
    return Products(dsp=found.dsp, lut=found.in_lut, lut_each=round(each, 1))


def moved_to_lut(before: HardwareReport, after: HardwareReport) -> tuple[str, ...]:
    """What moved from DSPs into LUTs between two estimates of one network, layer by layer, in words."""
    notices = []
    first, second = (_stated(report) for report in (before, after))
    for name in first.keys() & second.keys():
        moved = min(first[name].dsp - second[name].dsp, second[name].lut - first[name].lut)
        if moved > 0:
            each = second[name].lut_each
            notices.append(f"{name}: {moved} products moved from DSPs into LUTs, of up to {each:.0f} LUTs each")
    return tuple(sorted(notices))


def _stated(report: HardwareReport) -> dict[str, Products]:
    stated: Mapping[str, Mapping[str, float]] = report.details.get("products", {})
    return {name: Products(int(p["dsp"]), int(p["lut"]), p["lut_each"]) for name, p in stated.items()}


def _constants(layer: HlsLayer) -> tuple[dict[int, int], int] | None:
    """Bits -> distinct (input, constant) pairs of three or more digits, and pairs that take an adder each.

    None where the weights are not known.
    """
    stated = stated_counts(layer)
    if stated.outputs and layer.features is not None:
        return dict(stated.constant_widths), layer.features.u2 + layer.features.u1neg
    if layer.weight is None:
        return None
    table = weight_table(layer)
    widths, number = np.unique(table.constant_width[table.pair_kind == MULTIPLIER], return_counts=True)
    return dict(zip(widths.tolist(), number.tolist(), strict=True)), int((table.pair_kind == ADDER).sum())
