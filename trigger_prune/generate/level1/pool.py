"""The pool of soft collisions that all processes overlay, made once per folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ArtefactError, ConfigError
from trigger_prune.generate.event_files import READ_ERRORS, read_npz
from trigger_prune.generate.level1.detector import MAX_MUONS, deposit
from trigger_prune.generate.level1.geometry import N_ETA, N_PHI
from trigger_prune.generate.level1.particles import detector_particles
from trigger_prune.generate.level1.pileup import MIN_TOWER_GEV, PoolArrays
from trigger_prune.generate.level1.processes import SOFT_COMMANDS, SOFT_MAX_PT_HAT_GEV
from trigger_prune.generate.pythia import (
    CENTRE_OF_MASS_GEV,
    ParticleBatch,
    PythiaGenerator,
    shard_seeds,
)

POOL_SHARD_EVENTS = 500


class SoftPoolMaker:
    """Shards of soft collisions: non-diffractive ones without a scatter harder than SOFT_MAX_PT_HAT_GEV.

    ``n_events`` collisions are generated; the few vetoed ones are missing from the pool.
    """

    name = "soft_pool"

    def __init__(self, n_events: int) -> None:
        if n_events < 1:
            raise ConfigError(f"a pool of {n_events} collisions makes no sense", hint="give at least 1")
        self.n_events = n_events
        self._pythia: PythiaGenerator | None = None

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return -(-self.n_events // POOL_SHARD_EVENTS)

    def identity(self) -> dict[str, Any]:
        """Settings that decide the bytes."""
        return {
            "n_generated": self.n_events,
            "shard_events": POOL_SHARD_EVENTS,
            "commands": list(SOFT_COMMANDS),
            "max_pt_hat_gev": SOFT_MAX_PT_HAT_GEV,
            "centre_of_mass_gev": CENTRE_OF_MASS_GEV,
        }

    def prepare(self) -> None:
        """Starts Pythia."""
        self._pythia = PythiaGenerator(SOFT_COMMANDS)

    def make(self, shard: int, seed: int) -> dict[str, NDArray[Any]]:
        """One shard: tower and muon lists with their lengths per collision, and the cross-section."""
        if self._pythia is None:
            self.prepare()
        assert self._pythia is not None
        pythia_seed, detector_seed = shard_seeds(seed, self.name, shard)
        n = min(POOL_SHARD_EVENTS, self.n_events - shard * POOL_SHARD_EVENTS)
        batch = self._pythia.generate(n, pythia_seed)
        return _tower_lists(batch, np.random.default_rng(detector_seed))

    def merge(self, shards: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """All shards as the arrays of PoolArrays, with sigma_mb and n_generated."""
        joined = {name: np.concatenate([shard[name] for shard in shards]) for name in _LISTS}
        return {
            "tower_offsets": _offsets(joined["n_towers"]),
            "rings": joined["rings"],
            "columns": joined["columns"],
            "energies": joined["energies"],
            "muon_offsets": _offsets(joined["n_muons"]),
            "muons": joined["muons"],
            "sigma_mb": np.mean([shard["sigma_mb"] for shard in shards]),
            "n_generated": np.asarray(self.n_events),
        }


_LISTS = ("n_towers", "rings", "columns", "energies", "n_muons", "muons")


def open_pool(path: Path) -> tuple[PoolArrays, float]:
    """The pool in the file ``path`` and the soft cross-section sigma_nd in mb.

    Raises ArtefactError when the file is missing or is no pool.
    """
    try:
        arrays = read_npz(path)
        return PoolArrays(*(arrays[name] for name in PoolArrays._fields)), float(arrays["sigma_mb"])
    except READ_ERRORS as error:
        raise ArtefactError(
            f"{path}: the pool of soft collisions cannot be read ({error})", hint="run the generator again"
        ) from error


def _tower_lists(batch: ParticleBatch, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Detector response to every collision that is not vetoed."""
    particles = detector_particles(batch)
    calorimeter = np.zeros((N_ETA, N_PHI, 2))
    muons = np.zeros((MAX_MUONS, 3))
    lists: dict[str, list[NDArray[Any]]] = {name: [np.zeros(shape, kind)] for name, (shape, kind) in _EMPTY.items()}
    n_towers: list[int] = []
    n_muons: list[int] = []
    for collision in np.flatnonzero(batch.pt_hat_gev <= SOFT_MAX_PT_HAT_GEV):
        calorimeter[:] = 0.0
        found = deposit(particles.of(int(collision)), 1.0, 0.0, calorimeter, muons, rng)
        rings, columns = np.nonzero(calorimeter.sum(axis=2) > MIN_TOWER_GEV)
        lists["rings"].append(rings.astype(np.uint8))
        lists["columns"].append(columns.astype(np.uint8))
        lists["energies"].append(calorimeter[rings, columns].astype(np.float32))
        lists["muons"].append(muons[:found].astype(np.float32))
        n_towers.append(len(rings))
        n_muons.append(found)
    return {
        **{name: np.concatenate(arrays) for name, arrays in lists.items()},
        "n_towers": np.array(n_towers, np.int64),
        "n_muons": np.array(n_muons, np.int64),
        "sigma_mb": np.asarray(batch.sigma_mb),
    }


_EMPTY: dict[str, tuple[tuple[int, ...], type]] = {
    "rings": ((0,), np.uint8),
    "columns": ((0,), np.uint8),
    "energies": ((0, 2), np.float32),
    "muons": ((0, 3), np.float32),
}


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
