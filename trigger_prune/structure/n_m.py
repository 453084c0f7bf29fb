"""N:M sparsity: of every M consecutive inputs of an output, N weights stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trigger_prune.errors import ConfigError
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.numbering import joined, layers_to_part


@dataclass(frozen=True)
class NofM:
    """Single weights, of which every cell of ``m`` consecutive inputs keeps at least ``n``.

    A. Mishra et al., "Accelerating sparse deep neural networks", arXiv:2104.08378. The sparsity ends at ``1 - n / m``:
    then every cell holds exactly ``n`` weights, and hardware needs ``n`` multipliers and an index for ``m`` inputs.
    The cells of a convolution are ``m`` consecutive input channels at the same place of the kernel. Where the inputs
    are no multiple of ``m``, the last cell of a row is smaller and keeps ``n`` weights too, or all it has.
    Raises ConfigError unless 1 <= n < m.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        for size in (self.n, self.m):
            if not isinstance(size, int) or isinstance(size, bool):
                raise ConfigError(
                    f"structure 'n_m': {size!r} is no integer", hint="keep n of every m weights, e.g. 2, 4"
                )
        if not 1 <= self.n < self.m:
            raise ConfigError(f"structure 'n_m': cannot keep {self.n} of every {self.m} weights", hint="1 <= n < m")

    @property
    def name(self) -> str:
        """``n_m``."""
        return "n_m"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered by layer, then in the flat order of the weight. Raises ModelError when no layer can be pruned."""
        layers = layers_to_part(self.name, network)
        weights, cells = {}, {}
        for name, layer in layers.items():
            shape = layer.weight.shape
            weights[name] = torch.arange(layer.weight.numel()).reshape(shape)
            n_outputs, n_inputs, places = shape[0], shape[1], shape[2:].numel()
            per_row = -(-n_inputs // self.m)
            row = torch.arange(n_outputs * places).reshape(n_outputs, 1, places)
            cell = row * per_row + (torch.arange(n_inputs) // self.m).reshape(1, n_inputs, 1)
            cells[name] = cell.reshape(shape)
        numbered, n_cells = joined(cells)
        cell_of = torch.cat([ids.flatten() for ids in numbered.values()])
        removable = (torch.bincount(cell_of, minlength=n_cells) - self.n).clamp(min=0)
        return Groups(self.name, *joined(weights), cells=cell_of, removable_per_cell=removable)


register_structure("n_m", NofM)
