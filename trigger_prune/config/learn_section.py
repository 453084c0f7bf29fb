"""Keys of project.yaml about bit widths that are trained together with the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trigger_prune.config._section import PositiveInt, Section

Granularity = Literal["tensor", "channel", "element"]


class LearnConfig(Section):
    """prune.scope learned: widths of weights and activations are trained, and what reaches zero bits is pruned."""

    weights: Granularity = Field(
        default="element", description="Weights that share a width: a tensor, an output channel, or none (element)."
    )
    activations: Literal["tensor", "channel"] | None = Field(
        default=None,
        description="Activations that share a type. channel: every neuron its own, with cost.backend rtl or analytic; "
        "hls4ml has one type per tensor (default: channel where the backend allows it).",
    )
    inputs: bool = Field(
        default=True, description="Train the widths of the network's inputs as well (with activations: channel)."
    )
    overflow: Literal["wrap", "saturate"] = Field(
        default="wrap",
        description="What an activation above its range does. wrap drops the upper bits and costs nothing; the integer "
        "bits hold every training event (with activations: channel). saturate needs a comparator.",
    )
    weight_bits: Annotated[int, Field(ge=3, le=16)] = Field(default=7, description="Bits of every weight at the start.")
    activation_bits: Annotated[int, Field(ge=3, le=16)] = Field(
        default=7, description="Bits of every activation at the start."
    )
    charge: Literal["adder_bits", "ebops"] = Field(
        default="adder_bits",
        description="What the training is charged for its bits. adder_bits: expected canonical signed digits times "
        "input bits, near to LUTs. ebops: effective bit operations, weight bits times input bits.",
    )
    epochs: PositiveInt = Field(
        default=800, description="Epochs on the way from the start to the budget: the longer, the better the network."
    )
    anneal_epochs: PositiveInt = Field(
        default=200, description="Epochs at the budget, in which the learning rate falls to a hundredth."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=6e-3, description="Learning rate, of weights and bits."
    )
    checkpoints: Annotated[int, Field(ge=1, le=8)] = Field(
        default=2,
        description="Networks measured on the way, at costs a factor 2 apart, the last one at the budget: they correct "
        "what the training believes a bit costs, and are points of the front.",
    )
    tolerance: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="A network that needs less than 1 - tolerance of the budget is trained further."
    )

    def per_channel(self, backend: str) -> bool:
        """Whether every neuron gets a type of its own. Raises ValueError where the backend cannot build that."""
        possible = backend in ("rtl", "analytic")
        if self.activations == "channel" and not possible:
            raise ValueError(f"learn.activations: channel cannot be built by cost.backend {backend}; use tensor")
        return possible if self.activations is None else self.activations == "channel"
