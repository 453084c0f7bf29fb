"""Input features: every weight that reads one of the network's inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.coupling import Coupling, follow
from trigger_prune.structure.numbering import layers_to_part, without_gaps


@dataclass(frozen=True)
class Input:
    """Inputs of the network: the columns of an input in all layers that read it. A removed one needs no wire.

    Where a convolution reads the events, an input is a channel (axis 0 of an event) at all its positions; where only
    Linear layers read them through a Flatten, it is a single value. ``groups`` raises ModelError with the reason where
    an input is also read by something else than weights: a frozen layer, a sum, a grouped convolution, the output.
    """

    @property
    def name(self) -> str:
        """``input``."""
        return "input"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered in the order of the inputs: channels, or values of the flattened event."""
        layers = layers_to_part(self.name, network)
        coupling = follow(network)
        _require_weights_only(network, coupling)
        inputs = np.unique(coupling.inputs)
        marks = {}
        for name, layer in layers.items():
            units = coupling.columns[name]
            marks[name] = _over_outputs(torch.from_numpy(np.where(np.isin(units, inputs), units, -1)), layer)
        ids, count = without_gaps(marks)
        if not count:
            raise ModelError(f"structure {self.name!r}: no layer reads the network's inputs")
        return Groups(self.name, ids, count)


def _over_outputs(units: Tensor, layer: QuantWeightLayer) -> Tensor:
    """One mark per input ``(n_inputs,)``, repeated over outputs and kernel: the shape of the weight."""
    shape = layer.weight.shape
    if len(units) != shape[1]:
        return torch.full(shape, -1)
    return units.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape).contiguous()


def _require_weights_only(network: nn.Module, coupling: Coupling) -> None:
    inputs = set(np.unique(coupling.inputs).tolist())
    for unit in inputs:
        if unit in coupling.fixed:
            raise ModelError(f"structure 'input': inputs cannot be removed: {coupling.fixed[unit]} as well")
    for name, layer in weight_layers(network).items():
        if inputs & set(coupling.rows[name].tolist()):
            why = "is a grouped convolution on them" if getattr(layer, "groups", 1) > 1 else "is added to them"
            raise ModelError(f"structure 'input': inputs cannot be removed: layer {name!r} {why}")
        if not layer.weight.requires_grad and inputs & set(coupling.columns[name].tolist()):
            raise ModelError(f"structure 'input': inputs cannot be removed: the frozen layer {name!r} reads them")


register_structure("input", Input)
