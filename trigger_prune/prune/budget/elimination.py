"""Smallest sum of one value per layer and one value per pair of layers, exactly, on any graph.

Variable elimination (Dechter, Artificial Intelligence 113 (1999) 41): layers are removed one at a time, each leaving a
table over its neighbours. On a chain this is the Viterbi recursion; a residual block needs tables over three layers.
Time and memory are set by the largest table, ``cells``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
FORBIDDEN = 1e12
"""Value of a forbidden pair, in units of the largest possible sum: large, but finite so that differences exist."""


@dataclass(frozen=True)
class _Bucket:
    axes: tuple[int, ...]  # layers of the table: the removed one first, the others in the order of their removal
    pairs: tuple[tuple[int, bool, tuple[int, ...]], ...]  # pair, transpose?, shape to broadcast
    children: tuple[tuple[int, tuple[int, ...]], ...]  # bucket whose message arrives here, shape to broadcast


class Elimination:
    """The order of removal for one graph; then any number of minimisations on it.

    ``sizes``: options per layer; ``pairs``: the layers (first, second) of each pair.
    """

    def __init__(self, sizes: Sequence[int], pairs: Sequence[tuple[int, int]]) -> None:
        self.sizes = tuple(sizes)
        neighbours: list[set[int]] = [set() for _ in sizes]
        for first, second in pairs:
            neighbours[first].add(second)
            neighbours[second].add(first)
        order, scopes = _removal(self.sizes, neighbours)
        place = {layer: number for number, layer in enumerate(order)}
        axes = {layer: (layer, *sorted(scopes[layer], key=place.__getitem__)) for layer in order}
        self.order = tuple(order)
        self.cells = max(math.prod(self.sizes[axis] for axis in scope) for scope in axes.values())

        def shape(of: Sequence[int], inside: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(self.sizes[axis] if axis in of else 1 for axis in inside)

        own_pairs: dict[int, list[Any]] = {layer: [] for layer in order}
        for number, (first, second) in enumerate(pairs):
            home = first if place[first] < place[second] else second
            own_pairs[home].append((number, home == second, shape((first, second), axes[home])))
        children: dict[int, list[Any]] = {layer: [] for layer in order}
        for layer in order:
            if len(axes[layer]) > 1:
                parent = axes[layer][1]
                children[parent].append((layer, shape(axes[layer][1:], axes[parent])))
        self._buckets = {
            layer: _Bucket(axes[layer], tuple(own_pairs[layer]), tuple(children[layer])) for layer in order
        }

    def _up(self, unary: Sequence[Values], pairwise: Sequence[Values]) -> tuple[dict[int, Values], dict[int, Values]]:
        tables: dict[int, Values] = {}
        messages: dict[int, Values] = {}
        for layer in self.order:
            bucket = self._buckets[layer]
            table = unary[layer].reshape(-1, *(1,) * (len(bucket.axes) - 1))
            for number, transpose, shape in bucket.pairs:
                values = pairwise[number].T if transpose else pairwise[number]
                table = table + values.reshape(shape)
            for child, shape in bucket.children:
                table = table + messages[child].reshape(shape)
            # a neighbour whose pair is found in no bucket of this scope still needs its axis
            table = np.broadcast_to(table, tuple(self.sizes[axis] for axis in bucket.axes))
            tables[layer] = table
            messages[layer] = table.min(0)
        return tables, messages

    def minimise(self, unary: Sequence[Values], pairwise: Sequence[Values]) -> tuple[float, npt.NDArray[np.int64]]:
        """The smallest sum and the position chosen in every layer.

        ``unary``: values [option] per layer; ``pairwise``: values [first's option, second's option] per pair.
        """
        tables, messages = self._up(unary, pairwise)
        choice = np.zeros(len(self.sizes), dtype=np.int64)
        for layer in reversed(self.order):
            table = tables[layer]
            for axis in reversed(self._buckets[layer].axes[1:]):
                table = table[..., choice[axis]]
            choice[layer] = int(np.argmin(table))
        roots = [layer for layer in self.order if len(self._buckets[layer].axes) == 1]
        return float(sum(float(messages[layer]) for layer in roots)), choice

    def marginals(self, unary: Sequence[Values], pairwise: Sequence[Values]) -> list[Values]:
        """For every layer and option: the smallest sum of all choices that contain the option."""
        tables, messages = self._up(unary, pairwise)
        roots = [layer for layer in self.order if len(self._buckets[layer].axes) == 1]
        lowest = float(sum(float(messages[layer]) for layer in roots))
        result: list[Values] = [np.zeros(0)] * len(self.sizes)
        down: dict[int, Values] = {}
        for layer in reversed(self.order):
            bucket = self._buckets[layer]
            belief = tables[layer]
            # a root has no message from above; the other connected parts of the graph add their own smallest sums
            belief = belief + (down[layer][None] if layer in down else lowest - float(messages[layer]))
            result[layer] = belief.reshape(belief.shape[0], -1).min(1)
            for child, shape in bucket.children:
                rest = belief - messages[child].reshape(shape)
                unused = tuple(
                    number for number, axis in enumerate(bucket.axes) if axis not in self._buckets[child].axes
                )
                down[child] = rest.min(unused) if unused else rest
        return result


def _removal(sizes: Sequence[int], neighbours: list[set[int]]) -> tuple[list[int], dict[int, set[int]]]:
    """Remove the layer with the smallest table next, again and again; its neighbours become neighbours."""
    left = set(range(len(sizes)))
    order, scopes = [], {}
    while left:
        layer = min(left, key=lambda v: (math.prod(sizes[u] for u in neighbours[v]) * sizes[v], v))
        scope = set(neighbours[layer])
        for other in scope:
            neighbours[other] |= scope
            neighbours[other] -= {other, layer}
        left.remove(layer)
        order.append(layer)
        scopes[layer] = scope
    return order, scopes
