"""Keys of project.yaml about the search for bits without training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trigger_prune.config._section import PositiveInt, Section


class PrecisionConfig(Section):
    """Bits per layer of the float network without training (`trigger-prune precision`), and profiles of ranges."""

    weight_bits: Annotated[list[Annotated[int, Field(ge=2, le=16)]], Field(min_length=1)] = Field(
        default=[2, 3, 4, 5, 6, 7, 8], description="Bits that the weights of a layer may have."
    )
    activation_bits: Annotated[list[Annotated[int, Field(ge=1, le=16)]], Field(min_length=1)] = Field(
        default=[3, 4, 5, 6, 7, 8],
        description="Bits that a wire between layers may have; a signed one has two or more.",
    )
    tolerance: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="Largest fall of the objective on validation events below the float network's: the network with "
        "the least of `minimise` within it is searched, whatever the budget (default: the network with the smallest "
        "loss within section budget).",
    )
    minimise: Literal["lut", "ff", "dsp", "bram18"] = Field(
        default="lut", description="With a tolerance: what shall be small."
    )
    overflow_probability: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=1e-3,
        description="Largest probability per event that a wire saturates: its integer bits are chosen such that the "
        "training events prove it (null: where the mean squared error is smallest, however often that saturates).",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="Confidence of that proof, and of the limits on overflow rates in profiles."
    )
    compensate: bool = Field(
        default=True,
        description="Round the weights of a neuron one after the other, each repairing what the one before did to the "
        "output (GPTQ); off: every weight to the nearest value.",
    )
    max_events: PositiveInt = Field(default=20_000, description="Validation events that judge the candidates.")
    step: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1,
        description="The limits fall by this fraction from network to network; candidates are judged anew around each.",
    )
    rounds: PositiveInt = Field(default=4, description="Solutions at the final limits, each around the one before.")
    measure: bool = Field(
        default=True,
        description="Measure the chosen network with cost.backend, and search again where it exceeds the budget.",
    )
