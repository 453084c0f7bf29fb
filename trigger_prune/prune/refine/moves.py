"""Which codes a weight or a bias may move to."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from trigger_prune.cost.csd import csd_count

NEAR = 2
"""Codes within this distance are always candidates, however many digits they have."""


@lru_cache(maxsize=4096)
def weight_candidates(code: int, lowest: int, highest: int) -> tuple[int, ...]:
    """Other codes for a weight, ascending: zero, its neighbours, and on either side the nearest of every smaller count
    of signed digits. A zero has its neighbours and the powers of two up to 8."""
    found = {code + step for step in range(-NEAR, NEAR + 1)} | {0}
    if code == 0:
        found |= {sign << shift if sign > 0 else -(1 << shift) for shift in range(4) for sign in (1, -1)}
    else:
        grid = np.arange(lowest, highest + 1)
        digits = csd_count(grid)
        own = int(csd_count(np.array(code)))
        for count in range(1, own):
            fewer = grid[digits == count]
            below, above = fewer[fewer < code], fewer[fewer > code]
            found |= set(below[-1:].tolist()) | set(above[:1].tolist())
    found.discard(code)
    return tuple(sorted(c for c in found if lowest <= c <= highest))


def bias_candidates(code: int, wanted: float, lowest: int, highest: int) -> tuple[int, ...]:
    """Other codes for a bias, ascending: on every coarser grid of powers of two the neighbours of ``code`` and of
    ``wanted`` (where the loss would have it), and zero."""
    found = {0, code - 1, code + 1}
    largest = max(abs(code), abs(int(np.clip(wanted, lowest, highest))), 1)
    for shift in range(largest.bit_length() + 1):
        step = 1 << shift
        for value in (code, int(np.clip(np.floor(wanted), lowest, highest))):
            below = value // step * step
            found |= {below, below + step}
    found.discard(code)
    return tuple(sorted(c for c in found if lowest <= c <= highest))
