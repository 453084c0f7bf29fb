"""Folding BatchNorm into the layer before it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import UnsupportedLayerError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
FOLDS_INTO: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.Linear: (nn.BatchNorm1d,),
    nn.Conv1d: (nn.BatchNorm1d,),
    nn.Conv2d: (nn.BatchNorm2d,),
}
"""Weight layers and the normalisation that acts on their outputs one by one."""


def fold_batch_norm(network: fx.GraphModule) -> None:
    """Replace every weight layer with a BatchNorm behind it by one layer that computes the same in eval mode, in place.

    Raises UnsupportedLayerError naming a BatchNorm that has no weight layer of its own, or no running statistics.
    """
    for node in list(network.graph.nodes):
        norm = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, NORMS):
            continue
        source: Any = node.args[0]
        layer = network.get_submodule(str(source.target)) if source.op == "call_module" else None
        if layer is None or not isinstance(norm, FOLDS_INTO.get(type(layer), ())) or len(source.users) != 1:
            raise UnsupportedLayerError(
                f"BatchNorm {node.target!r} does not directly follow a Linear or Conv layer of its own",
                hint="inputs are standardised by the toolkit; put BatchNorm between a weight layer and its ReLU",
            )
        if norm.running_mean is None or norm.running_var is None:
            raise UnsupportedLayerError(
                f"BatchNorm {node.target!r} keeps no running statistics", hint="use track_running_stats=True"
            )
        if norm.num_features != layer.weight.shape[0]:  # type: ignore[index]
            raise UnsupportedLayerError(
                f"BatchNorm {node.target!r} normalises {norm.num_features} channels, but {source.target!r} has "
                f"{layer.weight.shape[0]} outputs",  # type: ignore[index]
                hint="a layer that is applied to every particle is a Conv1d with kernel size 1",
            )
        gamma = torch.ones(norm.num_features) if norm.weight is None else norm.weight
        # for the criterion batchnorm_scale: afterwards gamma cannot be told from the weights
        network.meta.setdefault("batch_norm_scales", {})[str(source.target)] = gamma.detach().double().abs()
        network.set_submodule(str(source.target), _folded(layer, norm))
        node.replace_all_uses_with(source)
        network.graph.erase_node(node)
    network.recompile()


def _folded(layer: Any, norm: Any) -> nn.Module:
    """A copy of ``layer`` with the normalisation in its weight and bias; the bias is trained when the weight is."""
    folded = copy.deepcopy(layer)
    with torch.no_grad():
        scale = _double(norm.weight, 1.0, norm) / (_double(norm.running_var, 1.0, norm) + norm.eps).sqrt()
        weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        centred = _double(layer.bias, 0.0, norm) - _double(norm.running_mean, 0.0, norm)
        bias = centred * scale + _double(norm.bias, 0.0, norm)
    trained = layer.weight.requires_grad
    folded.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=trained)
    folded.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=trained)
    return folded  # type: ignore[no-any-return]


def _double(values: Tensor | None, default: float, norm: Any) -> Tensor:
    if values is None:
        return torch.full_like(norm.running_mean, default, dtype=torch.float64)
    return values.detach().double()
