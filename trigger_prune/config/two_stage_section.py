"""Section ``two_stage``: a light model on every object and a time-shared full model on what is left."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trigger_prune.config._section import Section

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class LightConfig(Section):
    """One light model to try."""

    kind: Literal["pruned", "tiny", "inputs"] = Field(
        description="pruned: the full network pruned further. tiny: a small network. inputs: a small network "
        "that reads only the most useful features."
    )
    name: str | None = Field(default=None, description="Name in tables (default: made from the other keys).")
    sparsity: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.95, description="pruned: share of the weights that are removed."
    )
    hidden: list[Positive] = Field(default=[8], description="tiny and inputs: neurons per hidden layer.")
    inputs: Positive = Field(default=8, description="inputs: number of features that are read.")
    difficulty: Literal["score", "learned"] = Field(
        default="score",
        description="score: the light model is trained for the task, and what lies between its thresholds goes to the "
        "full model. learned: it is trained to say whether the full model would accept at the target rate; "
        "distil has no effect then.",
    )
    distil: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5, description="tiny and inputs: weight of the full model's scores against the labels in the loss."
    )
    weight_bits: Annotated[int, Field(ge=2, le=16)] = Field(default=6, description="Bits of a weight.")
    activation_bits: Annotated[int, Field(ge=2, le=16)] = Field(default=7, description="Bits of an activation.")
    epochs: Positive = Field(
        default=20,
        description="tiny and inputs: epochs of the float and again of the quantised training. pruned: of ramp and "
        "final training together.",
    )


class TwoStageConfig(Section):
    """Two-stage trigger: ``trigger-prune two-stage PROJECT``."""

    lights: list[LightConfig] = Field(
        default_factory=lambda: [
            LightConfig(kind="pruned"),
            LightConfig(kind="tiny"),
            LightConfig(kind="tiny", difficulty="learned"),
            LightConfig(kind="inputs"),
        ],
        min_length=1,
        description="Light models to try.",
    )
    full: str = Field(
        default="dense",
        description="The full model: dense (the quantised network before pruning), deployed (the pruned one), or the "
        "folder of a network that `trigger-prune enter` made.",
    )
    strategy: Literal["Resource", "Latency", "distributed_arithmetic"] = Field(
        default="Resource",
        description="hls4ml strategy of the full model. distributed_arithmetic is fully unrolled and cannot be "
        "time-shared: two stages save nothing then.",
    )
    reuse_factors: list[Positive] | None = Field(
        default=None,
        description="Reuse factors of the full model (default: those the layers allow, from 1 to eight crossings).",
    )
    full_reports: dict[Positive, str] = Field(
        default_factory=dict,
        description="C synthesis reports of the full model: reuse factor -> csynth.xml, solution or hls4ml project, "
        "e.g. {16: reports/rf16, 32: reports/rf32}. These reuse factors are measured, the others estimated.",
    )
    clock_multiples: list[Positive] | None = Field(
        default=None, description="Clock cycles per bunch crossing (default: that of target.clock_period_ns)."
    )
    escalated: list[Share] = Field(
        default=[0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5],
        min_length=1,
        description="Shares of the objects that go to the full model, at most.",
    )
    fifo_depths: list[Annotated[int, Field(ge=0)]] = Field(
        default=[0, 1, 2, 3, 4, 6, 8], min_length=1, description="Objects that can wait for the full model."
    )
    latency_budget_ns: Annotated[float, Field(gt=0)] = Field(
        default=1000.0, description="Fixed latency of the decision, in whole crossings, at most."
    )
    smaller_budgets_ns: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list,
        description="Latency budgets below latency_budget_ns for which the best design and the recommendation are "
        "given too.",
    )
    multiplicity: list[Annotated[float, Field(ge=0, le=1)]] | None = Field(
        default=None,
        max_length=17,
        description="Probability of 0, 1, 2, ... objects in a filled crossing, where a row of the events is one object "
        "such as a jet (default: a row is the one object of its crossing).",
    )
    max_overflow: Share = Field(default=1e-3, description="Largest loss of the FIFO per escalated object.")
    max_loss: Share = Field(
        default=0.01, description="Largest relative loss of signal efficiency that the recommendation accepts."
    )
    signal: str | None = Field(
        default=None, description="Signal class whose efficiency counts (default: all signal classes together)."
    )
    resource: Literal["lut", "ff", "dsp"] = Field(default="dsp", description="Resource that is to be small.")

    @model_validator(mode="after")
    def _require_a_distribution(self) -> TwoStageConfig:
        if self.multiplicity is not None and abs(sum(self.multiplicity) - 1) > 1e-6:
            raise ValueError(f"multiplicity adds up to {sum(self.multiplicity):g}, not to 1")
        return self

    @model_validator(mode="after")
    def _require_smaller_budgets(self) -> TwoStageConfig:
        large = [budget for budget in self.smaller_budgets_ns if budget >= self.latency_budget_ns]
        if large:
            raise ValueError(
                f"smaller_budgets_ns: {large[0]:g} is not below latency_budget_ns {self.latency_budget_ns:g}"
            )
        return self
