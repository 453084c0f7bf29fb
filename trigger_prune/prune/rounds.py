"""What the rounds of the closed loop leave on disk, so that a killed run goes on after the last finished one."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from trigger_prune.errors import ReportFormatError
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.train.history import FitHistory

_FILE = "rounds.pt"


@dataclass
class Rounds:
    """Per measured round: the trial, the training history, and the network's ``state_dict``; and the failed rounds."""

    trials: list[PruneTrial] = field(default_factory=list)
    histories: list[FitHistory] = field(default_factory=list)
    networks: list[dict[str, Tensor]] = field(default_factory=list)
    failures: list[FailedTrial] = field(default_factory=list)

    def add(self, trial: PruneTrial, history: FitHistory, network: fx.GraphModule) -> None:
        """One more round, with a copy of the network's weights and masks."""
        self.trials.append(trial)
        self.histories.append(history)
        self.networks.append({name: value.detach().clone() for name, value in network.state_dict().items()})


def start_key(network: fx.GraphModule) -> str:
    """Identifies the network that the first round starts from; stored rounds of another one are not used."""
    return describe_network(network).content_hash()


def save_rounds(scratch: Path, key: str, rounds: Rounds) -> None:
    """Write all rounds into the folder ``scratch``, under a temporary name first."""
    payload = {
        "key": key,
        "trials": json.dumps([trial.to_dict() for trial in rounds.trials]),
        "histories": json.dumps([history.to_dict() for history in rounds.histories]),
        "networks": rounds.networks,
        "failures": json.dumps([asdict(failure) for failure in rounds.failures]),
    }
    scratch.mkdir(parents=True, exist_ok=True)
    temporary = scratch / f".{_FILE}.{os.getpid()}"
    try:
        torch.save(payload, temporary)
        temporary.replace(scratch / _FILE)
    finally:
        temporary.unlink(missing_ok=True)


def load_rounds(scratch: Path, key: str) -> Rounds:
    """Rounds of ``key`` found in ``scratch``; none, with a warning, when the file is damaged or of another run."""
    path = scratch / _FILE
    if not path.exists():
        return Rounds()
    try:
        payload: Any = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(payload, dict) or payload["key"] != key:
            raise ValueError("they started from another network")
        rounds = Rounds(
            [PruneTrial.from_dict(raw) for raw in json.loads(payload["trials"])],
            [FitHistory.from_dict(raw) for raw in json.loads(payload["histories"])],
            payload["networks"],
            [FailedTrial(**raw) for raw in json.loads(payload["failures"])],
        )
        if not len(rounds.trials) == len(rounds.histories) == len(rounds.networks):
            raise ValueError("their number differs from list to list")
        return rounds
    except (
        OSError,
        EOFError,
        RuntimeError,
        pickle.UnpicklingError,
        LookupError,
        TypeError,
        ValueError,
        ReportFormatError,
    ) as error:
        warnings.warn(f"the rounds in {path} are not used, pruning starts again: {error}", stacklevel=2)
        return Rounds()
