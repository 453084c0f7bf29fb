"""Keys of project.yaml about the network, its training and quantisation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from trigger_prune.config._section import PositiveInt, RoundingName, Section


class ModelConfig(Section):
    """The network."""

    name: str = Field(
        default="mlp",
        description="A reference model (mlp, conv1d, conv2d, deep_sets, autoencoder, encoder) or "
        "`package.module:Callable` that returns a torch nn.Module; the folder of project.yaml is searched first.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments. `input_shape` (one event, without batch axis) and `n_outputs` are added when "
        "the callable takes them.",
    )


class TeacherConfig(Section):
    """Task distil: an autoencoder too large for the FPGA, trained on train.classes alone; the network follows it."""

    target: Literal["latent", "error"] = Field(
        default="error",
        description="What the network learns: the latent vector of the teacher (its score is the sum of squares, as in "
        "AXOL1TL), or the logarithm of the teacher's reconstruction error (as in CICADA).",
    )
    start_from_teacher: bool = Field(
        default=True,
        description="target latent: the teacher's encoder is the project's network itself, which starts with its "
        "weights; otherwise channels and hidden describe the encoder.",
    )
    channels: list[PositiveInt] = Field(
        default=[],
        description="Convolutions of 3 x 3 before the encoder's dense layers, for images; the image is halved between "
        "them. The decoder mirrors them.",
    )
    hidden: list[PositiveInt] = Field(
        default=[64, 32], description="Widths of the encoder's dense layers; the decoder mirrors them."
    )
    latent: PositiveInt = Field(default=8, description="Width of the bottleneck.")
    kl_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Weight of the Kullback-Leibler divergence, in nats per event, of a variational autoencoder beside "
        "the mean reconstruction error; 0 is a plain autoencoder.",
    )
    reconstruction: Literal["squared", "huber"] = Field(
        default="squared",
        description="Reconstruction error, in standard deviations of each feature: squared, or linear beyond one of "
        "them, so that a few values far out do not rule.",
    )
    skip_zeros: bool = Field(
        default=False,
        description="A value that is 0 in the events is that of an absent object and does not count in the "
        "reconstruction.",
    )
    weight_power: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0,
        description="Event weights enter the teacher's loss to this power; 1 is what the detector sees.",
    )
    epochs: PositiveInt = Field(default=40, description="Passes over the background of the training part.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=2e-3, description="Peak learning rate.")


class TrainConfig(Section):
    """Training in floating point."""

    epochs: PositiveInt = Field(default=60, description="At most so many passes over the training part.")
    batch_size: PositiveInt = Field(
        default=1024, description="Events per step; fewer on a small sample, so that an epoch has 20 steps."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=4e-3, description="Peak of the one-cycle schedule (AdamW)."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=1e-4, description="Decoupled weight decay.")
    patience_epochs: PositiveInt = Field(
        default=20, description="Stop when the validation loss has not improved for so long."
    )
    gradient_clip_norm: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Gradients are clipped to this norm."
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="`balanced` multiplies event weights so that every class has the same total weight."
    )
    weight_power: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0,
        description="Event weights enter the loss to this power: below 1, a few events of large weight do not rule.",
    )
    classes: list[str] | None = Field(
        default=None, description="Train on these classes only, e.g. [minimum_bias] for an anomaly trigger."
    )
    loss: Literal["default", "efficiency_surrogate"] = Field(
        default="default",
        description="default: cross-entropy of classes, squared difference of an autoencoder. efficiency_surrogate: "
        "a smooth bound of the signal efficiency at the objective's background rate is added.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto` takes CUDA when present.")


class QuantizeConfig(Section):
    """Quantisation-aware training."""

    weight_bits: Annotated[int, Field(ge=2, le=16)] = Field(default=6, description="Bits of a weight, sign included.")
    activation_bits: Annotated[int, Field(ge=1, le=16)] = Field(
        default=6, description="Bits of an activation after ReLU."
    )
    rounding: RoundingName = Field(
        default="AP_TRN", description="Rounding of activations; AP_TRN drops bits and costs nothing."
    )
    epochs: PositiveInt = Field(default=30, description="Epochs of quantisation-aware training.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=2e-3, description="Peak learning rate.")


class BaselineConfig(Section):
    """The dense network every saving is measured against."""

    bits: Annotated[int, Field(ge=2, le=16)] = Field(default=8, description="Bits of weights and activations.")
    epochs: PositiveInt = Field(default=15, description="Epochs of quantisation-aware training.")
