"""From the particles of collisions to jets: what is kept, their 16 features and their leading constituents.

Selection and definitions are those of the sample ``builtin:jets16``; its data card says them in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.generate.jets.kernels import features_of_collisions

FEATURES = (
    "zlogz",
    "c1_b0_mmdt",
    "c1_b1_mmdt",
    "c1_b2_mmdt",
    "c2_b1_mmdt",
    "c2_b2_mmdt",
    "d2_b1_mmdt",
    "d2_b2_mmdt",
    "d2_a1_b1_mmdt",
    "d2_a1_b2_mmdt",
    "m2_b1_mmdt",
    "m2_b2_mmdt",
    "n2_b1_mmdt",
    "n2_b2_mmdt",
    "mass_mmdt",
    "multiplicity",
)
"""In the order of the columns."""

N_CONSTITUENTS = 16
"""Leading constituents kept per jet."""

MIN_PARTICLE_PT_GEV = 1e-3
"""Pythia makes photons of zero energy, of which a logarithm cannot be taken."""


@dataclass(frozen=True)
class JetSelection:
    """Which particles are clustered and which jets are kept; the defaults made ``builtin:jets16``."""

    max_particle_abs_eta: float = 4.0
    radius: float = 0.8
    hardest: int = 2
    min_pt_gev: float = 800.0
    max_pt_gev: float = 1600.0
    max_abs_rapidity: float = 2.5
    z_cut: float = 0.1


@dataclass(frozen=True)
class Jets:
    """Jets of several collisions, in the order of the collisions, the hardest of each first.

    features      float64 ``(jets, 16)``, columns as in ``FEATURES``
    kinematics    float64 ``(jets, 3)``: pT in GeV, rapidity, azimuth in (-pi, pi]
    constituents  float64 ``(jets, 16, 3)``: pT in GeV, pseudorapidity minus rapidity of the jet, azimuth minus azimuth
                  of the jet in [-pi, pi), hardest first; zeros where a jet has fewer
    collision     int64 ``(jets,)``: number of the collision in the batch
    """

    features: NDArray[np.float64]
    kinematics: NDArray[np.float64]
    constituents: NDArray[np.float64]
    collision: NDArray[np.int64]


def visible_particles(
    momenta: NDArray[np.float64], pid: NDArray[np.int64], selection: JetSelection
) -> NDArray[np.bool_]:
    """Whether each particle (row px, py, pz, E in GeV; PDG code) is clustered: no neutrino, central, pT over 1 MeV."""
    pt = np.hypot(momenta[:, 0], momenta[:, 1])
    central = np.abs(momenta[:, 2]) < math.sinh(selection.max_particle_abs_eta) * pt
    neutrino = np.isin(np.abs(pid), (12, 14, 16))
    return (pt > MIN_PARTICLE_PT_GEV) & central & ~neutrino


def find_jets(momenta: NDArray[np.float64], offsets: NDArray[np.int64], selection: JetSelection | None = None) -> Jets:
    """Anti-kt jets of each collision and their features.

    ``momenta`` ``(particles, 4)``: px, py, pz, E in GeV, each with pT > 0; collision i owns the rows
    ``offsets[i]:offsets[i + 1]``, and may own none. Raises DataError on offsets that do not fit, on a particle without
    pT, on NaN and infinity.
    """
    selection = selection or JetSelection()
    momenta = np.ascontiguousarray(momenta, dtype=np.float64)
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    if momenta.ndim != 2 or momenta.shape[1] != 4:
        raise DataError(f"the momenta have shape {momenta.shape}, not (particles, 4)")
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(momenta) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"the offsets of the collisions do not divide {len(momenta)} particles",
            hint="give 0, then the number of particles up to and including each collision",
        )
    bad = ~np.isfinite(momenta).all(axis=1) | ~(np.hypot(momenta[:, 0], momenta[:, 1]) > 0)
    if bad.any():
        row = int(np.argmax(bad))
        collision = int(np.searchsorted(offsets, row, side="right")) - 1
        raise DataError(
            f"particle {row} (collision {collision}) has momentum {momenta[row].tolist()}: not finite, or no pT",
            hint="drop such particles first, as visible_particles does",
        )
    return Jets(
        *features_of_collisions(
            momenta,
            offsets,
            selection.radius,
            selection.hardest,
            selection.min_pt_gev,
            selection.max_pt_gev,
            selection.max_abs_rapidity,
            selection.z_cut,
            N_CONSTITUENTS,
        )
    )
