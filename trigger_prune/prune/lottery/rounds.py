"""Finished rounds on disk: a stopped search goes on after the last of them."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigger_prune.prune.lottery.ticket import save_aside, state_digest
from trigger_prune.prune.lottery.training import State


@dataclass(frozen=True, eq=False)
class StoredRound:
    """Record, masks and trained weights of a round; round 0 also has the weights to rewind to."""

    record: dict[str, Any]
    masks: dict[str, Tensor]
    trained: State
    rewound: State | None = None


@dataclass(frozen=True)
class RoundStore:
    """One file per round in ``folder``. Files of another ``key`` (whatever decides the results) are not read."""

    folder: Path
    key: str

    def add(self, entry: StoredRound) -> None:
        """Write a round, under a temporary name first."""
        payload = {"key": self.key, **entry.__dict__, "digest": state_digest(_tensors(entry))}
        save_aside(payload, self._path(entry.record["round"]))

    def read(self) -> list[StoredRound]:
        """The rounds from 0 on without a gap; a damaged or foreign file ends them, with a warning."""
        found: list[StoredRound] = []
        while (path := self._path(len(found))).exists():
            try:
                raw: Any = torch.load(path, map_location="cpu", weights_only=True)
                if raw.pop("key") != self.key:
                    raise ValueError("it is of another search")
                digest = raw.pop("digest")
                entry = StoredRound(**raw)
                if digest != state_digest(_tensors(entry)):
                    raise ValueError("its weights are not the ones that were written")
            except (
                OSError,
                EOFError,
                RuntimeError,
                pickle.UnpicklingError,
                LookupError,
                TypeError,
                ValueError,
            ) as error:
                warnings.warn(f"{path} is not used, the search goes on before it: {error}", stacklevel=2)
                break
            found.append(entry)
        return found

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:03d}.pt"


def _tensors(entry: StoredRound) -> State:
    parts = {"mask": entry.masks, "trained": entry.trained, "rewound": entry.rewound or {}}
    return {f"{part} {name}": value for part, state in parts.items() for name, value in state.items()}
