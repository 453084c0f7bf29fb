"""Operations that the analysis of a network understands, by what they do to values and shapes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.structure.shrink.constants import Wire

PLAIN_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SAME = (nn.Identity, nn.modules.dropout._DropoutNd)
MONOTONE = (
    nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.ELU, nn.Softplus, nn.Softsign, nn.LogSigmoid
)  # fmt: skip
ELEMENTWISE = (nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.SELU, nn.CELU, nn.Softshrink, nn.Hardshrink)
POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d
)  # fmt: skip
POOL_CALLS = (
    functional.max_pool1d, functional.max_pool2d, functional.avg_pool1d, functional.avg_pool2d,
    functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, torch.max_pool1d, torch.max_pool2d,
)  # fmt: skip
MONOTONE_CALLS = (
    functional.relu, torch.relu, torch.relu_, functional.relu6, functional.sigmoid, torch.sigmoid, functional.tanh,
    torch.tanh, functional.hardtanh, functional.elu, functional.softplus, "relu", "relu_", "sigmoid", "tanh",
)  # fmt: skip
ELEMENTWISE_CALLS = (
    functional.leaky_relu, functional.gelu, functional.silu, functional.selu, torch.abs, torch.square, torch.exp, "abs",
    "exp", "square", operator.neg, torch.neg, "neg",
)  # fmt: skip
BINARY: dict[Any, Callable[[Any, Any], Any]] = {
    operator.add: operator.add, torch.add: operator.add, "add": operator.add, operator.iadd: operator.add,
    "add_": operator.add, operator.sub: operator.sub, torch.sub: operator.sub, "sub": operator.sub,
    operator.mul: operator.mul, torch.mul: operator.mul, "mul": operator.mul, operator.imul: operator.mul,
    operator.truediv: operator.truediv, torch.div: operator.truediv, "div": operator.truediv,
}  # fmt: skip
_IN_PLACE = (operator.iadd, operator.imul, torch.relu_)
JOINS = (torch.cat, torch.concat, torch.stack)
AVERAGES = ("mean", torch.mean, "sum", torch.sum, "amax", torch.amax)
MOVES = (
    "permute", "transpose", "unsqueeze", "squeeze", torch.permute, torch.transpose, torch.unsqueeze, torch.squeeze
)  # fmt: skip
FLATTENS = ("flatten", torch.flatten, "view", "reshape", torch.reshape)
SIZES = ("size", "dim", getattr, operator.getitem)


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of the tensor that a node gives, once shapes were propagated; None where it gives something else."""
    found = node.meta.get("tensor_meta")
    return None if found is None or not hasattr(found, "shape") else tuple(found.shape)


def moved(function: Callable[[Tensor], Tensor], wire: Wire) -> Wire:
    """A wire whose elements only change places."""
    return Wire(function(wire.low), function(wire.high), function(wire.ids))


def flattened(node: fx.Node, wire: Wire) -> Wire | None:
    """A flatten, or a view that only spells one: the batch axis and the rest."""
    rest: Any = node.args[1:]
    if node.target in ("flatten", torch.flatten):
        start: Any = rest[0] if rest else node.kwargs.get("start_dim", 0)
        end: Any = rest[1] if len(rest) > 1 else node.kwargs.get("end_dim", -1)
        fits = isinstance(start, int) and isinstance(end, int) and start % wire.ids.ndim >= 1
        return moved(lambda x: torch.flatten(x, start, end), wire) if fits else None
    sizes: Any = rest[0] if len(rest) == 1 and isinstance(rest[0], (list, tuple)) else rest
    batch = len(sizes) == 2 and sizes[1] == -1 and (isinstance(sizes[0], fx.Node) or sizes[0] == wire.ids.shape[0])
    return moved(lambda x: x.flatten(1), wire) if batch else None


def keeps_batch(node: fx.Node, rank: int) -> bool:
    """The axes are given, and the batch axis stays where it is."""
    rest: Any = node.args[1:] or tuple(node.kwargs.values())
    axes = list(rest[0]) if rest and isinstance(rest[0], (list, tuple)) else list(rest)
    if not axes or not all(isinstance(axis, int) for axis in axes):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    grown = rank + (name == "unsqueeze")
    return axes[0] % rank == 0 if name == "permute" else all(axis % grown != 0 for axis in axes)


def same_along(ids: Tensor, axis: int) -> bool:
    """Whether nothing changes along an axis."""
    return bool((ids == ids.narrow(axis, 0, 1)).all())


def pads(layer: Any) -> bool:
    """Whether a convolution adds anything at the border."""
    if isinstance(layer.padding, str):
        return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)


def is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether the operation overwrites what it reads."""
    by_name = isinstance(node.target, str) and node.op == "call_method" and node.target.endswith("_")
    asked = bool(node.kwargs.get("inplace", getattr(module, "inplace", False)))
    return by_name or asked or node.target in _IN_PLACE
