"""Judging many networks on the same events: all of them, or as many as the interval needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.physics.intervals import LEVEL_68
from trigger_prune.sensitivity.findings import Figure
from trigger_prune.sensitivity.intervals import (
    Looks,
    make_looks,
    normal_figures,
    padded_errors,
    percentile_figures,
)
from trigger_prune.sensitivity.metrics import Columns, Judge
from trigger_prune.sensitivity.rank_figures import grid_fraction
from trigger_prune.sensitivity.resample import Moving, Resampler, figures_of

FIRST_LOOK = 1024
"""Events of the first look of a sequential test; the normal approximation needs some."""

_PASSING_EVENTS = 25.0
RELATIVE_WIDTH = 0.2
"""A change need not be known better than to a fifth of itself (full width of the interval)."""

Evaluate = Callable[[slice, Sequence[int]], Columns]
"""Columns of the events ``rows`` for the variants of these numbers, in that order."""


@dataclass(frozen=True)
class Judged:
    """Figures of one network and the number of events behind them."""

    figures: dict[str, Figure]
    events: int


class Bench:
    """The unpruned network on the events, and the resamples that everything is compared with.

    base    its columns on all events
    width   None: every network is judged on all events. Else a network is done as soon as the interval of the change
            of ``judge.objective_figure`` is no wider than this (or than ``RELATIVE_WIDTH`` of the change)
    """

    def __init__(
        self,
        base: Columns,
        judge: Judge,
        resampler: Resampler,
        width: float | None = None,
        level: float = LEVEL_68,
        first_look: int = FIRST_LOOK,
    ) -> None:
        self.base, self.judge, self.resampler, self.width, self.level = base, judge, resampler, width, level
        self.n_events = base.loss.shape[0]
        scores = base.scores
        self.fractions: tuple[int | None, ...] = (
            () if scores is None else tuple(grid_fraction(scores[k].double().numpy()) for k in range(len(scores)))
        )
        self.looks: Looks | None = None
        if width is not None:
            self.looks = make_looks(self.n_events, max(first_look, self._events_for_efficiency()), level)
        self._of_base: dict[tuple[int, tuple[str, ...]], dict[str, Moving]] = {}

    def _events_for_efficiency(self) -> int:
        """Events until some background passes: before, nothing is known about where the threshold lies."""
        if self.judge.objective_figure != "efficiency":
            return 0
        fewest = min(
            self.resampler.cluster_effective(self.judge.physical * ~ranking.positive) for ranking in self.judge.rankings
        )
        return math.ceil(_PASSING_EVENTS / self.judge.background_fraction * self.n_events / fewest)

    def of_base(self, n: int, names: tuple[str, ...]) -> dict[str, Moving]:
        """The baseline on the first ``n`` events."""
        if (n, names) not in self._of_base:
            self._of_base[n, names] = self.figures_of(self.base.first(n), names)
        return self._of_base[n, names]

    def figures_of(self, columns: Columns, names: tuple[str, ...]) -> dict[str, Moving]:
        """Figures of variants on the first events."""
        return figures_of(columns, self.judge, self.resampler, names, self.fractions)

    def baseline(self) -> Judged:
        """The unpruned network on all events."""
        n, own = self.n_events, self.of_base(self.n_events, self.judge.names)
        if self.looks is not None:
            return Judged(normal_figures(own, own, self.judge, self.resampler, n, self.looks.sigmas)[0], n)
        return Judged(percentile_figures(own, own, self.resampler, self.level)[0], n)

    def judge_all(self, evaluate: Evaluate, n_variants: int) -> list[Judged]:
        """Judge variants 0 .. n_variants - 1."""
        if self.looks is not None:
            return self._sequentially(evaluate, n_variants, self.looks)
        names = self.judge.names
        block = self.figures_of(evaluate(slice(0, self.n_events), range(n_variants)), names)
        figures = percentile_figures(block, self.of_base(self.n_events, names), self.resampler, self.level)
        return [Judged(found, self.n_events) for found in figures]

    def _sequentially(self, evaluate: Evaluate, n_variants: int, looks: Looks) -> list[Judged]:
        active = list(range(n_variants))
        found: dict[int, Judged] = {}
        columns: Columns | None = None
        seen = 0
        for n in looks.events:
            new = evaluate(slice(seen, n), active)
            columns = new if columns is None else Columns.join([columns, new])
            seen = n
            done = np.ones(len(active), bool) if n == self.n_events else self._narrow(columns, n, looks)
            if done.any():
                names, finished = self.judge.names, np.flatnonzero(done).tolist()
                block = self.figures_of(columns.rows(finished), names)
                figures = normal_figures(block, self.of_base(n, names), self.judge, self.resampler, n, looks.sigmas)
                for number, entry in zip(finished, figures, strict=True):
                    found[active[number]] = Judged(entry, n)
                columns = columns.rows(np.flatnonzero(~done).tolist())
                active = [number for number, stop in zip(active, done, strict=True) if not stop]
            if not active:
                break
        return [found[number] for number in range(n_variants)]

    def _narrow(self, columns: Columns, n: int, looks: Looks) -> NDArray[np.bool_]:
        name = self.judge.objective_figure
        block, base = self.figures_of(columns, (name,))[name], self.of_base(n, (name,))[name]
        _, errors = padded_errors(name, block, base, self.judge, self.resampler, n)
        wanted = np.maximum(self.width or 0.0, RELATIVE_WIDTH * np.abs(block.values - base.values))
        result: NDArray[np.bool_] = 2 * looks.sigmas * errors <= wanted
        return result
