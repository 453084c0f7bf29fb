"""Derivatives by what the layers of a network put out, before any activation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import named_weight_layers


class Probed:
    """A float64 copy of a network in evaluation mode that keeps the inputs of some layers, and a zero added to each of
    their outputs, one per call: the gradient by the zero is that by the output.

    Raises ModelError for a name that is no quantised weight layer.
    """

    def __init__(self, network: nn.Module, layer_names: Sequence[str]) -> None:
        named_weight_layers(network, layer_names)
        self.network = copy.deepcopy(network).eval().double().requires_grad_(False)
        self.layers = named_weight_layers(self.network, layer_names)
        self.inputs: dict[str, list[Tensor]] = {}
        self.probes: dict[str, list[Tensor]] = {}
        for name, layer in self.layers.items():
            layer.register_forward_hook(self._hook(name))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(iter(self.layers.values())).weight.device

    def run(self, features: Tensor) -> Tensor:
        """Outputs of the network, with their graph. Raises ModelError for a layer that is never called."""
        self.inputs = {name: [] for name in self.layers}
        self.probes = {name: [] for name in self.layers}
        with torch.enable_grad():
            outputs: Tensor = self.network(features)
        for name, calls in self.probes.items():
            if not calls:
                raise ModelError(f"layer {name!r} is never called by the network")
        return outputs

    def gradients(self, value: Tensor, direction: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Of ``value`` (along ``direction``) by every output of every layer, call by call. The graph is kept."""
        places = [probe for calls in self.probes.values() for probe in calls]
        found = iter(
            torch.autograd.grad(value, places, direction, retain_graph=True, allow_unused=True, materialize_grads=True)
        )
        return {name: [next(found) for _ in calls] for name, calls in self.probes.items()}

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add_probe(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            self.inputs[name].append(inputs[0].detach())
            # a zero of its own keeps its gradient even where an activation then overwrites the output
            self.probes[name].append(torch.zeros_like(output, requires_grad=True))
            return output + self.probes[name][-1]

        return add_probe
