"""From collisions to words, one bunch crossing at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.level1.words import N_WORDS
from trigger_prune.generate.level1.detector import MAX_MUONS, deposit
from trigger_prune.generate.level1.digitise import digitise, region_sums
from trigger_prune.generate.level1.egamma import MAX_EGAMMAS, find_egammas
from trigger_prune.generate.level1.geometry import N_ETA, N_PHI, N_REGION_ETA, N_REGION_PHI
from trigger_prune.generate.level1.jets import MAX_JETS, find_jets
from trigger_prune.generate.level1.particles import Particles
from trigger_prune.generate.level1.pileup import PoolArrays, overlay
from trigger_prune.generate.level1.record import write_words


class Crossings(NamedTuple):
    """Simulated crossings, one row each.

    words int16 ``(n, 80)``; collisions int16 ``(n,)``, soft ones laid over; regions uint16 ``(n, 18, 14)`` or None
    """

    words: NDArray[np.int16]
    collisions: NDArray[np.int16]
    regions: NDArray[np.uint16] | None


class CrossingSimulator:
    """The toy detector and level-1 reconstruction with their work arrays.

    pool: soft collisions; pile_up: their mean number per crossing; with_regions: keep the region sums as well.
    """

    def __init__(self, pool: PoolArrays, pile_up: float, with_regions: bool) -> None:
        self._pool = pool
        self._pile_up = pile_up
        self._with_regions = with_regions
        self._calorimeter = np.zeros((N_ETA, N_PHI, 2))
        self._muons = np.zeros((MAX_MUONS, 3))
        self._ecal, self._hcal, self._towers = (np.zeros((N_ETA, N_PHI), np.int32) for _ in range(3))
        self._jets = np.zeros((MAX_JETS, 3), np.int32)
        self._egammas = np.zeros((MAX_EGAMMAS, 4), np.int32)

    def minimum_bias(self, n: int, rng: np.random.Generator) -> Crossings:
        """``n`` crossings of pile-up alone."""
        crossings = self._empty(n)
        for row in range(n):
            self._calorimeter[:] = 0.0
            self._finish(crossings, row, 0, rng)
        return crossings

    def with_scatters(self, particles: Particles, reuse: int, rng: np.random.Generator) -> Crossings:
        """``reuse`` crossings of each hard scatter and pile-up; row ``i`` holds scatter ``i // reuse``.

        The first crossing of a scatter has it as generated, the others mirror it in eta or not and turn it in phi at
        random.
        """
        n_scatters = len(particles.offsets) - 1
        crossings = self._empty(n_scatters * reuse)
        for row in range(n_scatters * reuse):
            sign, rotation = 1.0, 0.0
            if row % reuse != 0:
                sign = 1.0 if rng.random() < 0.5 else -1.0
                rotation = 2 * math.pi * rng.random()
            self._calorimeter[:] = 0.0
            n_muons = deposit(particles.of(row // reuse), sign, rotation, self._calorimeter, self._muons, rng)
            self._finish(crossings, row, n_muons, rng)
        return crossings

    def _empty(self, n: int) -> Crossings:
        regions = np.zeros((n, N_REGION_PHI, N_REGION_ETA), np.uint16) if self._with_regions else None
        return Crossings(np.zeros((n, N_WORDS), np.int16), np.zeros(n, np.int16), regions)

    def _finish(self, crossings: Crossings, row: int, n_muons: int, rng: np.random.Generator) -> None:
        """Overlay, digitisation, reconstruction of what the hard scatter left in the work arrays."""
        n_muons, crossings.collisions[row] = overlay(
            self._calorimeter, self._muons, n_muons, self._pile_up, self._pool, rng
        )
        digitise(self._calorimeter, self._ecal, self._hcal, self._towers)
        n_jets = find_jets(self._towers, self._jets)
        n_egammas = find_egammas(self._ecal, self._hcal, self._egammas)
        write_words(
            self._towers, self._jets[:n_jets], self._egammas[:n_egammas], self._muons[:n_muons], crossings.words[row]
        )
        if crossings.regions is not None:
            region_sums(self._towers, crossings.regions[row])
