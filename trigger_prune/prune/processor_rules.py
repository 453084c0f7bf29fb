"""What pruning for a processor needs: units that can be cut out. Zeros are multiplied like all other numbers."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from trigger_prune.errors import ConfigError, UnsupportedLayerError
from trigger_prune.quantize.float_only import HINT
from trigger_prune.quantize.weights_only import is_weights_only

CUT_OUT = ("neuron", "filter", "head", "input", "layer")
"""Structures whose groups leave the model when they are pruned."""


class Pruning(Protocol):
    """What is read of section ``prune``."""

    @property
    def structure(self) -> str: ...
    @property
    def scope(self) -> str: ...


class Limits(Protocol):
    """What is read of section ``budget``."""

    @property
    def latency_p99_us(self) -> float | None: ...
    @property
    def event_time_us(self) -> float | None: ...


def require_cut_out_units(prune: Pruning, backend: str, budget: Limits) -> None:
    """Raise ConfigError when a time on a processor is limited and what is pruned would save none of it."""
    limited = [name for name in ("latency_p99_us", "event_time_us") if getattr(budget, name) is not None]
    if backend == "runtime" and limited and prune.structure not in CUT_OUT:
        raise ConfigError(
            f"prune.structure {prune.structure} cannot meet budget.{limited[0]}: a processor multiplies zeros like all "
            "other numbers, so that they make nothing faster",
            hint="prune.structure: neuron (Linear layers), filter (convolutions), head (attention), input or layer",
        )


def require_backend(network: nn.Module, backend: str, prune: Pruning) -> None:
    """Raise when a network with float activations is to be measured as firmware, or pruned by the solver."""
    if not is_weights_only(network):
        return
    if backend != "runtime":
        raise UnsupportedLayerError(
            f"{type(network).__name__} has float activations, so cost.backend {backend} cannot measure it", hint=HINT
        )
    refuse_solver(prune)


def refuse_solver(prune: Pruning) -> None:
    """Raise ConfigError when the solver is to prune a network with float activations."""
    if prune.scope == "solver":
        raise ConfigError(
            "prune.scope solver reads the layers' fixed-point types, and this model has no fixed-point form",
            hint="prune.scope: global or layer",
        )
