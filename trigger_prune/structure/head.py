"""Attention heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.layers import QuantLinear
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.numbering import layers_to_part, over_inputs

_ROWS = ("query", "key", "value")
_PARTS = (*_ROWS, "output")


@dataclass(frozen=True)
class Head:
    """Heads of multi-head attention: a head's rows of query, key and value, and its columns of the output layer.

    An attention block is a module with ``n_heads`` and the quantised Linear layers ``query``, ``key``, ``value`` and
    ``output``; head ``h`` of ``n`` has part ``h`` of ``n`` equal parts of the rows. P. Michel et al., "Are sixteen
    heads really better than one?", NeurIPS 2019. Blocks with a frozen layer are left alone. ``groups`` raises
    ModelError when there is no block or its layers cannot be divided among its heads.
    """

    @property
    def name(self) -> str:
        """``head``."""
        return "head"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered by block, then by head."""
        layers = layers_to_part(self.name, network)
        ids: dict[str, torch.Tensor] = {}
        count = 0
        for block, module in network.named_modules():
            names = {part: f"{block}.{part}" if block else part for part in _PARTS}
            if not _is_attention(module) or any(names[part] not in layers for part in _PARTS):
                continue
            heads = {part: _heads(names[part], layers[names[part]].weight, module, part) for part in _PARTS}
            ids |= {names[part]: heads[part] + count for part in _PARTS}
            count += int(heads["output"].max()) + 1
        if not count:
            raise ModelError(
                "structure 'head': the network has no attention block whose weights are trained",
                hint="a block has n_heads and the quantised layers query, key, value and output, as models/encoder.py",
            )
        return Groups(self.name, ids, count)


def _is_attention(module: nn.Module) -> bool:
    parts = [getattr(module, part, None) for part in _PARTS]
    return isinstance(getattr(module, "n_heads", None), int) and all(isinstance(part, QuantLinear) for part in parts)


def _heads(name: str, weight: torch.Tensor, module: Any, part: str) -> torch.Tensor:
    """Head of every weight of one of the four layers."""
    size = weight.shape[1] if part == "output" else weight.shape[0]
    if module.n_heads < 1 or size % module.n_heads:
        side = "inputs" if part == "output" else "outputs"
        raise ModelError(f"structure 'head': the {size} {side} of {name!r} are not {module.n_heads} equal heads")
    head = torch.arange(size) // (size // module.n_heads)
    return head.expand(weight.shape).contiguous() if part == "output" else over_inputs(head, weight.shape)


register_structure("head", Head)
