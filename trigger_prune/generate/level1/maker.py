"""Shards of level-1 events, one maker per process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError
from trigger_prune.generate.level1.crossing import Crossings, CrossingSimulator
from trigger_prune.generate.level1.offline import OFFLINE_NAMES, offline_quantities
from trigger_prune.generate.level1.particles import detector_particles
from trigger_prune.generate.level1.pool import open_pool
from trigger_prune.generate.level1.processes import Process
from trigger_prune.generate.pythia import CENTRE_OF_MASS_GEV, PythiaGenerator, shard_seeds

SCATTERS_PER_SHARD = 100
SOFT_CROSSINGS_PER_SHARD = 5_000


class Level1Maker:
    """Level-1 events of one process, cut into shards whose bytes depend on the seed and the shard's number alone.

    process, rows    what to make and how many crossings; rounded up to whole scatters
    reuse            crossings per generated scatter (the process's default when None); always 1 without a scatter
    pile_up          mean number of soft collisions laid over
    with_regions     keep the calorimeter regions too
    pool_file        where SoftPoolMaker's file will be before the first shard is made
    pool_settings    identity of that pool
    Raises ConfigError on numbers that make no sense.
    """

    def __init__(
        self,
        process: Process,
        rows: int,
        pool_file: Path,
        pool_settings: Mapping[str, Any],
        *,
        pile_up: float = 50.0,
        with_regions: bool = False,
        reuse: int | None = None,
    ) -> None:
        if rows < 1:
            raise ConfigError(f"{process.name}: {rows} events make no sense")
        if not 0.0 <= pile_up <= 1000.0:
            raise ConfigError(f"a mean pile-up of {pile_up} makes no sense", hint="give 0 to 1000")
        if reuse is not None and reuse < 1:
            raise ConfigError(f"{process.name}: reuse {reuse} makes no sense", hint="give at least 1")
        self.process = process
        self.pile_up = pile_up
        self.with_regions = with_regions
        self.pool_file = pool_file
        self.pool_settings = dict(pool_settings)
        self.reuse = (reuse or process.reuse) if process.commands else 1
        # crossings of pile-up alone count as one scatter each
        self.n_generated = -(-rows // self.reuse)
        self._shard_size = SCATTERS_PER_SHARD if process.commands else SOFT_CROSSINGS_PER_SHARD
        self._pythia: PythiaGenerator | None = None
        self._simulator: CrossingSimulator | None = None
        self._sigma_nd_mb = 0.0

    @property
    def name(self) -> str:
        """Stem of the file."""
        return f"l1_{self.process.name}"

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return -(-self.n_generated // self._shard_size)

    @property
    def n_events(self) -> int:
        """Number of rows of the file."""
        return self.n_generated * self.reuse

    def identity(self) -> dict[str, Any]:
        """Settings that decide the bytes."""
        return {
            "process": self.process.name,
            "commands": list(self.process.commands),
            "n_generated": self.n_generated,
            "reuse": self.reuse,
            "shard_size": self._shard_size,
            "pile_up": self.pile_up,
            "regions": self.with_regions,
            "pool": self.pool_settings,
            "centre_of_mass_gev": CENTRE_OF_MASS_GEV,
        }

    def prepare(self) -> None:
        """Opens the pool and starts Pythia."""
        pool, self._sigma_nd_mb = open_pool(self.pool_file)
        self._simulator = CrossingSimulator(pool, self.pile_up, self.with_regions)
        if self.process.commands:
            self._pythia = PythiaGenerator(self.process.commands)

    def make(self, shard: int, seed: int) -> dict[str, NDArray[Any]]:
        """One shard's rows, with the scalars sigma_mb, sigma_error_mb and n_tried of the scatters in it."""
        if self._simulator is None:
            self.prepare()
        assert self._simulator is not None
        pythia_seed, detector_seed = shard_seeds(seed, self.name, shard)
        rng = np.random.default_rng(detector_seed)
        first = shard * self._shard_size
        n = min(self._shard_size, self.n_generated - first)
        rows: dict[str, NDArray[Any]]
        if self._pythia is None:
            crossings = self._simulator.minimum_bias(n, rng)
            rows = {"offline": np.zeros((n, len(OFFLINE_NAMES)), np.float32), **_no_cross_section()}
        else:
            batch = self._pythia.generate(n, pythia_seed)
            crossings = self._simulator.with_scatters(detector_particles(batch), self.reuse, rng)
            rows = {
                "offline": np.repeat(offline_quantities(batch), self.reuse, axis=0),
                "sigma_mb": np.asarray(batch.sigma_mb),
                "sigma_error_mb": np.asarray(batch.sigma_error_mb),
                "n_tried": np.asarray(batch.n_tried, np.int64),
            }
        rows["gid"] = np.repeat(np.arange(first, first + n, dtype=np.int64), self.reuse)
        return {**rows, **_crossing_rows(crossings)}

    def merge(self, shards: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """All shards in order, with the scalars of the file format (provenance is the writer's to add)."""
        per_row: list[str] = [name for name in ("x", "gid", "npu", "offline", "regions") if name in shards[0]]
        merged = {name: np.concatenate([shard[name] for shard in shards]) for name in per_row}
        sigma_mb, sigma_error_mb = merged_cross_section(shards)
        _, sigma_nd_mb = open_pool(self.pool_file)
        return {
            **merged,
            "offline_names": np.array(OFFLINE_NAMES),
            "sigma_mb": np.asarray(sigma_mb),
            "sigma_error_mb": np.asarray(sigma_error_mb),
            "sigma_nd_mb": np.asarray(sigma_nd_mb),
            "n_gen": np.asarray(self.n_generated, np.int64),
            "reuse": np.asarray(self.reuse, np.int64),
            "pileup": np.asarray(self.pile_up),
            "pthat_min_gev": np.asarray(self.process.pt_hat_gev[0]),
            "pthat_max_gev": np.asarray(self.process.pt_hat_gev[1]),
        }


def merged_cross_section(shards: list[dict[str, NDArray[Any]]]) -> tuple[float, float]:
    """Mean cross-section of the shards (mb) and its error, weighted by the phase-space points each one tried.

    A shard's estimate is a sum over its tried points divided by their number, so this weight gives the estimate of
    all points together; weights from the shards' own errors would favour those that came out low.
    """
    tried = np.array([float(shard["n_tried"]) for shard in shards])
    if not tried.any():
        return 0.0, 0.0
    weights = tried / tried.sum()
    sigma = np.array([float(shard["sigma_mb"]) for shard in shards])
    errors = np.array([float(shard["sigma_error_mb"]) for shard in shards])
    return float(weights @ sigma), float(np.sqrt(np.sum((weights * errors) ** 2)))


def _no_cross_section() -> dict[str, NDArray[Any]]:
    return {"sigma_mb": np.asarray(0.0), "sigma_error_mb": np.asarray(0.0), "n_tried": np.asarray(0, np.int64)}


def _crossing_rows(crossings: Crossings) -> dict[str, NDArray[Any]]:
    rows: dict[str, NDArray[Any]] = {"x": crossings.words, "npu": crossings.collisions}
    if crossings.regions is not None:
        rows["regions"] = crossings.regions
    return rows
