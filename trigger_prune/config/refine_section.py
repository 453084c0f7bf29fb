"""Keys of project.yaml about the refinement of the pruned network for LUTs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trigger_prune.config._section import PositiveInt, Section

NonNegativeInt = Annotated[int, Field(ge=0)]


class RefineConfig(Section):
    """Refinement for LUTs behind the pruning: weights move to grid values with fewer signed digits.

    It pays where multiplications become adders (backend `rtl`, or strategy distributed_arithmetic), not where DSPs
    multiply.
    """

    enabled: bool = Field(default=False, description="Whether the pruned network is refined.")
    headroom: Annotated[float, Field(ge=1, le=4)] = Field(
        default=1.0,
        description="Prune to so many times the LUTs and FFs of the budget, and refine from there into the budget: "
        "more weights, of fewer digits. 1: prune to the budget, and refine below it by largest_merit_loss.",
    )
    saving_per_round: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="Fraction of the cost that a round of moves saves, by the model of the cost."
    )
    rounds: PositiveInt = Field(
        default=60, description="Rounds at most; every one ends with a fine-tuning and a measurement."
    )
    fine_tune_epochs: NonNegativeInt = Field(
        default=15,
        description="Epochs of fine-tuning after a round, in which no weight may grow digits. 0: no training at all, "
        "the refinement only moves codes.",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=2e-3, description="Peak learning rate of that fine-tuning."
    )
    largest_merit_loss: Annotated[float, Field(ge=0)] = Field(
        default=0.002,
        description="How far the objective may fall on validation events; the cheapest network within it is taken.",
    )
    max_cost: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Take the network of the best objective that costs at most so many units of alkaid's adder graph "
        "(a LUT is 0.8 to 1.06 of them), whatever it loses; default: as little as largest_merit_loss allows.",
    )
    chain: PositiveInt = Field(
        default=3, description="Codes of one output that may move together, the first to save, the others to repair."
    )
    model_events: PositiveInt = Field(
        default=8192, description="Training events of the quadratic model of the loss, drawn anew in every round."
    )
    descent_passes: NonNegativeInt = Field(
        default=0,
        description="Passes of coordinate descent on the exact training loss, at the end; seconds to minutes each.",
    )
    measure_every: PositiveInt = Field(default=1, description="Rounds between two measurements of the cost.")
