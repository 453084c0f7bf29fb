"""Keys of project.yaml about lottery tickets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trigger_prune.config._section import PositiveInt, Section


class LotteryConfig(Section):
    """Lottery tickets: sparse networks found in the float network, trained again from early weights."""

    sparsity: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.9, description="Fraction of the weights that a ticket lacks; reached exactly."
    )
    fraction_per_round: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.3,
        description="Iterative magnitude pruning removes at most this fraction of the weights that are left in a "
        "round; every round removes the same fraction, and the last one ends at `sparsity`.",
    )
    rewind_step: Annotated[int, Field(ge=0)] = Field(
        default=100,
        description="Optimiser step whose weights a ticket starts from again; 0 is the draw itself. Networks beyond "
        "the smallest need some steps, a few per cent of the training, before their tickets are stable.",
    )
    scope: Literal["global", "layer"] = Field(
        default="global",
        description="One ranking over the whole network (no layer falls below half of the network's density), or the "
        "same sparsity in every layer.",
    )
    epochs: PositiveInt | None = Field(
        default=None, description="Epochs of every training, always run to the end; default: train.epochs."
    )
    seeds: PositiveInt = Field(
        default=5,
        description="Repetitions, each with initial weights and an order of events of its own; fewer than 5 give no "
        "verdict.",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="Confidence level of the intervals on differences between networks."
    )
    early_bird_distance: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1,
        description="The early-bird search ends when the masks of successive epochs differ by less than this fraction "
        "of the weights that they keep (above 50 % density: of all weights).",
    )
    early_bird_window: PositiveInt = Field(default=5, description="Successive distances that have to be that small.")
    transfer_from: str | None = Field(
        default=None,
        description="Ticket file of another project or architecture, relative to project.yaml: its mask is transferred "
        "to this network by name and by shape, and tested beside the others.",
    )
