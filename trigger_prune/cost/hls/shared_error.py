"""The part of an estimate's error that another estimate of the same network has as well.

Two estimates of one network at two reuse factors are wrong together: the same compiler, the same types, the same
formulas. A calibration says how wrong one is (``spread``) and how wrong their ratio is (``RATIO_OF``), so

    error of one  e = c + o,    error of the ratio = o1 - o2,    var(o) = var(ratio) / 2.

Whoever compares two designs takes the difference of their c's and adds only the o's in quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import HlsDesign, LayerEstimate
from trigger_prune.cost.hls.layers import family_of, spread_of_layer

RATIO_OF: Mapping[str, str] = {"dense_resource": "dense_resource_ratio"}
"""Families whose ratios were measured, and the name of the family of the errors of these."""
RATIO_QUANTITIES = ("lut", "ff")
SHARED_ERROR = "shared_error_90"
"""Entry of a report's details: quantity -> half width of the shared error, in the logarithm."""


def shared_part(family: str, quantity: str, calibration: Calibration) -> float:
    """Share of the half width of an interval that the error c takes, 0 .. 1; 0 where no ratios were measured."""
    single = calibration.spread.get(family, {}).get(quantity)
    both = calibration.spread.get(RATIO_OF.get(family, ""), {}).get(quantity)
    if single is None or both is None or half_width(single) == 0:
        return 0.0
    own = half_width(both) ** 2 / 2 / half_width(single) ** 2
    return math.sqrt(max(1.0 - own, 0.0))


def shared_errors(
    design: HlsDesign, layers: Sequence[LayerEstimate], total: LayerEstimate, calibration: Calibration
) -> dict[str, float]:
    """Half width (90 %, of the logarithm) of the error that an estimate of ``design`` shares with one of the same
    network at other reuse factors above 1, by quantity; empty where nothing is shared."""
    found = {}
    for quantity in RATIO_QUANTITIES:
        whole = getattr(total, quantity)
        if not whole:
            continue
        error = 0.0
        for layer, estimate in zip(design.layers, layers, strict=True):
            part = shared_part(family_of(layer), quantity, calibration) if layer.reuse_factor > 1 else 0.0
            if part:
                spread = spread_of_layer(layer, design.setting, calibration)[quantity]
                error += part * half_width(spread) * (getattr(estimate, quantity) or 0.0) / whole
        if error:
            found[quantity] = error
    return found


def half_width(factors: tuple[float, float]) -> float:
    """Of an interval given as factors, in the logarithm."""
    low, high = factors
    return math.log(high / low) / 2
