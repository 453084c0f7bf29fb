"""Level-1 jets: a sliding window over the towers, pile-up subtracted with a chunky donut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.level1.geometry import N_ETA, N_PHI
from trigger_prune.generate.level1.kernel import kernel

# the window is 9 x 9 towers around a seed; the donut's four strips are 3 towers wide and lie against its sides
HALF_WINDOW = 4
STRIP_WIDTH = 3
SEED_STEPS = 8
# after the subtraction, before the calibration
MIN_JET_STEPS = 17
MAX_JETS = 64


@kernel
def is_window_maximum(towers: NDArray[np.int32], ring: int, column: int) -> bool:
    """True when no tower of the window is higher than its centre, nor as high on the side that wins ties."""
    seed = towers[ring, column]
    for a in range(-HALF_WINDOW, HALF_WINDOW + 1):
        for b in range(-HALF_WINDOW, HALF_WINDOW + 1):
            steps = towers[ring + a, (column + b) % N_PHI]
            # the half plane after the centre may tie; the other half may not, so equal towers give one jet
            after = a > 0 or (a == 0 and b > 0)
            if steps > seed or (steps == seed and not after and (a != 0 or b != 0)):
                return False
    return True


@kernel
def window_sum(towers: NDArray[np.int32], ring: int, column: int) -> int:
    """Steps in the 9 x 9 window."""
    total = 0
    for a in range(-HALF_WINDOW, HALF_WINDOW + 1):
        for b in range(-HALF_WINDOW, HALF_WINDOW + 1):
            total += towers[ring + a, (column + b) % N_PHI]
    return total


@kernel
def chunky_donut(towers: NDArray[np.int32], ring: int, column: int) -> int:
    """Pile-up under the window: the sum of the three lowest of the four 9 x 3 strips around it, 81 towers as well.

    A strip that would leave the calorimeter does not exist; with three strips left all count.
    """
    strips = np.zeros(4, np.int64)
    for along in range(-HALF_WINDOW, HALF_WINDOW + 1):
        for out in range(HALF_WINDOW + 1, HALF_WINDOW + STRIP_WIDTH + 1):
            strips[0] += towers[ring + along, (column + out) % N_PHI]
            strips[1] += towers[ring + along, (column - out) % N_PHI]
            if ring + out < N_ETA:
                strips[2] += towers[ring + out, (column + along) % N_PHI]
            if ring - out >= 0:
                strips[3] += towers[ring - out, (column + along) % N_PHI]
    reach = HALF_WINDOW + STRIP_WIDTH
    if ring + reach >= N_ETA:
        return int(strips[0] + strips[1] + strips[3])
    if ring - reach < 0:
        return int(strips[0] + strips[1] + strips[2])
    return int(strips.sum() - strips.max())


@kernel
def find_jets(towers: NDArray[np.int32], jets: NDArray[np.int32]) -> int:
    """Writes the jets, hardest first, to ``jets`` ``(MAX_JETS, 3)`` and returns their number.

    towers ``(N_ETA, N_PHI)`` in steps. A jet is its window minus its donut in steps before the calibration, its ring
    and its column; jets of equal height keep the order of ring and column. Seeds keep half a window from the edge.
    """
    found = np.empty((MAX_JETS, 3), np.int32)
    n = 0
    for ring in range(HALF_WINDOW, N_ETA - HALF_WINDOW):
        for column in range(N_PHI):
            if towers[ring, column] < SEED_STEPS or n == MAX_JETS:
                continue
            if not is_window_maximum(towers, ring, column):
                continue
            steps = window_sum(towers, ring, column) - chunky_donut(towers, ring, column)
            if steps >= MIN_JET_STEPS:
                found[n, 0] = steps
                found[n, 1] = ring
                found[n, 2] = column
                n += 1
    order = np.argsort(-found[:n, 0], kind="mergesort")
    for k in range(n):
        jets[k] = found[order[k]]
    return n
