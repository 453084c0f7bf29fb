"""Small quantised networks of every kind, with events, and the plain loop that the scan must agree with."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer, QuantConv1d, QuantLinear
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.evaluate import Batches

INPUT = FixedPoint(9, 4, overflow="AP_SAT")
WEIGHT = FixedPoint(6, 1)


@dataclass(frozen=True)
class Bits:
    weight_bits: int = 5
    activation_bits: int = 6
    rounding: str = "AP_TRN"


class Residual(nn.Module):
    """Two branches, a sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(7, 10)
        self.left = nn.Linear(10, 10)
        self.right = nn.Linear(10, 6)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.head(torch.cat([torch.relu(self.left(h)) + h, torch.relu(self.right(h))], dim=1))


class Grouped(nn.Module):
    """A grouped convolution, and a layer without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv1d(4, 8, 3, padding=1, groups=2)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(8 * 6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(torch.relu(self.wide(x))))


SHAPES = {
    "mlp": (7,),
    "residual": (7,),
    "conv1d": (3, 12),
    "conv2d": (2, 9, 8),
    "deep_sets": (3, 5),
    "grouped": (4, 6),
}


def float_model(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    if kind == "mlp":
        return Mlp((7,), 3, hidden=[12, 8])
    if kind == "conv1d":
        return Conv1dNet((3, 12), 3, channels=(4, 5), hidden=(6,))
    if kind == "conv2d":
        return Conv2dNet((2, 9, 8), 3, channels=(3, 4), hidden=(6,))
    if kind == "deep_sets":
        return DeepSets((3, 5), 3, phi=(8, 6), rho=(7,))
    return Residual() if kind == "residual" else Grouped()


def events(kind: str, n: int = 400, seed: int = 1, dtype: torch.dtype = torch.float32) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *SHAPES[kind], generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (n,), generator=generator)
    x = x + 0.4 * y.reshape(-1, *[1] * (x.ndim - 1))
    weights = torch.rand(n, generator=generator) + 0.5
    physical = (torch.rand(n, generator=generator) + 0.5).double()
    return Batches(INPUT.fake_quantize(x).to(dtype), y, weights, y, physical)


def network(kind: str, seed: int = 0, dtype: torch.dtype = torch.float32, bits: Bits | None = None) -> fx.GraphModule:
    """Quantised, with a few weights masked already."""
    calibration = events(kind, 300, seed + 50).features
    found = quantize_model(float_model(kind, seed), calibration, INPUT, bits or Bits())
    generator = torch.Generator().manual_seed(seed)
    for layer in prunable_layers(found).values():
        layer.weight_mask.copy_((torch.rand(layer.weight.shape, generator=generator) > 0.1).float())
    return found.to(dtype)


def with_masks(model: fx.GraphModule, masks: dict[str, Tensor]) -> fx.GraphModule:
    pruned = copy.deepcopy(model).eval()
    for name, mask in masks.items():
        pruned.get_submodule(name).weight_mask.copy_(mask)
    return pruned


def snapshot(model: nn.Module) -> list[object]:
    state = [tensor.detach().clone().numpy().tobytes() for tensor in (*model.parameters(), *model.buffers())]
    types = [str(m.fixed) for m in model.modules() if isinstance(m, FixedQuantizer)]
    types += [str((m.weight_type, m.bias_type)) for m in model.modules() if isinstance(m, WEIGHT_LAYERS)]
    identities = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    return [*state, types, identities, [module.training for module in model.modules()]]


class Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*WEIGHT_LAYERS, FixedQuantizer)) or super().is_leaf_module(m, module_qualified_name)


def traced(model: nn.Module) -> fx.GraphModule:
    return fx.GraphModule(model, Tracer().trace(model))


class Sized(nn.Module):
    """Computes with the number of events, applies a layer to every position, and calls one layer twice."""

    def __init__(self, rounding: str = "AP_RND") -> None:
        super().__init__()
        self.embed = QuantLinear(nn.Linear(4, 6), WEIGHT, WEIGHT)
        self.mix = QuantLinear(nn.Linear(6, 6), WEIGHT, WEIGHT)
        self.wrapped = FixedQuantizer(FixedPoint(7, 2, rounding=rounding, overflow="AP_SAT"))
        self.head = QuantLinear(nn.Linear(18, 3), WEIGHT, WEIGHT)

    def forward(self, x: Tensor) -> Tensor:
        h = self.wrapped(self.embed(x))
        h = self.wrapped(self.mix(h)) + self.mix(h)
        attention = torch.softmax(torch.matmul(h, h.transpose(1, 2)), dim=-1)
        return self.head(torch.matmul(attention, h).reshape(x.shape[0], 18))


class Branched(nn.Module):
    """A particle branch with a frozen mean and a skip connection: cached values of several layers are needed."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = QuantConv1d(nn.Conv1d(3, 6, 1), WEIGHT, WEIGHT)
        self.quantizer = FixedQuantizer(FixedPoint(8, 3, signed=False, overflow="AP_SAT"))
        self.mean = QuantConv1d(nn.Conv1d(6, 6, 4, groups=6, bias=False), FixedPoint(4, 0), WEIGHT)
        self.mean.weight.requires_grad_(False)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.5)
        self.left = QuantLinear(nn.Linear(6, 6), WEIGHT, WEIGHT)
        self.right = QuantLinear(nn.Linear(6, 6), WEIGHT, WEIGHT)
        self.head = QuantLinear(nn.Linear(12, 3), WEIGHT, WEIGHT)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.flatten(self.mean(self.quantizer(torch.relu(self.phi(x)))))
        left = torch.relu(self.left(pooled))
        both = torch.cat([left + pooled, self.right(left)], dim=1)
        return self.head(self.dropout(both))
