"""The five classes of jets and their production with Pythia 8, shard by shard."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError
from trigger_prune.generate.pythia import CENTRE_OF_MASS_GEV, require_generate_extra, shard_seeds

if TYPE_CHECKING:
    from trigger_prune.generate.pythia import PythiaGenerator

COLLISIONS_PER_SHARD = 500
"""About 4 s of work and 100 MB: what a kill loses, and what a worker holds at once."""

_PT_HAT = ("PhaseSpace:pTHatMin=950", "PhaseSpace:pTHatMax=1150")
_DECAYS = ("24:onMode=off", "24:onIfAny=1 2 3 4 5", "23:onMode=off", "23:onIfAny=1 2 3 4 5")
_GRAVITON = (
    "ExtraDimensionsG*:all=on",
    "ExtraDimensionsG*:SMinBulk=on",
    "ExtraDimensionsG*:VLVL=on",
    "5100039:m0=2200",
    "5100039:onMode=off",
)

PROCESSES: dict[str, tuple[str, ...]] = {
    "g": ("HardQCD:gg2gg=on", "HardQCD:qqbar2gg=on", *_PT_HAT, *_DECAYS),
    "q": ("HardQCD:gg2qqbar=on", "HardQCD:qq2qq=on", "HardQCD:qqbar2qqbarNew=on", *_PT_HAT, *_DECAYS),
    "W": (*_GRAVITON, "5100039:onIfAny=24", *_PT_HAT, *_DECAYS),
    "Z": (*_GRAVITON, "5100039:onIfAny=23", *_PT_HAT, *_DECAYS),
    "t": ("Top:gg2ttbar=on", "Top:qqbar2ttbar=on", *_PT_HAT, *_DECAYS),
}
"""Class -> Pythia settings, in the order of the labels; the sample ``builtin:jets16`` was made with these."""

CLASSES = tuple(PROCESSES)


class JetMaker:
    """Jets of ``collisions`` collisions of each class (see ``driver.ShardMaker``): the file ``jets.npz``.

    Raises ConfigError when ``collisions`` is not positive.
    """

    name = "jets"

    def __init__(self, collisions: int) -> None:
        if collisions < 1:
            raise ConfigError(f"--events {collisions}: nothing to make", hint="give the collisions of each class")
        self.collisions = collisions
        self._generators: dict[str, PythiaGenerator] = {}

    @property
    def shards_per_class(self) -> int:
        """Shards of one class; the last one may be smaller."""
        return -(-self.collisions // COLLISIONS_PER_SHARD)

    @property
    def n_shards(self) -> int:
        """Shards of all classes."""
        return len(CLASSES) * self.shards_per_class

    @property
    def n_events(self) -> int:
        """Collisions of all classes."""
        return len(CLASSES) * self.collisions

    def identity(self) -> dict[str, Any]:
        """Settings that decide the bytes."""
        from trigger_prune.generate.jets.features import FEATURES, JetSelection

        return {
            "collisions_per_class": self.collisions,
            "collisions_per_shard": COLLISIONS_PER_SHARD,
            "processes": {name: list(commands) for name, commands in PROCESSES.items()},
            "centre_of_mass_gev": CENTRE_OF_MASS_GEV,
            "selection": asdict(JetSelection()),
            "features": list(FEATURES),
        }

    def prepare(self) -> None:
        """Raises ToolError when a package of the extra is missing. Pythia starts with the first shard of a class."""
        require_generate_extra()

    def make(self, shard: int, seed: int) -> dict[str, NDArray[Any]]:
        """Jets of one shard of one class: x, kin, constituents, collision (within the shard), label, cross-section."""
        from trigger_prune.generate.jets.features import JetSelection, find_jets, visible_particles
        from trigger_prune.generate.pythia import PythiaGenerator

        label, part = divmod(shard, self.shards_per_class)
        name = CLASSES[label]
        n = min(COLLISIONS_PER_SHARD, self.collisions - part * COLLISIONS_PER_SHARD)
        if name not in self._generators:
            self._generators[name] = PythiaGenerator(PROCESSES[name])
        batch = self._generators[name].generate(n, shard_seeds(seed, f"jets_{name}", part)[0])
        selection = JetSelection()
        momenta = np.stack([batch.px, batch.py, batch.pz, batch.energy], axis=1)
        visible = visible_particles(momenta, batch.pid, selection)
        jets = find_jets(momenta[visible], batch.select(visible).offsets, selection)
        return {
            "x": jets.features.astype(np.float32),
            "kin": jets.kinematics.astype(np.float32),
            "constituents": _channels(jets.constituents),
            "collision": jets.collision,
            "label": np.asarray(label, np.int8),
            "n_gen": np.asarray(n),
            "sigma_mb": np.asarray(batch.sigma_mb),
            "n_tried": np.asarray(batch.n_tried),
        }

    def merge(self, shards: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """The file: x, y, group, kin, constituents with collisions of all classes mixed, names, cross-sections.

        Rows are mixed, so that the first rows (``data.max_events``) hold every class; jets of a collision stay
        together, and ``group`` rises from 0.
        """
        rows = [len(shard["x"]) for shard in shards]
        labels = np.repeat([int(shard["label"]) for shard in shards], rows)
        shard_of_row = np.repeat(np.arange(len(shards)), rows)
        collision = np.concatenate([shard["collision"] for shard in shards])
        _, group = np.unique(shard_of_row * COLLISIONS_PER_SHARD + collision, return_inverse=True)
        # what is mixed was drawn independently: one fixed order of collisions is as good as any
        place = np.random.default_rng(0).permutation(int(group.max(initial=-1)) + 1)
        group = place[group]
        order = np.argsort(group, kind="stable")
        return {
            "x": np.concatenate([shard["x"] for shard in shards])[order],
            "y": labels[order].astype(np.int8),
            "group": group[order].astype(np.int32),
            "kin": np.concatenate([shard["kin"] for shard in shards])[order],
            "constituents": np.concatenate([shard["constituents"] for shard in shards])[order],
            "features": np.array(self.identity()["features"]),
            "classes": np.array(CLASSES),
            **_per_class(shards),
        }


def _channels(constituents: NDArray[np.float64]) -> NDArray[np.float16]:
    """Events as networks read them, ``(jets, 3, 16)``: log2(1 + pT / GeV), d_eta, d_phi; see CONSTITUENT_FEATURES."""
    channels = np.moveaxis(constituents, 2, 1).copy()
    channels[:, 0] = np.log2(1 + channels[:, 0])
    return channels.astype(np.float16)


def _per_class(shards: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Collisions generated (n_gen) and cross-section in mb (sigma_mb, weighted by tried points) of each class."""
    label = np.array([int(shard["label"]) for shard in shards])
    tried = np.array([float(shard["n_tried"]) for shard in shards])
    sigma = np.array([float(shard["sigma_mb"]) for shard in shards])
    n_gen = np.array([int(shard["n_gen"]) for shard in shards])
    n_classes = len(CLASSES)
    summed = np.bincount(label, tried * sigma, n_classes) / np.bincount(label, tried, n_classes)
    return {"n_gen": np.bincount(label, n_gen, n_classes).astype(np.int64), "sigma_mb": summed}
