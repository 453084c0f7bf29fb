"""The toy calorimeter's grid: 72 towers in azimuth, 32 rings per side up to |eta| = 5."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

N_PHI = 72
# 20 rings of 0.087, then wider ones: upper edges of the rings of one side after the first edge 0
RING_EDGES: NDArray[np.float64] = np.concatenate(
    [np.arange(21) * 0.087, [1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 3.0, 3.5, 4.0, 4.5, 5.0]]
)
RINGS_PER_SIDE = len(RING_EDGES) - 1
N_ETA = 2 * RINGS_PER_SIDE
N_TOWERS = N_ETA * N_PHI
# towers of these rings count in the word "number of towers": |eta| < 1.83
CENTRAL_RINGS_PER_SIDE = 21

# one hardware step of an energy is 0.5 GeV: of towers, regions, jets and sums
STEPS_PER_GEV = 2.0

# calorimeter regions: 4 towers in phi, 4 rings in eta, the 28 rings per side below |eta| = 3
REGION_TOWERS = 4
N_REGION_PHI = N_PHI // REGION_TOWERS
N_REGION_ETA = 14
FIRST_REGION_RING = RINGS_PER_SIDE - REGION_TOWERS * N_REGION_ETA // 2
# edges of the region columns: +-(0, 0.348, 0.696, 1.044, 1.392, 1.74, 2.172, 3.0)
REGION_ETA_EDGES: NDArray[np.float64] = np.concatenate(
    [-RING_EDGES[28:0:-REGION_TOWERS], RING_EDGES[0 : 28 + 1 : REGION_TOWERS]]
)

RING_CENTRES: NDArray[np.float64] = np.concatenate(
    [-0.5 * (RING_EDGES[1:] + RING_EDGES[:-1])[::-1], 0.5 * (RING_EDGES[1:] + RING_EDGES[:-1])]
)
PHI_CENTRES: NDArray[np.float64] = (np.arange(N_PHI) + 0.5) * 2 * math.pi / N_PHI
