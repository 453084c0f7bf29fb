"""Physical removal of attention heads."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.structure.resize import resize_layer
from trigger_prune.structure.shrink.constants import numbers_of

_ROWS = ("query", "key", "value")
_PARTS = (*_ROWS, "output")


@dataclass(frozen=True)
class ShrunkHeads:
    """The smaller model, and the heads that are gone by attention block, counted in the model before."""

    model: nn.Module
    removed: dict[str, tuple[int, ...]]


def shrink_heads(model: nn.Module, masks: Mapping[str, Tensor] | None = None) -> ShrunkHeads:
    """A copy of ``model`` without the attention heads that add nothing; ``model`` itself is left as it was.

    masks   0/1 by name of a Linear layer, in addition to the ``weight_mask`` of quantised layers

    An attention block is a module with ``n_heads`` and Linear layers ``query``, ``key``, ``value`` and ``output``; head
    h owns the h-th of ``n_heads`` equal parts of the rows of the first three and of the columns of ``output`` (A.
    Vaswani et al., NeurIPS 2017). A head goes when its columns of ``output`` are zero, or its rows and biases of
    ``value`` are. Everything else stays, the bias of ``output`` included, and of each block at least one head.
    Raises ModelError for a model without such a block, layers that cannot be divided among the heads, and masks that
    do not fit.
    """
    model = copy.deepcopy(model)
    _apply_masks(model, masks or {})
    removed: dict[str, tuple[int, ...]] = {}
    blocks = list(attention_blocks(model))
    if not blocks:
        raise ModelError(
            f"{type(model).__name__} has no attention block",
            hint="a block has n_heads and the Linear layers query, key, value and output, as models/encoder.py",
        )
    for name, block in blocks:
        silent = _silent_heads(name, block)
        if silent.all():
            silent[0] = False
        if silent.any():
            _keep_heads(block, silent)
            removed[name] = tuple(int(head) for head in torch.nonzero(silent).flatten())
    return ShrunkHeads(model, removed)


def _apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for name, mask in masks.items():
        if name not in layers or layers[name].weight.shape != mask.shape:
            raise ModelError(f"the mask of {name!r} fits no Linear layer of the model", hint=f"layers: {list(layers)}")
        with torch.no_grad():
            layers[name].weight.mul_(mask.to(layers[name].weight))


def attention_blocks(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Name and module of every block whose heads can be told apart."""
    for name, module in model.named_modules():
        parts = [getattr(module, part, None) for part in _PARTS]
        if isinstance(getattr(module, "n_heads", None), int) and all(isinstance(part, nn.Linear) for part in parts):
            yield name, module


def _silent_heads(name: str, block: Any) -> Tensor:
    """Which heads add nothing, bool ``(n_heads,)``."""
    for part in _PARTS:
        layer = getattr(block, part)
        size = layer.in_features if part == "output" else layer.out_features
        if block.n_heads < 1 or size % block.n_heads:
            raise ModelError(f"attention block {name!r}: {size} of {part!r} are not {block.n_heads} equal heads")
    columns, _ = numbers_of(block.output)
    rows, bias = numbers_of(block.value)
    unread = (columns == 0).all(dim=0).reshape(block.n_heads, -1).all(dim=1)
    zero = (rows == 0).all(dim=1) & (torch.ones(len(rows), dtype=torch.bool) if bias is None else bias == 0)
    return unread | zero.reshape(block.n_heads, -1).all(dim=1)


def _keep_heads(block: Any, silent: Tensor) -> None:
    for part in _PARTS:
        layer = getattr(block, part)
        n_outputs, n_inputs = layer.weight.shape
        size = (n_inputs if part == "output" else n_outputs) // block.n_heads
        kept = [int(index) for index in torch.nonzero(~silent.repeat_interleave(size)).flatten()]
        outputs, inputs = (range(n_outputs), kept) if part == "output" else (kept, range(n_inputs))
        resize_layer(layer, outputs, inputs)
    block.n_heads -= int(silent.sum())
