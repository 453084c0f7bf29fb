"""The layers without a neighbour, of many nodes of a search tree at once.

Nothing joins these layers to others, so that the smallest priced plan takes the smallest priced option of each. Layers
whose numbers of options are alike share a rectangle [layer, option, node], and all work is done on whole rectangles:
sums over the chosen options are products with a matrix of zeros and ones and not gathered one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trigger_prune.prune.budget.label_bounds import Values, Whole

SINGLE_THREAD = 200_000
"""Multiplications of one matrix product at most."""

Masks = npt.NDArray[np.bool_]
Rectangles = list[Values]
"""[layer, option, node] each, in the order of the kinds of layers."""


@dataclass(frozen=True, eq=False)
class _Kind:
    """Layers of one rectangle: their step ``numbers``, their options ``grid`` [layer, option], what those spend.

    Where a layer has fewer options than the rectangle, the option behind the last one of all takes the place, which is
    always closed. ``own`` [cell, quantity] has a last column of ones, which counts options.
    """

    numbers: Whole
    grid: Whole
    own: Values


class LoneLayers:
    """``numbers``: the steps of these layers; ``start``, ``sizes``: options of a step; ``own`` [option, quantity]."""

    def __init__(self, numbers: Sequence[int], start: Whole, sizes: Sequence[int], own: Values) -> None:
        alike: dict[int, list[int]] = {}
        for number in numbers:
            alike.setdefault((sizes[number] - 1).bit_length(), []).append(number)
        self.options, self.quantities = len(own), own.shape[1]
        padded = np.concatenate([own, np.zeros((1, self.quantities))])
        padded = np.concatenate([padded, np.ones((len(padded), 1))], axis=1)
        self.kinds = []
        for layers in alike.values():
            grid = np.full((len(layers), max(sizes[number] for number in layers)), self.options)
            for row, number in zip(grid, layers, strict=True):
                row[: sizes[number]] = start[number] + np.arange(sizes[number])
            self.kinds.append(_Kind(np.array(layers), grid, padded[grid.ravel()]))

    def closed(self, flat: Values) -> Rectangles:
        """The rectangles of ``flat`` [option + 1, node], whose last row is that of the option behind the last."""
        return [flat[kind.grid] for kind in self.kinds]

    def priced(self, weights: Values, closed: Rectangles) -> tuple[Rectangles, Rectangles]:
        """Priced options for ``weights`` [quantity, node]; ``closed``: 0, or infinity for an option that is closed.

        Also the smallest of each layer, [layer, node] by kind.
        """
        count = weights.shape[1]
        values = []
        for kind, shut in zip(self.kinds, closed, strict=True):
            priced = product(kind.own[:, :-1], weights).reshape(*kind.grid.shape, count)
            priced += shut
            values.append(priced)
        return values, [priced.min(1) for priced in values]

    def close(self, closed: Rectangles, values: Rectangles, least: Rectangles, room: Values) -> None:
        """Close the options through which every plan is over the least by ``room`` [node]."""
        for shut, priced, smallest in zip(closed, values, least, strict=True):
            np.copyto(shut, np.inf, where=priced >= (smallest + room)[:, None])

    def chosen(self, values: Rectangles, least: Rectangles, known: Masks) -> tuple[Rectangles, Values]:
        """1 for the smallest option of each layer, else 0, and what they spend together [node, quantity].

        ``known`` [node]: whether that is asked; of others, which may have a layer with no option left, it is anything.
        """
        marks: Rectangles = []
        spent = np.zeros((len(known), self.quantities))
        for kind, priced, smallest in zip(self.kinds, values, least, strict=True):
            cells, count = kind.own.shape[0], priced.shape[2]
            mark = (priced == smallest[:, None]).astype(np.float64)
            total = product(mark.reshape(cells, count).T, kind.own)
            if (total[known, -1] != len(kind.numbers)).any():  # two options of a layer are equal: the first it is
                mark[:] = 0.0
                np.put_along_axis(mark, priced.argmin(1)[:, None], 1.0, axis=1)
                total = product(mark.reshape(cells, count).T, kind.own)
            marks.append(mark)
            spent += total[:, :-1]
        return marks, spent

    def write(self, marks: Rectangles, nodes: Whole, choice: Whole) -> None:
        """Into ``choice`` [step, one of ``nodes``] the number of the chosen option of each layer."""
        for kind, mark in zip(self.kinds, marks, strict=True):
            choice[kind.numbers] = mark[:, :, nodes].argmax(1)

    def spread(self, rectangles: Rectangles, flat: Values) -> None:
        """Into the rows of ``flat`` [option + 1, node]; its last row is left with anything."""
        for kind, values in zip(self.kinds, rectangles, strict=True):
            flat[kind.grid] = values


def product(rows: Values, columns: Values) -> Values:
    """Matrix product in pieces that are too small for several threads, whose start costs more than they save here."""
    piece = max(1, SINGLE_THREAD // columns.size)
    if len(rows) <= piece:
        return rows @ columns
    result = np.empty((len(rows), columns.shape[1]))
    for first in range(0, len(rows), piece):
        np.matmul(rows[first : first + piece], columns, out=result[first : first + piece])
    return result
