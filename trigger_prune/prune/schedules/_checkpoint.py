"""A training that can be taken back: weights, masks and optimiser state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Checkpoint:
    """Copies of a network's parameters and buffers and of an optimiser's state."""

    tensors: tuple[Tensor, ...]
    moments: dict[Tensor, dict[str, Tensor]]

    @classmethod
    def of(cls, network: nn.Module, optimizer: torch.optim.Optimizer | None) -> Checkpoint:
        """As they are now; without an optimiser its state is taken to be empty."""
        state = {} if optimizer is None else optimizer.state
        return cls(
            tuple(tensor.detach().clone() for tensor in _tensors(network)),
            {weight: {key: value.clone() for key, value in values.items()} for weight, values in state.items()},
        )

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Put everything back bit for bit, on whatever device the network is now."""
        with torch.no_grad():
            for tensor, copy in zip(_tensors(network), self.tensors, strict=True):
                tensor.copy_(copy)
        if optimizer is not None:
            optimizer.state.clear()
            for weight, values in self.moments.items():
                optimizer.state[weight] = {key: value.clone() for key, value in values.items()}


def _tensors(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers, the ones left out of state_dict included."""
    return [*network.parameters(), *network.buffers()]
