"""Pipeline stages of a layer's adder trees: how many clock cycles, and the bits registered between them.

Within a cycle an output's terms are added in pairs, as many levels as fit (``operators.py``). Terms that arrive late,
behind a multiplier, get fewer levels, and every term they are paired with waits for them: with m late terms out of n
and L levels left for them, min(m, n / 2**L) partial sums cross the border of the cycle; what is left is added as far as
its own levels go. A product that has no level left in its cycle crosses as itself, once for all outputs that use it.

Nothing here depends on which inputs the terms belong to, and no count rises when a term goes: so FF and latency do not
rise either (RF > 1 aside, see ``dense_latency.reuse_effects``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.features import TermCounts
from trigger_prune.cost.hls.operators import Operators

Floats = NDArray[np.float64]

_ONE_SUM = 1.3
"""Partial sums of an output up to which it counts as complete: pairs are never perfectly balanced."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """Per mask, ``(masks,)``.

    states          borders between clock cycles (0 = combinational)
    register_bits   bits that cross the borders, each value once
    """

    states: NDArray[np.int64]
    register_bits: Floats


def schedule(
    counts: TermCounts,
    operators: Operators,
    *,
    product_width: int,
    adder_width: int,
    accumulator_width: int,
    multiplier_states: int,
    multiplier_ns: float,
    held: bool = False,
) -> Schedule:
    """Schedule of every mask in ``counts``.

    product_width       widest product the types allow, after truncation; ``adder_width`` of an adder that forms one
    multiplier_states   cycles a multiplication takes for itself; 0 = adders follow it after ``multiplier_ns``
    held                the layer takes one cycle at least, and outputs complete in the first are registered (RF > 1)
    """
    terms = counts.terms.astype(np.float64)
    late = counts.multipliers.astype(np.float64)
    added = counts.adders.astype(np.float64)
    alive = counts.alive
    all_levels = max(operators.levels(0.0, product_width, accumulator_width), 1)
    late_levels = (
        0 if multiplier_states else min(operators.levels(multiplier_ns, product_width, accumulator_width), all_levels)
    )
    added_levels = operators.levels(operators.add_ns(adder_width), product_width, accumulator_width)
    added_levels = min(max(added_levels, int(operators.ternary)), all_levels)
    late_levels = min(late_levels, added_levels)

    late_sums = np.minimum(late, terms / 2**late_levels)
    rest = terms - late_sums * 2**late_levels
    added_sums = np.minimum(added, rest / 2**added_levels)
    sums = late_sums + added_sums + (rest - added_sums * 2**added_levels) / 2**all_levels
    open_ = alive & (sums > _ONE_SUM)
    # Products without a level left are counted once, not once per use; they cross when any output goes on.
    shared = np.zeros(len(terms))
    own = sums.copy()
    crossed = open_.any(axis=1) | held
    if late_levels == 0:
        own -= late_sums
        shared += np.where(crossed, counts.product_bits, 0)
    if added_levels == 0:
        own -= added_sums
        shared += np.where(crossed, counts.adder_value_bits, 0)
    grown = late_levels
    widest = counts.widest.astype(np.float64)
    bits = shared + np.where(open_, own * np.minimum(widest + grown, accumulator_width), 0.0).sum(axis=1)
    states = open_.astype(np.int64)
    if held:
        bits += np.where(alive & ~open_, widest * np.minimum(own, 1.0), 0.0).sum(axis=1)
        states = np.maximum(states, alive)
    while True:
        levels = max(operators.levels(0.0, min(product_width + grown, accumulator_width), accumulator_width), 1)
        grown += levels
        sums = sums / 2**levels
        open_ = open_ & (sums > _ONE_SUM)
        if not open_.any():
            break
        states += open_
        bits += np.where(open_, sums * np.minimum(widest + grown, accumulator_width), 0.0).sum(axis=1)
    last = states.max(axis=1, initial=0)
    if multiplier_states > 1:
        last = last + (multiplier_states - 1) * (counts.multipliers > 0).any(axis=1)
    return Schedule(last, bits)
