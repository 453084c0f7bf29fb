"""Pythia 8 as a source of final-state particles in flat numpy arrays.

One instance serves many shards. Reseeding the random numbers and clearing the statistics before every shard makes a
shard's bytes a function of its seed alone, whichever shards the process made before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError, ToolError

CENTRE_OF_MASS_GEV = 13_600.0
_MAX_PYTHIA_SEED = 900_000_000
# a batch that yields this few events per call has something wrong with its settings
_MAX_CALLS = 20
_CHARGED_PLUS = (211, 321, 2212, -11, -13, -15, 3222, -3112, -3312, -3334)


@dataclass(frozen=True)
class ParticleBatch:
    """Final-state particles of ``n_events`` collisions, neutrinos included.

    px, py, pz, energy   float64 ``(particles,)``, GeV
    pid                  int64 ``(particles,)``, PDG code
    offsets              int64 ``(events + 1,)``: event ``i`` owns particles ``offsets[i]:offsets[i + 1]``
    pt_hat_gev, m_hat_gev  float64 ``(events,)``: transverse momentum and mass of the hard scatter
    sigma_mb, sigma_error_mb  cross-section and its statistical error, from this batch's tried phase-space points
    n_tried              number of phase-space points tried: the weight of ``sigma_mb`` when batches are averaged
    """

    px: NDArray[np.float64]
    py: NDArray[np.float64]
    pz: NDArray[np.float64]
    energy: NDArray[np.float64]
    pid: NDArray[np.int64]
    offsets: NDArray[np.int64]
    pt_hat_gev: NDArray[np.float64]
    m_hat_gev: NDArray[np.float64]
    sigma_mb: float
    sigma_error_mb: float
    n_tried: int

    @property
    def n_events(self) -> int:
        """Number of collisions."""
        return len(self.offsets) - 1

    @property
    def pt(self) -> NDArray[np.float64]:
        """Transverse momenta, GeV, float64 ``(particles,)``."""
        return np.hypot(self.px, self.py)

    @property
    def charge(self) -> NDArray[np.int8]:
        """Electric charge of each particle, int8 ``(particles,)``; every charged particle that Pythia leaves stable."""
        plus = np.isin(self.pid, _CHARGED_PLUS)
        minus = np.isin(-self.pid, _CHARGED_PLUS)
        return plus.astype(np.int8) - minus.astype(np.int8)

    def select(self, keep: NDArray[np.bool_]) -> ParticleBatch:
        """The same collisions with only the particles of ``keep`` (bool ``(particles,)``)."""
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return ParticleBatch(
            px=self.px[keep],
            py=self.py[keep],
            pz=self.pz[keep],
            energy=self.energy[keep],
            pid=self.pid[keep],
            offsets=kept_before[self.offsets].astype(np.int64),
            pt_hat_gev=self.pt_hat_gev,
            m_hat_gev=self.m_hat_gev,
            sigma_mb=self.sigma_mb,
            sigma_error_mb=self.sigma_error_mb,
            n_tried=self.n_tried,
        )


def shard_seeds(seed: int, name: str, shard: int) -> tuple[int, int]:
    """Seeds of one shard: one for Pythia (1..900 000 000), one for everything else (32 bits).

    They depend on nothing but the user's ``seed``, the ``name`` of the process and the shard's number.
    """
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative", hint="give a seed >= 0")
    words = np.random.SeedSequence([seed, crc32(name.encode()), shard]).generate_state(2)
    return int(words[0]) % _MAX_PYTHIA_SEED + 1, int(words[1])


def pythia_version() -> str:
    """Version of the installed pythia8mc, for provenance; ``absent`` without it."""
    try:
        return version("pythia8mc")
    except PackageNotFoundError:
        return "absent"


def require_generate_extra() -> None:
    """Raises ToolError, naming the extra, when pythia8mc, awkward or numba is not installed."""
    for package in ("pythia8mc", "awkward", "numba"):
        try:
            version(package)
        except PackageNotFoundError as error:
            raise ToolError(
                f"{package} is not installed, and the event generators need it",
                hint="pip install --only-binary pythia8mc 'trigger_prune[generate]'",
            ) from error


class PythiaGenerator:
    """An initialised Pythia 8.

    ``commands`` are Pythia settings (``"HardQCD:all=on"``). The start is seeded by the settings alone: it finds the
    phase-space maxima, which all shards of a process must share.
    Raises ToolError when pythia8mc is absent or refuses to start, ConfigError on a setting it does not know.
    """

    def __init__(self, commands: Sequence[str], centre_of_mass_gev: float = CENTRE_OF_MASS_GEV) -> None:
        require_generate_extra()
        import pythia8mc

        self.commands = tuple(commands)
        start_seed = crc32("\n".join(self.commands).encode()) % _MAX_PYTHIA_SEED + 1
        self._pythia = pythia8mc.Pythia("", False)
        for command in (
            "Print:quiet=on",
            f"Beams:eCM={centre_of_mass_gev:g}",
            "Random:setSeed=on",
            f"Random:seed={start_seed}",
            # stat() is the only public way to clear the counts behind the cross-section: silent, and clearing
            "Stat:showProcessLevel=off",
            "Stat:showPartonLevel=off",
            "Stat:showErrors=off",
            "Stat:reset=on",
            *self.commands,
        ):
            if not self._pythia.readString(command):
                raise ConfigError(f"Pythia {pythia_version()} does not understand the setting {command!r}")
        if not self._pythia.init():
            raise ToolError(f"Pythia {pythia_version()} could not start with {', '.join(self.commands)}")

    def generate(self, n_events: int, seed: int) -> ParticleBatch:
        """``n_events`` collisions, the same bytes for the same ``seed`` (1..900 000 000) whatever was made before."""
        import awkward

        if not 1 <= seed <= _MAX_PYTHIA_SEED:
            raise ConfigError(f"Pythia takes seeds from 1 to {_MAX_PYTHIA_SEED}, not {seed}")
        self._pythia.stat()
        self._pythia.rndm.init(seed)
        records: list[Any] = []
        missing = n_events
        for _ in range(_MAX_CALLS):
            # a collision that Pythia gives up on is left out of the batch, so the rest is asked for again
            record = self._pythia.nextBatch(missing)
            records.append(record)
            missing -= len(record)
            if missing == 0:
                break
        else:
            raise ToolError(
                f"Pythia made only {n_events - missing} of {n_events} events in {_MAX_CALLS} calls "
                f"with {', '.join(self.commands)}"
            )
        particles = awkward.concatenate([record.prt for record in records]) if len(records) > 1 else records[0].prt
        info = self._pythia.infoPython()
        hats = [np.concatenate([awkward.to_numpy(record.info[name]) for record in records]) for name in _HATS]
        return _flat_batch(particles, hats, float(info.sigmaGen()), float(info.sigmaErr()), int(info.nTried()))


_HATS = ("pT2Hat", "mHat")


def _flat_batch(
    particles: Any, hats: list[NDArray[np.float64]], sigma_mb: float, sigma_error_mb: float, n_tried: int
) -> ParticleBatch:
    """Pythia's awkward record, decayed particles left out, as flat arrays."""
    import awkward

    def flat(array: Any) -> NDArray[Any]:
        values: NDArray[Any] = awkward.to_numpy(awkward.flatten(array))
        return values

    final = flat(particles.status) > 0
    counts = awkward.to_numpy(awkward.num(particles))
    final_before = np.concatenate([[0], np.cumsum(final)])
    ends = np.concatenate([[0], np.cumsum(counts)])
    momentum = particles.p
    return ParticleBatch(
        px=flat(momentum.px)[final].astype(np.float64),
        py=flat(momentum.py)[final].astype(np.float64),
        pz=flat(momentum.pz)[final].astype(np.float64),
        energy=flat(momentum.e)[final].astype(np.float64),
        pid=flat(particles.id)[final].astype(np.int64),
        offsets=final_before[ends].astype(np.int64),
        pt_hat_gev=np.sqrt(hats[0].astype(np.float64)),
        m_hat_gev=hats[1].astype(np.float64),
        sigma_mb=sigma_mb,
        sigma_error_mb=sigma_error_mb,
        n_tried=n_tried,
    )
