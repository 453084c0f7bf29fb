"""What the rounds of the closed loop leave on disk, so that a killed run goes on after the last finished one."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from trigger_prune.errors import ReportFormatError
from trigger_prune.prune.trial import FailedTrial, Phase, PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.state import network_state
from trigger_prune.quantize.weights_only import content_hash, is_weights_only
from trigger_prune.target import LayerLayout
from trigger_prune.train.history import FitHistory

_FILE = "rounds.pt"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A fine-tuned network whose cost is not measured yet.

    network     its ``network_state``
    layouts     of layers that differ from the target
    predicted   cost that the solver expects
    """

    round: int
    phase: Phase
    history: FitHistory
    network: dict[str, Tensor]
    layouts: tuple[LayerLayout, ...] = ()
    predicted: dict[str, float] = field(default_factory=dict)


@dataclass
class Rounds:
    """Per measured round: the trial, the training history, and the ``network_state``; and the failed rounds.

    steps     numbers of the rounds that were trained side by side, each for another aim; one number where there is one
              candidate
    pending   trained networks of the last step that are still to be measured
    """

    trials: list[PruneTrial] = field(default_factory=list)
    histories: list[FitHistory] = field(default_factory=list)
    networks: list[dict[str, Tensor]] = field(default_factory=list)
    failures: list[FailedTrial] = field(default_factory=list)
    steps: list[tuple[int, ...]] = field(default_factory=list)
    pending: list[Candidate] = field(default_factory=list)

    @property
    def next_round(self) -> int:
        """Number of the next network."""
        return 1 + sum(map(len, self.steps))

    def begin(self, candidates: Sequence[Candidate]) -> None:
        """A further step: its networks are trained, and wait to be measured."""
        self.steps.append(tuple(candidate.round for candidate in candidates))
        self.pending = list(candidates)

    def measured(self, candidate: Candidate, trial: PruneTrial) -> None:
        """The cost of a pending network is known; rounds stay in the order of their numbers."""
        self.pending.remove(candidate)
        at = sum(earlier.round < trial.round for earlier in self.trials)
        self.trials.insert(at, trial)
        self.histories.insert(at, candidate.history)
        self.networks.insert(at, candidate.network)

    def failed(self, candidate: Candidate, failure: FailedTrial) -> None:
        """The cost of a pending network cannot be measured."""
        self.pending.remove(candidate)
        self.failures.append(failure)

    def network_of(self, trial: PruneTrial) -> dict[str, Tensor]:
        """The network of a measured round."""
        return self.networks[next(i for i, each in enumerate(self.trials) if each.round == trial.round)]


def state_of(network: fx.GraphModule) -> dict[str, Tensor]:
    """A copy of the network's weights, masks and types."""
    return network_state(network)


def start_key(network: fx.GraphModule) -> str:
    """Identifies the network that the first round starts from; stored rounds of another one are not used."""
    return content_hash(network) if is_weights_only(network) else describe_network(network).content_hash()


def save_rounds(scratch: Path, key: str, rounds: Rounds) -> None:
    """Write all rounds into the folder ``scratch``, under a temporary name first."""
    payload = {
        "key": key,
        "trials": json.dumps([trial.to_dict() for trial in rounds.trials]),
        "histories": json.dumps([history.to_dict() for history in rounds.histories]),
        "networks": rounds.networks,
        "failures": json.dumps([asdict(failure) for failure in rounds.failures]),
        "steps": json.dumps(rounds.steps),
        "pending": [(_without_network(candidate), candidate.network) for candidate in rounds.pending],
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
            [tuple(step) for step in json.loads(payload["steps"])],
            [_with_network(text, state) for text, state in payload["pending"]],
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


def _without_network(candidate: Candidate) -> str:
    layouts = [asdict(layout) for layout in candidate.layouts]
    return json.dumps(
        {
            "round": candidate.round,
            "phase": candidate.phase,
            "history": candidate.history.to_dict(),
            "layouts": layouts,
            "predicted": candidate.predicted,
        }
    )


def _with_network(text: str, state: dict[str, Tensor]) -> Candidate:
    raw = json.loads(text)
    layouts = tuple(LayerLayout(**layout) for layout in raw["layouts"])
    history = FitHistory.from_dict(raw["history"])
    return Candidate(raw["round"], raw["phase"], history, state, layouts, raw["predicted"])
