"""Building blocks that several reference models share. Names of layers appear in reports, so they read well."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from trigger_prune.errors import ModelError

Layers = OrderedDict[str, nn.Module]
"""Named layers in the order of execution."""


def check_positive(model: str, **sizes: int | Sequence[int]) -> None:
    """Raises ModelError naming the argument of ``model`` that holds anything but integers >= 1."""
    for name, value in sizes.items():
        listed = value if isinstance(value, (list, tuple)) else [value]
        for size in listed:
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ModelError(f"{model}: {name} is {value!r}", hint="sizes are integers >= 1")


def check_rank(model: str, input_shape: Sequence[int], axes: str) -> None:
    """Raises ModelError unless ``input_shape`` (one event) has the axes named in ``axes``, e.g. ``(F, P)``."""
    if len(input_shape) != len(axes.split(",")):
        raise ModelError(
            f"{model} takes events of shape {axes}, but one event has shape {tuple(input_shape)}",
            hint="choose a model that fits the events, or reshape the events",
        )


def dense_blocks(n_inputs: int, hidden: Sequence[int], *, batch_norm: bool, first: int = 1) -> Layers:
    """``denseN``, ``normN``, ``reluN`` for every width in ``hidden``, counted from ``first``.

    A layer followed by batch normalisation has no bias of its own: the normalisation subtracts it again.
    """
    layers: Layers = OrderedDict()
    for number, n_outputs in enumerate(hidden, start=first):
        layers[f"dense{number}"] = nn.Linear(n_inputs, n_outputs, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{number}"] = nn.BatchNorm1d(n_outputs)
        layers[f"relu{number}"] = nn.ReLU()
        n_inputs = n_outputs
    return layers
