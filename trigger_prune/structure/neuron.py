"""Neurons: the weight rows of Linear layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.layers import QuantLinear, QuantWeightLayer
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.coupling import Coupling, follow
from trigger_prune.structure.numbering import layers_to_part, over_inputs, without_gaps


@dataclass(frozen=True)
class Neuron:
    """Neurons of the hidden Linear layers; those that are added to each other are one group.

    Outputs of the network are no groups, also where they reach it through a sum; nor is a sum with the network's input
    or with a frozen layer, which stays whatever is masked. A neuron added to a channel of a convolution belongs to
    structure ``filter``. ``groups`` raises ModelError with the reasons when no neuron can be removed.
    """

    @property
    def name(self) -> str:
        """``neuron``."""
        return "neuron"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered in the order of the layers and their neurons."""
        return unit_groups(self.name, network, convolutions=False)


def unit_groups(structure: str, network: nn.Module, *, convolutions: bool) -> Groups:
    """The removable units with an output channel of a convolution in them, or all the others."""
    layers = layers_to_part(structure, network)
    if is_weights_only(network):
        return _float_units(structure, network, layers, convolutions=convolutions)
    coupling = follow(network)
    fixed = reasons_to_stay(coupling)
    channels = {
        unit for name, layer in layers.items() if not isinstance(layer, QuantLinear) for unit in coupling.rows[name]
    }
    marks = {}
    for name, layer in layers.items():
        units = coupling.rows[name]
        removable = [int(unit) not in fixed and (unit in channels) == convolutions for unit in units]
        marks[name] = over_inputs(torch.from_numpy(np.where(removable, units, -1)), layer.weight.shape)
    ids, count = without_gaps(marks)
    if not count:
        kind = [name for name, layer in layers.items() if isinstance(layer, QuantLinear) != convolutions]
        raise ModelError(
            f"structure {structure!r}: nothing can be removed; "
            + (
                "; ".join(f"{name}: {fixed[int(coupling.rows[name][0])]}" for name in kind)
                or "no layer is of this kind"
            ),
            hint="structures: neuron for Linear layers, filter for convolutions",
        )
    return Groups(structure, ids, count)


def _float_units(
    structure: str, network: nn.Module, layers: dict[str, QuantWeightLayer], *, convolutions: bool
) -> Groups:
    """Units that a network with float activations can lose: those that no operation on them needs the number of."""
    # what shrinks such a network is what says so; importing it here keeps structure free of it
    from trigger_prune.structure.shrink.weights_only import removable_units

    units = removable_units(network)
    channels = [units[name] for name, layer in layers.items() if not isinstance(layer, QuantLinear)]
    of_channels = torch.cat(channels) if channels else torch.empty(0, dtype=torch.int64)
    marks = {}
    for name, layer in layers.items():
        chosen = (units[name] >= 0) & (torch.isin(units[name], of_channels) == convolutions)
        marks[name] = over_inputs(torch.where(chosen, units[name], -1), layer.weight.shape)
    ids, count = without_gaps(marks)
    if not count:
        raise ModelError(
            f"structure {structure!r}: nothing can be removed from {type(network).__name__}: normalisations, products "
            "or the output need every width",
            hint="structures: neuron for Linear layers, filter for convolutions, head for attention",
        )
    return Groups(structure, ids, count)


def reasons_to_stay(coupling: Coupling) -> dict[int, str]:
    """By unit: why it can never leave, inputs of the network included."""
    inputs = dict.fromkeys(np.unique(coupling.inputs).tolist(), "it is tied to an input of the network")
    return {**inputs, **coupling.fixed}


register_structure("neuron", Neuron)
