"""Quantised, masked networks for the bridge, and a numpy evaluation of what a description says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.qkeras.description import KerasDescription, Node, PlainNode, QuantNode, WeightNode
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import weight_layers

INPUT = FixedPoint(8, 3)


class Strided(nn.Sequential):
    """A padded convolution whose padding is not Keras's 'same', and an output that is flattened only."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 2, bias=False), nn.Flatten()
        )


class Residual(nn.Module):
    """Sum and concatenation of wires, one of them signed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.first(x))
        b = self.second(a)
        return self.head(torch.cat([torch.relu(a + b), b], dim=1))


MODELS = {
    "mlp": (lambda: Mlp((7,), 3, hidden=(6, 5)), (7,)),
    "conv1d": (lambda: Conv1dNet((3, 9), 3, channels=(4, 3), hidden=(5,)), (3, 9)),
    "conv2d": (lambda: Conv2dNet((2, 8, 8), 3, channels=(3, 4), hidden=(5,)), (2, 8, 8)),
    "strided": (Strided, (2, 7, 6)),
    "deep_sets": (lambda: DeepSets((3, 4), 2, phi=(8,), rho=(8,)), (3, 4)),
    "signed": (lambda: nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 3)), (5,)),
    "residual": (Residual, (6,)),
}


def events(n: int, shape: tuple[int, ...], seed: int = 3) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(size=(n - n // 4, *shape)), rng.uniform(-4, 4, size=(n // 4, *shape))])
    return INPUT.quantize(np.clip(values, INPUT.min_value, INPUT.max_value)).astype(np.float32)


def network(name: str, rounding: str = "AP_TRN", bits: int = 6, seed: int = 0) -> fx.GraphModule:
    """Quantised with random weights and biases of which three fifths are pruned."""
    build, shape = MODELS[name]
    torch.manual_seed(seed)
    model = build()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.3, 1.3)
                nn.init.normal_(module.bias, 0.3, 0.3)
            elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and module.weight.requires_grad:
                module.weight.mul_(2.5 * (torch.rand_like(module.weight) > 0.6))
    precision = SimpleNamespace(weight_bits=bits, activation_bits=bits, rounding=rounding)
    found = quantize_model(model.eval(), torch.from_numpy(events(200, shape)), INPUT, precision)
    with torch.no_grad():
        for layer in weight_layers(found).values():
            if layer.weight.requires_grad:
                layer.weight_mask.copy_((layer.weight != 0).float())
    return found.eval()


def evaluate_description(description: KerasDescription, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Outputs in Keras order by plain numpy, every sum in float64; ``features`` channels last."""
    wires: dict[str, NDArray[np.float64]] = {description.input_name: features.astype(np.float64)}
    for node in description.nodes:
        wires[node.name] = _evaluate(node, [wires[name] for name in node.inputs])
    return wires[description.output].reshape(len(features), -1)


def _evaluate(node: Node, inputs: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    x = inputs[0]
    if isinstance(node, QuantNode):
        # what QKeras's formulas say: nearest, ties to even, then clipped
        scaled = np.round(x * 2.0**node.fixed.fraction)
        return np.clip(scaled, node.fixed.min_code, node.fixed.max_code) * node.fixed.lsb
    if isinstance(node, WeightNode):
        return _weighted(node, x)
    assert isinstance(node, PlainNode)
    if node.kind == "flatten":
        return x.reshape(len(x), -1)
    if node.kind == "relu":
        return np.maximum(x, 0)
    if node.kind == "add":
        return inputs[0] + inputs[1]
    if node.kind == "concatenate":
        return np.concatenate(inputs, axis=-1)
    if node.kind == "zero_pad":
        return np.pad(x, [(0, 0), *((size, size) for size in node.size), (0, 0)])
    assert node.kind == "max_pool"
    return _windows(x, node.size, node.stride).max(axis=tuple(range(-len(node.size), 0)))


def _weighted(node: WeightNode, x: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = node.kernel * node.kernel_type.lsb
    bias = 0.0 if node.bias is None or node.bias_type is None else node.bias * node.bias_type.lsb
    if node.kind == "dense":
        return x @ kernel + bias
    if node.padding == "same":
        before = [(size - 1) // 2 for size in kernel.shape[:-2]]
        x = np.pad(x, [(0, 0), *((size, size) for size in before), (0, 0)])
    patches = _windows(x, kernel.shape[:-2], node.stride)
    axes = len(node.stride)
    # (events, positions, channel, kernel) x (kernel, channel, filter)
    return np.tensordot(patches, kernel, ([*range(-axes, 0), -axes - 1], [*range(axes), axes])) + bias


def _windows(x: NDArray[np.float64], size: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[np.float64]:
    axes = tuple(range(1, 1 + len(size)))
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=axes)
    return windows[(slice(None), *(slice(None, None, step) for step in stride))]
