"""Pythia's particles as the detector sees them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.pythia import ParticleBatch

# beyond the calorimeter, or too soft to leave anything
_MAX_ETA = 5.2
_MIN_PT_GEV = 0.01


class Collision(NamedTuple):
    """Particles of one collision: pt (GeV), eta, phi, PDG code and charge, each ``(particles,)``."""

    pt: NDArray[np.float64]
    eta: NDArray[np.float64]
    phi: NDArray[np.float64]
    pid: NDArray[np.int64]
    charge: NDArray[np.int8]


class Particles(NamedTuple):
    """Flat particle arrays ``(particles,)`` of several collisions; ``offsets`` ``(collisions + 1,)`` cuts them."""

    pt: NDArray[np.float64]
    eta: NDArray[np.float64]
    phi: NDArray[np.float64]
    pid: NDArray[np.int64]
    charge: NDArray[np.int8]
    offsets: NDArray[np.int64]

    def of(self, collision: int) -> Collision:
        """The particles of one collision."""
        own = slice(self.offsets[collision], self.offsets[collision + 1])
        return Collision(self.pt[own], self.eta[own], self.phi[own], self.pid[own], self.charge[own])


def detector_particles(batch: ParticleBatch) -> Particles:
    """The particles of ``batch`` with pT > 10 MeV and |eta| < 5.2."""
    pt = batch.pt
    seen = batch.select((pt > _MIN_PT_GEV) & (np.abs(batch.pz) < np.sinh(_MAX_ETA) * pt))
    pt = seen.pt
    return Particles(
        pt=pt,
        eta=np.arcsinh(seen.pz / pt),
        phi=np.arctan2(seen.py, seen.px),
        pid=seen.pid,
        charge=seen.charge,
        offsets=seen.offsets,
    )
