"""A quadratic model of the training loss in the weights of every single output.

Gradient and Gauss-Newton Hessian of the true loss (N. Schraudolph, Neural Computation 14, 2002), block by block: one
block holds the weights and the bias of one output. It is the reconstruction Hessian ``E[x x^T]`` of optimal brain
compression with every event weighted by how much the loss cares for that output there, instead of equally. Gradients
pass straight through the roundings of the activations, so the model only proposes; ``IncrementalLoss`` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.prune.refine.incremental import IncrementalLoss
from trigger_prune.train.loss import Task, event_losses

_MOST_EXACT_OUTPUTS = 16
_SAMPLES = 8
"""Random directions that stand for the Hessian of a loss with more outputs than that."""


@dataclass(frozen=True)
class RowModels:
    """Of one layer, per unit of code: ``gradient`` ``(out, n)``, ``hessian`` ``(out, n, n)``, n = fan_in + 1.

    The bias comes last; its entries are 0 where there is none.
    """

    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


def row_models(state: IncrementalLoss, layers: Sequence[str], rows: Tensor, seed: int) -> dict[str, RowModels]:
    """The model of every named layer, from the events ``rows`` (indices)."""
    events = state.events.take(rows)
    weights = events.weights.double() / events.weights.double().sum()
    recorder = _Outputs(state.network, {state.node_of(name): name for name in layers})
    outputs = recorder.run(events.features.clone().requires_grad_(True))
    wires = [recorder.seen[name] for name in layers]
    loss = (event_losses(outputs, events.targets.to(_like(events.targets, outputs)), state.task) * weights).sum()
    first = torch.autograd.grad(loss, wires, retain_graph=True)
    second = [
        torch.autograd.grad(outputs, wires, factor.to(outputs), retain_graph=True)
        for factor in _factors(outputs.detach(), state.task, seed)
    ]
    models = {}
    for place, name in enumerate(layers):
        module: Any = state.network.get_submodule(name)
        scale = state.units(name)
        x = _rows_of_inputs(module, state.input_of(name)[rows])
        gradient, hessian = _blocks(x, first[place], [u[place] for u in second], weights, module)
        models[name] = RowModels(gradient * scale, hessian * (scale[:, None] * scale[None, :]))
    return models


def _like(targets: Tensor, outputs: Tensor) -> torch.dtype:
    return outputs.dtype if targets.is_floating_point() else targets.dtype


class _Outputs(fx.Interpreter):
    def __init__(self, network: fx.GraphModule, wanted: dict[fx.Node, str]) -> None:
        super().__init__(network)
        self.wanted = wanted
        self.seen: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.wanted:
            self.seen[self.wanted[n]] = result
        return result


def _factors(outputs: Tensor, task: Task, seed: int) -> list[Tensor]:
    """Vectors s with ``sum s s^T`` = the Hessian of an event's loss by its outputs, each ``(n, outputs...)``."""
    if task == "classify":
        p = outputs.softmax(dim=1)
        return [
            p[:, k : k + 1].sqrt() * (functional.one_hot(torch.tensor(k), p.shape[1]) - p) for k in range(p.shape[1])
        ]
    if task == "binary":
        p = outputs.sigmoid()
        return [(p * (1 - p)).sqrt()]
    size = outputs[0].numel()
    scale = (2 / size) ** 0.5
    if size <= _MOST_EXACT_OUTPUTS:
        units = torch.eye(size).reshape(size, *outputs.shape[1:])
        return [scale * unit.expand_as(outputs) for unit in units]
    draws = torch.Generator().manual_seed(seed)
    signs = [torch.randint(0, 2, outputs.shape, generator=draws) * 2 - 1 for _ in range(_SAMPLES)]
    return [sign * (scale / _SAMPLES**0.5) for sign in signs]


def _rows_of_inputs(module: Any, x: Tensor) -> Tensor:
    """Inputs of the weight rows: ``(events, groups, positions, fan_in + 1)``, the last one 1."""
    if isinstance(module, nn.Linear):
        unfolded = x[:, None, None, :]
    else:
        kernel, stride, padding, dilation = module.kernel_size, module.stride, module.padding, module.dilation
        if isinstance(module, nn.Conv1d):
            x = x.unsqueeze(2)
            kernel, stride, padding, dilation = (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
        columns = functional.unfold(x, kernel, dilation=dilation, padding=padding, stride=stride)
        unfolded = columns.reshape(len(x), module.groups, -1, columns.shape[2]).transpose(2, 3)
    return torch.cat([unfolded, torch.ones_like(unfolded[..., :1])], dim=3)


def _blocks(
    x: Tensor, first: Tensor, second: list[Tensor], weights: Tensor, module: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient and Gauss-Newton blocks of all rows; ``first`` holds the events' weights already."""
    out = first.shape[1]
    groups = x.shape[1]
    per_group = out // groups
    root = weights.sqrt().to(x)
    gradients, hessians = [], []
    for row in range(out):
        inputs = x[:, row // per_group]
        up = first[:, row].reshape(len(x), -1)
        gradients.append(torch.einsum("np,npi->i", up, inputs))
        total = inputs.new_zeros(inputs.shape[2], inputs.shape[2])
        if inputs.shape[1] == 1:
            height = sum(u[:, row].reshape(-1).square() for u in second) * weights.to(x)
            total = (inputs[:, 0] * height[:, None]).T @ inputs[:, 0]
        else:
            for u in second:
                d = torch.einsum("np,npi->ni", u[:, row].reshape(len(x), -1), inputs) * root[:, None]
                total = total + d.T @ d
        hessians.append(total)
    gradient = torch.stack(gradients).detach().double().numpy()
    hessian = torch.stack(hessians).detach().double().numpy()
    if module.bias is None:
        gradient[:, -1] = 0
        hessian[:, -1] = 0
        hessian[:, :, -1] = 0
    return gradient, hessian
