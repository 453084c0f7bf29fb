"""Sparsity as a function of time."""

from __future__ import annotations


def cubic_sparsity(step: int, ramp_steps: int, start: float, end: float) -> float:
    """``end + (start - end) (1 - step / ramp_steps)^3``, and ``end`` from ``ramp_steps`` on.

    Prunes fast while much is redundant and slowly near the end (Zhu and Gupta 2017, arXiv:1710.01878).
    """
    if step >= ramp_steps:
        return end
    return end + (start - end) * (1.0 - step / ramp_steps) ** 3


def next_density(
    density: float, cost_ratio: float, previous: tuple[float, float] | None, density_step: float, margin: float = 0.97
) -> float:
    """Density of the next round, from how far the measured cost is from the budget.

    density, cost_ratio    the round just measured; the ratio is use / limit of the binding resource, above 1
    previous               the round before it, for the slope of log cost against log density; None assumes
                           cost proportional to density
    Never below ``density_step`` of the present density (a large cut at once costs accuracy that fine-tuning does not
    bring back), never above 0.97 of it (so that rounds make progress).
    """
    import math

    slope = 1.0
    if previous is not None and previous[0] > density and previous[1] > cost_ratio:
        slope = min(2.0, max(0.5, math.log(previous[1] / cost_ratio) / math.log(previous[0] / density)))
    factor = (margin / cost_ratio) ** (1.0 / slope)
    return density * min(0.97, max(density_step, factor))
