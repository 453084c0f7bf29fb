"""The density of the next round, from what the rounds before it cost."""

from __future__ import annotations

import math

_MARGIN = 0.97
"""The next round aims at this fraction of the budget, so that a rounding error does not cost another round."""

_SLOWEST = 0.97
"""Every round removes at least 3 % of the weights that are left."""

_FIRST_SLOPE = 1.4
"""Assumed power of the density in the cost while only one round is known. Costs grow about linearly; the larger value
asks for too small a cut rather than for too large a one, which could not be taken back."""


def density_between(above: tuple[float, float], below: tuple[float, float], margin: float = _MARGIN) -> float:
    """Density at which the cost is expected to be ``margin`` of the budget, between two measured networks.

    above, below    (density, use / limit) of a network that exceeds the budget and of one within it; straight line in
                    log cost against log density, limited to the two ends
    """
    if below[1] <= 0 or not above[0] > below[0]:
        return below[0]
    part = math.log(above[1] / margin) / math.log(above[1] / below[1])
    return float(above[0] * (below[0] / above[0]) ** min(1.0, max(0.0, part)))


def next_density(
    density: float,
    cost_ratio: float,
    previous: tuple[float, float] | None,
    density_step: float,
    margin: float = _MARGIN,
) -> float:
    """Density of the next round, from how far the measured cost is from the budget.

    density, cost_ratio    the round just measured; the ratio is use / limit of the binding resource, above 1
    previous               the round before it, for the slope of log cost against log density (kept within 0.5 .. 2)
    Never below ``density_step`` of the present density (a large cut at once costs accuracy that fine-tuning does not
    bring back), never above 0.97 of it (so that rounds make progress).
    """
    slope = _FIRST_SLOPE
    if previous is not None and previous[0] > density and math.inf > previous[1] > cost_ratio:
        slope = min(2.0, max(0.5, math.log(previous[1] / cost_ratio) / math.log(previous[0] / density)))
    factor: float = (margin / cost_ratio) ** (1.0 / slope)
    return density * min(_SLOWEST, max(density_step, factor))
