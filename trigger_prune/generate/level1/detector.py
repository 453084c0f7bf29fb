"""Particles to calorimeter energies and muons: the toy detector's response."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.level1.geometry import N_PHI, RING_EDGES, RINGS_PER_SIDE
from trigger_prune.generate.level1.kernel import kernel
from trigger_prune.generate.level1.particles import Collision

# 0.3 B R / 2 for 3.8 T and a calorimeter at 1.29 m: sine of the azimuthal deflection times pT, GeV; softer
# charged particles curl up before the calorimeter
BENDING_GEV = 0.735
# relative resolutions, in quadrature: stochastic / sqrt(E), noise / E, constant
ECAL_STOCHASTIC, ECAL_NOISE_GEV, ECAL_CONSTANT = 0.03, 0.15, 0.005
HCAL_STOCHASTIC, HCAL_CONSTANT = 1.0, 0.05
HADRON_RESPONSE = 0.85
# half of the hadrons shower early and leave up to this part of their energy in the electromagnetic section
EARLY_SHOWER_PROBABILITY, EARLY_SHOWER_PART = 0.5, 0.6
MUON_MAX_ETA, MUON_MIN_PT_GEV, MUON_EFFICIENCY = 2.4, 2.5, 0.9
MUON_PT_RESOLUTION, MUON_ANGLE_RESOLUTION = 0.20, 0.01
MAX_MUONS = 8

_ELECTRON, _MUON, _PHOTON = 11, 13, 22
_NEUTRINOS = (12, 14, 16)


@kernel
def deposit(
    collision: Collision,
    eta_sign: float,
    rotation: float,
    calorimeter: NDArray[np.float64],
    muons: NDArray[np.float64],
    rng: np.random.Generator,
) -> int:
    """Adds one collision's particles to the tower energies; returns the number of muons found.

    The collision is mirrored by ``eta_sign`` (+1 or -1) and turned by ``rotation`` (rad) first. calorimeter
    ``(N_ETA, N_PHI, 2)`` is added to: transverse energies in the electromagnetic and the hadronic section, GeV.
    muons ``(MAX_MUONS, 3)`` receives pt, eta, phi of the reconstructed muons.
    """
    pt, eta, phi, pid, charge = collision
    n_muons = 0
    for i in range(pt.shape[0]):
        kind = abs(pid[i])
        if kind in _NEUTRINOS:
            continue
        particle_eta = eta_sign * eta[i]
        particle_phi = phi[i] + rotation
        if kind == _MUON:
            if abs(particle_eta) < MUON_MAX_ETA and pt[i] > MUON_MIN_PT_GEV and n_muons < MAX_MUONS:
                n_muons += measure_muon(pt[i], particle_eta, particle_phi, muons[n_muons], rng)
            continue
        if charge[i] != 0:
            sine = BENDING_GEV / pt[i]
            if sine >= 1.0:
                continue
            particle_phi -= charge[i] * math.asin(sine)
        ring = ring_of(particle_eta)
        if ring < 0:
            continue
        column = column_of(particle_phi)
        energy = pt[i] * math.cosh(particle_eta)
        if kind in (_PHOTON, _ELECTRON):
            calorimeter[ring, column, 0] += measure_electromagnetic(pt[i], energy, rng)
        else:
            measured = measure_hadron(pt[i], energy, rng)
            early = 0.0
            if rng.random() < EARLY_SHOWER_PROBABILITY:
                early = EARLY_SHOWER_PART * rng.random()
            calorimeter[ring, column, 0] += early * measured
            calorimeter[ring, column, 1] += (1.0 - early) * measured
    return n_muons


@kernel
def measure_muon(pt: float, eta: float, phi: float, muon: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Writes smeared pt, eta, phi to ``muon`` (3,) and returns 1, or returns 0 when the muon is missed."""
    if rng.random() >= MUON_EFFICIENCY:
        return 0
    muon[0] = pt * math.exp(MUON_PT_RESOLUTION * rng.standard_normal())
    muon[1] = eta + MUON_ANGLE_RESOLUTION * rng.standard_normal()
    muon[2] = phi + MUON_ANGLE_RESOLUTION * rng.standard_normal()
    return 1


@kernel
def measure_electromagnetic(pt: float, energy: float, rng: np.random.Generator) -> float:
    """Measured transverse energy (GeV, never negative) of a photon or an electron."""
    variance = ECAL_STOCHASTIC**2 * energy + ECAL_NOISE_GEV**2 + (ECAL_CONSTANT * energy) ** 2
    return max(0.0, pt * (1.0 + math.sqrt(variance) / energy * rng.standard_normal()))


@kernel
def measure_hadron(pt: float, energy: float, rng: np.random.Generator) -> float:
    """Measured transverse energy (GeV, never negative) of a hadron."""
    variance = HCAL_STOCHASTIC**2 * energy + (HCAL_CONSTANT * energy) ** 2
    return max(0.0, HADRON_RESPONSE * pt * (1.0 + math.sqrt(variance) / energy * rng.standard_normal()))


@kernel
def ring_of(eta: float) -> int:
    """Ring of a pseudorapidity, 0 at eta = -5 to N_ETA - 1; -1 outside the calorimeter."""
    distance = abs(eta)
    if distance >= RING_EDGES[RINGS_PER_SIDE]:
        return -1
    low = 0
    high = RINGS_PER_SIDE
    while high - low > 1:
        middle = (low + high) // 2
        if RING_EDGES[middle] <= distance:
            low = middle
        else:
            high = middle
    return RINGS_PER_SIDE + low if eta >= 0 else RINGS_PER_SIDE - 1 - low


@kernel
def column_of(phi: float) -> int:
    """Tower column of an azimuth (any branch), 0..N_PHI - 1."""
    return math.floor(phi / (2 * math.pi) * N_PHI) % N_PHI
