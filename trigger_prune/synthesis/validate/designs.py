"""The small designs that span what the estimates model: bits, sparsity, reuse factor, strategy, interface, layers.

All weights come from one NumPy generator per design, so that every machine builds the same bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trigger_prune.target import Target

if TYPE_CHECKING:
    from torch import fx, nn

PROJECT_NAME = "network"


@dataclass(frozen=True)
class ValidationDesign:
    """One network and how it is laid out.

    kind             mlp: dense layers; conv1d, conv2d: one convolution (3 or 3 x 3, same size), then a dense layer
    input_shape      of one event: ``(features,)``, ``(channels, positions)`` or ``(channels, rows, columns)``
    widths           outputs of every weight layer; ReLU stands behind each but the last
    sparsity         fraction of zero weights in every layer (smallest magnitudes)
    bits             of weights and activations; ``input_bits`` of the inputs
    softmax          a softmax behind the last layer
    needs            Python package that hls4ml needs to write this project, if any
    """

    name: str
    kind: Literal["mlp", "conv1d", "conv2d"]
    input_shape: tuple[int, ...]
    widths: tuple[int, ...]
    bits: int
    sparsity: float
    strategy: str
    reuse_factor: int
    io_type: Literal["io_parallel", "io_stream"] = "io_parallel"
    input_bits: int = 12
    softmax: bool = False
    needs: str | None = None

    def target(self, part: str, clock_period_ns: float) -> Target:
        """The target of this design on a part."""
        return Target(part, clock_period_ns, self.strategy, self.reuse_factor, self.io_type)

    @property
    def summary(self) -> str:
        """What it tests, in a few words."""
        layers = "-".join(map(str, (*self.input_shape[:1], *self.widths)))
        return (
            f"{self.kind} {layers}, {self.bits} bit, {self.sparsity:.0%} zero, {self.strategy} RF {self.reuse_factor}, "
            f"{self.io_type}{', softmax' if self.softmax else ''}"
        )


DESIGNS: tuple[ValidationDesign, ...] = (
    ValidationDesign("dense_8b", "mlp", (16,), (24, 5), 8, 0.0, "Latency", 1),
    ValidationDesign("dense_8b_90", "mlp", (16,), (32, 16, 5), 8, 0.9, "Latency", 1),
    ValidationDesign("dense_4b_50", "mlp", (16,), (32, 5), 4, 0.5, "Latency", 1, input_bits=8),
    ValidationDesign("dense_16b_50", "mlp", (16,), (16, 5), 16, 0.5, "Latency", 1, input_bits=16),
    ValidationDesign("dense_12b_70_rf4", "mlp", (16,), (16, 8), 12, 0.7, "Latency", 4, input_bits=16),
    ValidationDesign("dense_10b_80_softmax", "mlp", (16,), (16, 5), 10, 0.8, "Latency", 1, softmax=True),
    ValidationDesign("resource_16b_rf8", "mlp", (32,), (16, 8), 16, 0.0, "Resource", 8, input_bits=16),
    ValidationDesign("resource_6b_50_rf16", "mlp", (16,), (16, 16), 6, 0.5, "Resource", 16),
    ValidationDesign("unrolled_8b_60_rf2", "mlp", (16,), (16, 4), 8, 0.6, "Resource_Unrolled", 2),
    ValidationDesign("conv1d_8b_50_stream", "conv1d", (3, 12), (6, 4), 8, 0.5, "Latency", 1, "io_stream"),
    ValidationDesign("distributed_8b_50", "mlp", (16,), (16, 5), 8, 0.5, "distributed_arithmetic", 1, needs="da4ml"),
)
"""Ten designs, and one for distributed arithmetic where da4ml is installed."""


def quantised_network(design: ValidationDesign) -> fx.GraphModule:
    """The network of a design (without its softmax), quantised and pruned."""
    from types import SimpleNamespace

    import numpy as np
    import torch

    from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
    from trigger_prune.quantize.convert import quantize_model
    from trigger_prune.quantize.layers import weight_layers

    generator = np.random.default_rng(zlib.crc32(design.name.encode()))
    model = _float_model(design)
    with torch.no_grad():
        for parameter in model.parameters():
            # Gaussian weights of a variance that keeps the signals' size, as after a usual training.
            fan_in = max(int(np.prod(parameter.shape[1:])), 1)
            scale = np.sqrt(2.0 / fan_in) if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.from_numpy(generator.normal(scale=scale, size=tuple(parameter.shape))))
    input_type = FixedPoint(design.input_bits, 3, True, Rounding.AP_RND, Overflow.AP_SAT)
    events = torch.from_numpy(input_type.quantize(generator.normal(size=(512, *design.input_shape)))).float()
    precision = SimpleNamespace(weight_bits=design.bits, activation_bits=design.bits, rounding="AP_TRN")
    network = quantize_model(model.eval(), events, input_type, precision)
    for layer in weight_layers(network).values():
        magnitudes = layer.weight.detach().abs().flatten()
        n_zero = round(design.sparsity * magnitudes.numel())
        mask = torch.ones_like(magnitudes)
        mask[torch.argsort(magnitudes, stable=True)[:n_zero]] = 0
        layer.weight_mask.copy_(mask.reshape(layer.weight.shape))
    return network


def _float_model(design: ValidationDesign) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    width = design.input_shape[0]
    for number, n_out in enumerate(design.widths):
        if number == 0 and design.kind != "mlp":
            convolution: Any = nn.Conv1d if design.kind == "conv1d" else nn.Conv2d
            layers += [convolution(width, n_out, 3, padding=1), nn.ReLU(), nn.Flatten()]
            width = n_out
            for size in design.input_shape[1:]:
                width *= size
            continue
        layers.append(nn.Linear(width, n_out))
        if number < len(design.widths) - 1:
            layers.append(nn.ReLU())
        width = n_out
    return nn.Sequential(*layers)
