"""What every importance criterion offers, and the registry by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers


class Criterion(Protocol):
    """Importance of single weights. A criterion that needs events or gradients takes them in its constructor."""

    @property
    def name(self) -> str:
        """Name in project.yaml and in reports."""
        ...

    def score(self, network: nn.Module, layer_names: Sequence[str]) -> dict[str, Tensor]:
        """Score of every weight of the named layers: float64, shaped like the weight, higher = keep.

        Masked weights get a score too. Raises ModelError for a name that is no quantised weight layer.
        """
        ...


_REGISTRY: dict[str, Criterion] = {}


def register(criterion: Criterion) -> Criterion:
    """Makes a criterion that needs nothing but the network known by its name."""
    _REGISTRY[criterion.name] = criterion
    return criterion


def criterion_by_name(name: str) -> Criterion:
    """The registered criterion. Raises ConfigError that lists the names there are."""
    if name not in _REGISTRY:
        close = difflib.get_close_matches(name, _REGISTRY, n=1)
        raise ConfigError(
            f"unknown importance criterion {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
            hint=f"criteria: {', '.join(sorted(_REGISTRY))}",
        )
    return _REGISTRY[name]


def named_weight_layers(network: nn.Module, layer_names: Sequence[str]) -> dict[str, QuantWeightLayer]:
    """The named layers in that order. Raises ModelError for a name that is no quantised weight layer."""
    layers = weight_layers(network)
    for name in layer_names:
        if name not in layers:
            raise ModelError(
                f"{name!r} is no quantised weight layer of the network", hint=f"weight layers: {', '.join(layers)}"
            )
    return {name: layers[name] for name in layer_names}
