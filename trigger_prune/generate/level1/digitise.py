"""Tower energies to hardware steps, and the region sums over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.level1.geometry import (
    FIRST_REGION_RING,
    N_ETA,
    N_PHI,
    N_REGION_ETA,
    N_REGION_PHI,
    REGION_TOWERS,
    STEPS_PER_GEV,
)
from trigger_prune.generate.level1.kernel import kernel

MAX_TOWER_STEPS = 255


@kernel
def digitise(
    calorimeter: NDArray[np.float64], ecal: NDArray[np.int32], hcal: NDArray[np.int32], towers: NDArray[np.int32]
) -> None:
    """Tower energies to whole steps of 0.5 GeV, each section rounded down and at most MAX_TOWER_STEPS.

    calorimeter ``(N_ETA, N_PHI, 2)`` in GeV; ecal, hcal and their sum towers ``(N_ETA, N_PHI)`` are written.
    """
    for ring in range(N_ETA):
        for column in range(N_PHI):
            ecal[ring, column] = min(MAX_TOWER_STEPS, int(calorimeter[ring, column, 0] * STEPS_PER_GEV))
            hcal[ring, column] = min(MAX_TOWER_STEPS, int(calorimeter[ring, column, 1] * STEPS_PER_GEV))
            towers[ring, column] = ecal[ring, column] + hcal[ring, column]


@kernel
def region_sums(towers: NDArray[np.int32], regions: NDArray[np.uint16]) -> None:
    """Sums of 4 x 4 towers to ``regions`` ``(N_REGION_PHI, N_REGION_ETA)``, steps of 0.5 GeV, |eta| < 3."""
    for region_phi in range(N_REGION_PHI):
        for region_eta in range(N_REGION_ETA):
            total = 0
            for i in range(REGION_TOWERS):
                for j in range(REGION_TOWERS):
                    total += towers[FIRST_REGION_RING + REGION_TOWERS * region_eta + i, REGION_TOWERS * region_phi + j]
            regions[region_phi, region_eta] = total
