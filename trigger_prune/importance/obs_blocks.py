"""Greedy removal of weights by their OBS saliency, exact over whole rows or within blocks of their inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.importance.obs_repair import cut

_INVERSE_VALUES = 2**26
"""Largest total size of the inverse Hessians of a layer's rows (512 MiB): each row has its own once weights go."""

_MORE = 1 + 1e-9


class InputBlocks:
    """The inputs of a layer's rows cut into runs of ``size``, each with the bias, and the Hessian of each.

    With one block (``size`` at least the number of weights of a row) everything is exact. With several, a removal is
    made up for by its own block and the bias alone: entries of the inverse between blocks count as zero. A saliency is
    then an upper bound of the exact one; the two agree when the inputs of different blocks are uncorrelated.

    hessian   ``(groups, inputs, inputs)``, see ``layer_hessians``
    kept      ``(rows, weights)`` bool
    size      None: the largest for which the inverses of all rows fit in memory
    Raises ConfigError for a size below 1, ModelError for a layer too large for blocks of that size.
    """

    def __init__(self, hessian: Tensor, kept: Tensor, size: int | None) -> None:
        rows, n_weights = kept.shape
        self.has_bias = hessian.shape[1] - n_weights
        if size is not None and size < 1:
            raise ConfigError(f"{size} inputs per block of a layer's Hessian; at least 1 is needed")
        fits = _INVERSE_VALUES // (rows * n_weights)
        wanted = fits if size is None else min(size, n_weights)
        self.size = min(max(wanted, 1), n_weights)
        self.count = -(-n_weights // self.size)
        if rows * self.count * (self.size + self.has_bias) ** 2 > 4 * _INVERSE_VALUES:
            raise ModelError(
                f"a layer of {rows} rows of {n_weights} inputs is too large for blocks of {self.size} inputs",
                hint="give a smaller block, or score the layer with obd_fisher or wanda",
            )
        self.hessian = hessian
        self.kept = kept

    def start(self, values: Tensor) -> BlockRemoval:
        """Removal that begins at the rows ``values`` ``(rows, inputs)``, the best there are with the weights kept."""
        return BlockRemoval(self, values)

    def split(self, rows: Tensor, fill: float) -> Tensor:
        """``(rows, weights)`` as ``(rows * blocks, size)``; the last block is filled up."""
        missing = self.count * self.size - rows.shape[1]
        return torch.nn.functional.pad(rows, (0, missing), value=fill).reshape(-1, self.size)

    def joined(self, blocks: Tensor) -> Tensor:
        """Inverse of ``split``."""
        return blocks.reshape(len(self.kept), -1)[:, : self.kept.shape[1]]


class BlockRemoval:
    """Weights that go one by one. ``kept`` ``(rows, weights)`` says which are left."""

    def __init__(self, blocks: InputBlocks, values: Tensor) -> None:
        self.blocks = blocks
        n_weights = blocks.kept.shape[1]
        self._kept = blocks.split(blocks.kept.to(torch.uint8), 0) != 0
        self._values = blocks.split(values[:, :n_weights], 0.0).clone()
        if blocks.has_bias:
            bias = values[:, n_weights:].repeat_interleave(blocks.count, dim=0)
            self._values = torch.cat([self._values, bias], dim=1)
        self._inverse = self._inverses()
        self._costs = self._costs_of(slice(None))
        self._cheapest, self._where = self._costs.min(dim=1)

    def _inverses(self) -> Tensor:
        """Of the kept part of every block of every row, ``(rows * blocks, k, k)``; the identity elsewhere."""
        blocks = self.blocks
        n_weights = blocks.kept.shape[1]
        rows_per_group = len(blocks.kept) // len(blocks.hessian)
        keep = torch.nn.functional.pad(self._kept, (0, blocks.has_bias), value=True)
        keep = keep.reshape(len(blocks.hessian), rows_per_group, blocks.count, -1)
        width = blocks.size + blocks.has_bias
        inverse = blocks.hessian.new_empty(*keep.shape, width)
        for number in range(blocks.count):
            # the filled-up places repeat some input: they are cut out
            inputs = torch.arange(number * blocks.size, (number + 1) * blocks.size).clamp_max(n_weights - 1)
            places = torch.cat([inputs, torch.arange(n_weights, n_weights + blocks.has_bias)])
            parts = blocks.hessian[:, places][:, :, places].unsqueeze(1).expand(-1, rows_per_group, -1, -1)
            # masked weights are cut out: what is left in the other places is the inverse for the kept ones
            inverse[:, :, number] = torch.linalg.inv(cut(parts, keep[:, :, number]))
        return inverse.reshape(-1, width, width)

    @property
    def kept(self) -> Tensor:
        return self.blocks.joined(self._kept)

    def costs(self) -> Tensor:
        """``w_q^2 / (2 [H^-1]_qq)`` of every kept weight, ``(rows, weights)``; infinity for the others."""
        return self.blocks.joined(self._costs)

    def group_errors(self, ids: Tensor) -> list[list[tuple[int, float]]]:
        """For every row the groups in it and the least error of removing all their kept weights from it at once.

        ids   ``(rows, weights)`` int64, below zero for weights in no group
        ``1/2 w_G^T ([H^-1]_GG)^-1 w_G``, summed over the blocks of the row.
        """
        result: list[list[tuple[int, float]]] = [[] for _ in self.blocks.kept]
        split = self.blocks.split(ids, -1)
        for block, members in enumerate(torch.where(self._kept, split, -1)):
            for group in torch.unique(members[members >= 0]).tolist():
                q = (members == group).nonzero().flatten()
                w = self._values[block, q]
                solved = torch.linalg.solve(self._inverse[block][q][:, q], w)
                result[block // self.blocks.count].append((group, 0.5 * float(w @ solved)))
        return result

    def ladder(self) -> Tensor:
        """Removes every weight, in each block the one of least cost at a time: what each removal added, ``(rows,
        weights)``, 0 for weights not kept.

        Repairs can make a later weight cheaper than one before it. It then counts a trifle more than that one, so that
        the order of the entries is that of the removal.
        """
        each = torch.arange(len(self._kept), device=self._kept.device)
        found = torch.zeros_like(self._costs)
        highest = self._costs.new_zeros(len(self._kept))
        while bool((left := self._cheapest.isfinite()).any()):
            blocks, q = each[left], self._where[left]
            highest[left] = torch.maximum(highest[left] * _MORE, self._cheapest[left])
            found[blocks, q] = highest[left]
            self._remove(blocks, q)
        return self.blocks.joined(found)

    def remove_cheapest(self) -> float:
        """Removes the weight of least cost and repairs its block. Returns the cost; there must be a weight left."""
        block = int(self._cheapest.argmin())
        q = int(self._where[block])
        cost = float(self._cheapest[block])
        # in place: of many removals most of the time would go into copies
        inverse, values = self._inverse[block], self._values[block]
        column = inverse[:, q].clone()
        values -= values[q] / column[q] * column
        inverse -= torch.outer(column, column / column[q])
        self._kept[block, q] = False
        values[q] = 0
        # its place in the matrix is of no more use; 1 keeps the divisions finite
        inverse[q, q] = 1
        self._costs[block] = self._costs_of(block)
        self._cheapest[block], self._where[block] = self._costs[block].min(dim=0)
        return cost

    def _remove(self, blocks: Tensor, q: Tensor) -> None:
        """What ``remove_cheapest`` does, for weight ``q`` of each of these blocks at once."""
        inverse, values = self._inverse[blocks], self._values[blocks]
        each = torch.arange(len(q), device=q.device)
        column = inverse[each, :, q]
        pivot = column[each, q].unsqueeze(1)
        values -= values[each, q].unsqueeze(1) / pivot * column
        inverse -= column.unsqueeze(2) * (column / pivot).unsqueeze(1)
        values[each, q] = 0
        inverse[each, q, q] = 1
        self._kept[blocks, q] = False
        self._inverse[blocks], self._values[blocks] = inverse, values
        self._costs[blocks] = self._costs_of(blocks)
        self._cheapest[blocks], self._where[blocks] = self._costs[blocks].min(dim=1)

    def _costs_of(self, block: Tensor | int | slice) -> Tensor:
        size = self.blocks.size
        diagonal = self._inverse[block].diagonal(dim1=-2, dim2=-1)[..., :size]
        costs = self._values[block][..., :size].square() / (2 * diagonal)
        return costs.masked_fill(~self._kept[block], torch.inf)
