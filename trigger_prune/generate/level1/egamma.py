"""Level-1 electrons and photons: pairs of electromagnetic towers with little hadronic energy behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.level1.geometry import N_PHI, RINGS_PER_SIDE
from trigger_prune.generate.level1.kernel import kernel

SEED_STEPS = 6
# |eta| < 2.322
EGAMMA_RINGS_PER_SIDE = 25
MAX_HADRONIC_PART = 0.1
ISOLATION_PART, ISOLATION_STEPS = 0.15, 12.0
MAX_EGAMMAS = 64


@kernel
def is_seed(ecal: NDArray[np.int32], ring: int, column: int) -> bool:
    """True when the tower is the highest of its 3 x 3 neighbours; of equal ones the first wins."""
    seed = ecal[ring, column]
    for a in range(-1, 2):
        for b in range(-1, 2):
            steps = ecal[ring + a, (column + b) % N_PHI]
            after = a > 0 or (a == 0 and b > 0)
            if steps > seed or (steps == seed and not after and (a != 0 or b != 0)):
                return False
    return True


@kernel
def best_neighbour(ecal: NDArray[np.int32], ring: int, column: int) -> int:
    """Steps of the highest of the eight neighbours."""
    best = 0
    for a in range(-1, 2):
        for b in range(-1, 2):
            if a != 0 or b != 0:
                best = max(best, ecal[ring + a, (column + b) % N_PHI])
    return best


@kernel
def find_egammas(ecal: NDArray[np.int32], hcal: NDArray[np.int32], egammas: NDArray[np.int32]) -> int:
    """Writes the candidates, hardest first, to ``egammas`` ``(MAX_EGAMMAS, 4)`` and returns their number.

    ecal, hcal ``(N_ETA, N_PHI)`` in steps. A candidate is the seed tower plus its highest neighbour (steps), ring,
    column and 1 when the rest of the 5 x 5 towers around it is below ISOLATION_PART of it plus ISOLATION_STEPS.
    """
    found = np.empty((MAX_EGAMMAS, 4), np.int32)
    n = 0
    for ring in range(RINGS_PER_SIDE - EGAMMA_RINGS_PER_SIDE, RINGS_PER_SIDE + EGAMMA_RINGS_PER_SIDE):
        for column in range(N_PHI):
            seed = ecal[ring, column]
            if seed < SEED_STEPS or hcal[ring, column] >= MAX_HADRONIC_PART * seed or n == MAX_EGAMMAS:
                continue
            if not is_seed(ecal, ring, column):
                continue
            steps = seed + best_neighbour(ecal, ring, column)
            around = 0
            for a in range(-2, 3):
                for b in range(-2, 3):
                    around += ecal[ring + a, (column + b) % N_PHI] + hcal[ring + a, (column + b) % N_PHI]
            found[n, 0] = steps
            found[n, 1] = ring
            found[n, 2] = column
            found[n, 3] = 1 if around - steps < ISOLATION_PART * steps + ISOLATION_STEPS else 0
            n += 1
    order = np.argsort(-found[:n, 0], kind="mergesort")
    for k in range(n):
        egammas[k] = found[order[k]]
    return n
