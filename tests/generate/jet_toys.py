"""Toy showers for tests of jets: momenta with the spread of real ones, without a generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PION_MASS_GEV = 0.1396


def particle(pt: float, rapidity: float, phi: float, mass: float = 0.0) -> list[float]:
    """px, py, pz, E."""
    transverse = np.hypot(pt, mass)
    return [
        pt * np.cos(phi),
        pt * np.sin(phi),
        transverse * np.sinh(rapidity),
        transverse * np.cosh(rapidity),
    ]


def shower(rng: np.random.Generator, pt: float, rapidity: float, phi: float, n: int) -> NDArray[np.float64]:
    """``n`` particles of one jet: the hardest splits again and again, at angles that shrink with its pT."""
    branches = [(pt, rapidity, phi)]
    while len(branches) < n:
        branches.sort()
        hard, y, f = branches.pop()
        z = rng.uniform(0.02, 0.5)
        angle = 0.5 * rng.uniform(0.02, 1.0) * np.sqrt(hard / pt)
        turn = rng.uniform(0, 2 * np.pi)
        dy, df = angle * np.cos(turn), angle * np.sin(turn)
        branches.append(((1 - z) * hard, y - z * dy, f - z * df))
        branches.append((z * hard, y + (1 - z) * dy, f + (1 - z) * df))
    masses = np.where(rng.random(n) < 0.4, 0.0, PION_MASS_GEV)
    return np.array([particle(*branch, mass) for branch, mass in zip(branches, masses, strict=True)])


def event(rng: np.random.Generator, n_jet: int = 40, n_soft: int = 120) -> NDArray[np.float64]:
    """Two hard showers back to back, a third one, and soft particles everywhere; some jets lie across phi = pi."""
    phi = np.pi + rng.normal(0, 0.2)
    parts = [
        shower(rng, 1000.0, rng.normal(0, 1), phi, n_jet),
        shower(rng, 950.0, rng.normal(0, 1), phi + np.pi, n_jet),
        shower(rng, 60.0, rng.normal(0, 1.5), rng.uniform(-np.pi, np.pi), n_jet // 4),
        np.array(
            [
                particle(rng.exponential(0.7) + 2e-3, rng.uniform(-4, 4), rng.uniform(-np.pi, np.pi), PION_MASS_GEV)
                for _ in range(n_soft)
            ]
        ),
    ]
    return np.concatenate(parts)[rng.permutation(2 * n_jet + n_jet // 4 + n_soft)]
