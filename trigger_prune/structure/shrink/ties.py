"""Numbers for neurons, and which of them can only be removed together."""

from __future__ import annotations

import torch
from torch import Tensor


class Ties:
    """Union-find over numbers 0, 1, 2, ...: each stands for one neuron, filter or input feature.

    ``kept`` holds, by root, why a set of tied numbers must stay; sets that are not in it may go.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self.kept: dict[int, str] = {}

    def fresh(self, count: int) -> Tensor:
        """``count`` new numbers, int64."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def root(self, number: int) -> int:
        """The number that stands for all that are tied to ``number``."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def roots(self, numbers: Tensor) -> Tensor:
        """``root`` of each, same shape."""
        table = torch.tensor([self.root(number) for number in range(len(self._parent))], dtype=torch.int64)
        return table[numbers]

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Tie two tensors of numbers of the same shape, element by element."""
        pairs = torch.stack([first.flatten(), second.flatten()], dim=1)
        for one, other in torch.unique(pairs, dim=0).tolist():
            a, b = self.root(one), self.root(other)
            if a != b:
                low, high = min(a, b), max(a, b)
                self._parent[high] = low
                reason = self.kept.pop(high, None)
                if reason is not None:
                    self.kept.setdefault(low, reason)

    def keep(self, numbers: Tensor, reason: str) -> None:
        """These, and all that is tied to them, stay."""
        for number in torch.unique(numbers).tolist():
            self.kept.setdefault(self.root(number), reason)
