"""What a perfect offline reconstruction of the hard scatter alone would measure: no pile-up, no resolution.

ht_gev         scalar sum of jets with pT > 30 GeV and |eta| < 2.5
jet1_pt_gev, jet4_pt_gev  hardest and fourth hardest jet with |eta| < 2.5; 0 when there is none above MIN_JET_PT_GEV
met_gev        vector sum of the neutrinos
mu1_pt_gev     hardest muon with |eta| < 2.4; muons from hadron decays count
mhat_gev, pthat_gev  mass and transverse momentum of the hard scatter (the latter 0 for a resonance)
Jets are anti-kt with R = 0.4 on all final particles with |eta| < 5 but neutrinos; muons belong to them. A crossing
without a hard scatter has 0 everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.jets.kernels import cluster
from trigger_prune.generate.pythia import ParticleBatch

OFFLINE_NAMES = ("ht_gev", "jet1_pt_gev", "jet4_pt_gev", "met_gev", "mu1_pt_gev", "mhat_gev", "pthat_gev")
JET_RADIUS = 0.4
JET_MAX_ETA, MUON_MAX_ETA, PARTICLE_MAX_ETA = 2.5, 2.4, 5.0
MIN_JET_PT_GEV, HT_MIN_PT_GEV = 5.0, 30.0
# photons of no energy have no direction
_MIN_PARTICLE_PT_GEV = 1e-3
_ANTI_KT = -1
_NEUTRINOS = (12, 14, 16)
_MUON = 13


def offline_quantities(batch: ParticleBatch) -> NDArray[np.float32]:
    """float32 ``(events, len(OFFLINE_NAMES))`` of hard scatters without overlay."""
    values = np.zeros((batch.n_events, len(OFFLINE_NAMES)), np.float32)
    for event in range(batch.n_events):
        particles = slice(batch.offsets[event], batch.offsets[event + 1])
        momenta = np.column_stack(
            [batch.px[particles], batch.py[particles], batch.pz[particles], batch.energy[particles]]
        )
        values[event, :5] = _event_quantities(momenta, np.abs(batch.pid[particles]))
    values[:, 5] = batch.m_hat_gev
    values[:, 6] = batch.pt_hat_gev
    return values


def jet_pts(momenta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transverse momenta (GeV) of the anti-kt jets of ``momenta`` ``(n, 4)`` with |eta| < 2.5, hardest first."""
    if len(momenta) == 0:
        return np.zeros(0)
    objects, axes, _, _, jets = cluster(np.ascontiguousarray(momenta), JET_RADIUS, _ANTI_KT)
    pt = axes[jets, 0]
    eta = np.arcsinh(objects[jets, 2] / np.maximum(pt, _MIN_PARTICLE_PT_GEV))
    chosen: NDArray[np.float64] = pt[(pt > MIN_JET_PT_GEV) & (np.abs(eta) < JET_MAX_ETA)]
    return chosen


def _event_quantities(
    momenta: NDArray[np.float64], kinds: NDArray[np.int64]
) -> tuple[float, float, float, float, float]:
    """HT, two jets, missing transverse momentum and hardest muon of one event's particles."""
    pt = np.hypot(momenta[:, 0], momenta[:, 1])
    neutrino = np.isin(kinds, _NEUTRINOS)
    visible = ~neutrino & (pt > _MIN_PARTICLE_PT_GEV)
    eta = np.full(len(pt), np.inf)
    eta[visible] = np.arcsinh(momenta[visible, 2] / pt[visible])
    jets = jet_pts(momenta[visible & (np.abs(eta) < PARTICLE_MAX_ETA)])
    missing = momenta[neutrino, :2].sum(axis=0)
    muon = pt[(kinds == _MUON) & (np.abs(eta) < MUON_MAX_ETA)]
    return (
        float(jets[jets > HT_MIN_PT_GEV].sum()),
        float(jets[0]) if len(jets) > 0 else 0.0,
        float(jets[3]) if len(jets) > 3 else 0.0,
        float(np.hypot(missing[0], missing[1])),
        float(muon.max()) if len(muon) else 0.0,
    )
