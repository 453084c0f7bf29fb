"""Soft collisions laid over a crossing: sparse tower lists added to the calorimeter."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.level1.detector import MAX_MUONS
from trigger_prune.generate.level1.geometry import N_ETA, N_PHI
from trigger_prune.generate.level1.kernel import kernel

# smaller tower energies of a soft collision are dropped from its list
MIN_TOWER_GEV = 0.05


class PoolArrays(NamedTuple):
    """Soft collisions as sparse tower lists and muons.

    tower_offsets  int64 ``(collisions + 1,)``: collision ``k`` owns towers ``tower_offsets[k]:tower_offsets[k + 1]``
    rings, columns uint8 ``(towers,)``, place of each tower
    energies       float32 ``(towers, 2)``, its electromagnetic and hadronic transverse energy, GeV
    muon_offsets   int64 ``(collisions + 1,)``, as tower_offsets
    muons          float32 ``(muons, 3)``: pt (GeV), eta, phi
    """

    tower_offsets: NDArray[np.int64]
    rings: NDArray[np.uint8]
    columns: NDArray[np.uint8]
    energies: NDArray[np.float32]
    muon_offsets: NDArray[np.int64]
    muons: NDArray[np.float32]


@kernel
def overlay_towers(
    calorimeter: NDArray[np.float64],
    rings: NDArray[np.uint8],
    columns: NDArray[np.uint8],
    energies: NDArray[np.float32],
    mirrored: bool,
    shift: int,
) -> None:
    """Adds one tower list to ``calorimeter`` ``(N_ETA, N_PHI, 2)``, mirrored in eta if asked, ``shift`` columns on.

    Mirror and turn are exact symmetries of the grid; they keep a pool's rare hard collisions from always hitting one
    place. 0 <= shift < N_PHI.
    """
    first = N_ETA - 1 if mirrored else 0
    step = -1 if mirrored else 1
    for i in range(rings.shape[0]):
        column = columns[i] + shift
        # cheaper than a remainder: this line runs ten thousand times per crossing
        if column >= N_PHI:
            column -= N_PHI
        ring = first + step * rings[i]
        calorimeter[ring, column, 0] += energies[i, 0]
        calorimeter[ring, column, 1] += energies[i, 1]


@kernel
def overlay(
    calorimeter: NDArray[np.float64],
    muons: NDArray[np.float64],
    n_muons: int,
    mean_collisions: float,
    pool: PoolArrays,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Adds a Poisson number of soft collisions; returns the muons now in ``muons`` and the collisions added.

    Muons beyond MAX_MUONS are dropped, those of the hard scatter never.
    """
    n_collisions = rng.poisson(mean_collisions)
    n_pool = pool.tower_offsets.shape[0] - 1
    for _ in range(n_collisions):
        # one draw for collision, mirror and turn
        draw = rng.integers(0, n_pool * 2 * N_PHI)
        shift = draw % N_PHI
        mirrored = (draw // N_PHI) % 2 == 1
        k = draw // (2 * N_PHI)
        first, last = pool.tower_offsets[k], pool.tower_offsets[k + 1]
        overlay_towers(
            calorimeter, pool.rings[first:last], pool.columns[first:last], pool.energies[first:last], mirrored, shift
        )
        for m in range(pool.muon_offsets[k], pool.muon_offsets[k + 1]):
            if n_muons < MAX_MUONS:
                muons[n_muons, 0] = pool.muons[m, 0]
                muons[n_muons, 1] = -pool.muons[m, 1] if mirrored else pool.muons[m, 1]
                muons[n_muons, 2] = pool.muons[m, 2] + shift * 2 * math.pi / N_PHI
                n_muons += 1
    return n_muons, n_collisions
