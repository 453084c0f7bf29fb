"""``LightModel``: the small network that judges every object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import fx

from trigger_prune.physics.scores import Score

LightKind = Literal["pruned", "tiny", "inputs"]
Difficulty = Literal["score", "learned"]


@dataclass(frozen=True, eq=False)
class LightModel:
    """A quantised network and how its outputs become the light score.

    network       reads the features ``kept_inputs`` of an event, in this order
    score         from its outputs to the light score; for difficulty ``learned`` the only output says how likely the
                  full model accepts
    notes         what a reader of the tables must know, one sentence each
    """

    name: str
    kind: LightKind
    difficulty: Difficulty
    network: fx.GraphModule
    kept_inputs: tuple[int, ...]
    score: Score
    notes: tuple[str, ...] = ()
