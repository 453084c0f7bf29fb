"""Masks of one architecture on another: by name first, then by shape, with an account of every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.prune.lottery.masks import Masks, weights_of


@dataclass(frozen=True)
class LayerTransfer:
    """What became of one layer.

    layer    of the network; None: a layer of the ticket that found no place
    source   layer of the ticket whose mask it got; None: it got none and keeps every weight
    how      ``name`` (same name and shape), ``shape`` (same shape, in order of definition) or ``none``
    reason   why there is no transfer; empty when there is one
    """

    layer: str | None
    source: str | None
    how: Literal["name", "shape", "none"]
    reason: str = ""


@dataclass(frozen=True)
class TransferReport:
    """One entry per layer of the network, in order, then one per layer of the ticket that was not used."""

    layers: tuple[LayerTransfer, ...]

    @property
    def transferred(self) -> int:
        """Layers of the network that got a mask."""
        return sum(entry.how != "none" for entry in self.layers)


def transfer_masks(masks: Masks, network: nn.Module) -> tuple[dict[str, Tensor], TransferReport]:
    """Masks of ``network``, and the report.

    A layer gets the mask of the ticket's layer of the same name when the shapes agree. Of what is left, a layer gets
    the first mask of its shape, in order of definition; every mask is used once. Other layers keep all weights.
    Raises ModelError when no layer gets a mask.
    """
    shapes = {name: tuple(weight.shape) for name, weight in weights_of(network).items()}
    sources = {name: name for name, shape in shapes.items() if name in masks and tuple(masks[name].shape) == shape}
    by_name = set(sources)
    free = [name for name in masks if name not in by_name]
    for name, shape in shapes.items():
        match = next((other for other in free if tuple(masks[other].shape) == shape), None)
        if name not in sources and match is not None:
            sources[name] = match
            free.remove(match)
    entries = [_entry(name, shape, sources, by_name, masks) for name, shape in shapes.items()]
    entries += [
        LayerTransfer(None, name, "none", f"no layer of shape {tuple(masks[name].shape)} is left in the network")
        for name in free
    ]
    if not sources:
        raise ModelError(
            "no layer of the ticket fits any layer of the network: "
            + "; ".join(f"{entry.layer or entry.source}: {entry.reason}" for entry in entries),
            hint="masks transfer between layers of equal shape",
        )
    result = {
        name: masks[sources[name]].clone() if name in sources else torch.ones(shape, dtype=torch.bool)
        for name, shape in shapes.items()
    }
    return result, TransferReport(tuple(entries))


def _entry(
    name: str, shape: tuple[int, ...], sources: dict[str, str], by_name: set[str], masks: Masks
) -> LayerTransfer:
    if name in sources:
        return LayerTransfer(name, sources[name], "name" if name in by_name else "shape")
    if name in masks:
        return LayerTransfer(name, None, "none", f"its shape is {shape}, in the ticket {tuple(masks[name].shape)}")
    taken = [source for source in masks if tuple(masks[source].shape) == shape]
    if taken:
        return LayerTransfer(name, None, "none", f"the masks of shape {shape} ({', '.join(taken)}) serve other layers")
    return LayerTransfer(name, None, "none", f"the ticket has neither this name nor a layer of shape {shape}")
