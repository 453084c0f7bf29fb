"""Rectangular blocks of the weight matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trigger_prune.errors import ConfigError
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.numbering import joined, layers_to_part


@dataclass(frozen=True)
class Block:
    """Blocks of ``rows`` outputs times ``columns`` inputs.

    The matrix of a convolution ``(out, in, *kernel)`` is ``(out, in * kernel)``: a block's columns run over the places
    of the kernel first, then over the input channels. Where a layer is no multiple of the block, the blocks at its
    right and lower edge are smaller. Raises ConfigError for sizes below 1.
    """

    rows: int = 4
    columns: int = 4

    def __post_init__(self) -> None:
        for key, size in (("rows", self.rows), ("columns", self.columns)):
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ConfigError(f"structure 'block': {key} is {size!r}", hint="blocks are e.g. 4 x 4 weights")

    @property
    def name(self) -> str:
        """``block``."""
        return "block"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered by layer, then row by row of blocks. Raises ModelError when no layer can be pruned."""
        local = {}
        for name, layer in layers_to_part(self.name, network).items():
            n_outputs, n_inputs = layer.weight.flatten(1).shape
            row = torch.arange(n_outputs) // self.rows
            column = torch.arange(n_inputs) // self.columns
            per_row = -(-n_inputs // self.columns)
            local[name] = (row[:, None] * per_row + column).reshape(layer.weight.shape)
        return Groups(self.name, *joined(local))


register_structure("block", Block)
