"""The smallest loss within the limits, with proof: prices, exclusion, branch and bound on what is left, else HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trigger_prune.prune.budget.cores import branch_in_cores
from trigger_prune.prune.budget.greedy import greedy_choice
from trigger_prune.prune.budget.lagrange import Bound, Priced, Pricing
from trigger_prune.prune.budget.local_search import local_search
from trigger_prune.prune.budget.milp import solve_milp
from trigger_prune.prune.budget.plan import relative_gap as gap_of
from trigger_prune.prune.budget.progress import Progress
from trigger_prune.prune.budget.tables import Choice, Tables, feasible, positions_in, tightened

FIRST_CORE = 6
"""Options per layer, on average, in the first core that HiGHS gets."""
MAX_CELLS = 2_000_000
"""Largest elimination table; beyond it the graph is left to HiGHS alone."""


@dataclass(frozen=True, eq=False)
class Exact:
    """``choice``: None if no plan was found; ``infeasible``: proven that there is none. ``bound`` on the loss."""

    choice: Choice | None
    loss: float
    bound: float
    infeasible: bool


def solve_exact(tables: Tables, *, relative_gap: float, deadline: float) -> Exact:
    """Until the proven gap is at most ``relative_gap``, or until ``deadline`` (``time.monotonic``).

    Where the deadline came first, greedy has its say as well, so that the answer is never worse than greedy's.
    """
    progress = Progress(tables, relative_gap, deadline)
    _solve(progress)
    if not progress.infeasible and (
        progress.choice is None or gap_of(progress.loss, progress.bound) > progress.relative_gap
    ):
        progress.offer(greedy_choice(tables))
    return _result(progress)


def solve_program(tables: Tables, *, relative_gap: float, deadline: float) -> Exact:
    """HiGHS alone on the whole problem."""
    progress = Progress(tables, relative_gap, deadline)
    _program(progress, tables, np.inf)
    return _result(progress)


def _result(progress: Progress) -> Exact:
    return Exact(progress.choice, progress.loss, min(progress.bound, progress.loss), progress.infeasible)


def _solve(progress: Progress) -> None:
    tables, relative_gap = progress.tables, progress.relative_gap
    if Priced(tables).elimination.cells > MAX_CELLS:
        _program(progress, tables, np.inf)
        return
    bound = Pricing(tables, min(max(1e-9, 0.02 * relative_gap), 1e-3)).run(progress.deadline)
    if bound.infeasible:
        progress.infeasible = True
        return
    progress.offer(bound.incumbent)
    progress.raise_bound(min(bound.value, progress.loss))
    if not branch_in_cores(progress, bound):
        local_search(progress, bound)
        _grow(progress, bound)


def _grow(progress: Progress, bound: Bound) -> None:
    """HiGHS on cores of growing size (see ``cores``)."""
    ranked = np.sort(np.concatenate(bound.through))
    margin = 1e-9 * max(1.0, abs(bound.value))
    size = FIRST_CORE * len(bound.through)
    while not progress.done():
        complete = size >= len(ranked)
        threshold = progress.loss if complete else float(ranked[size])
        if progress.loss <= threshold + margin:
            threshold, complete = progress.loss, True
        keep = [values <= threshold + margin for values in bound.through]
        if all(mask.any() for mask in keep):
            _program(progress, bound.tables.restrict(keep), threshold)
        elif complete and np.isfinite(threshold):
            progress.raise_bound(threshold)
        if complete:
            return
        size *= 2


def _program(progress: Progress, tables: Tables, threshold: float) -> None:
    """HiGHS on restricted tables; every plan outside them has a loss of at least ``threshold``."""
    limits = tables
    for _ in range(2):
        answer = solve_milp(limits, relative_gap=progress.relative_gap * 0.9, deadline=progress.deadline)
        if limits is tables:
            progress.raise_bound(threshold if answer.infeasible else min(threshold, answer.bound))
            progress.infeasible = answer.infeasible and not np.isfinite(threshold)
        if answer.choice is None:
            return
        found = positions_in(progress.tables, tables, answer.choice)
        progress.offer(found)
        if feasible(progress.tables, found):
            return
        # HiGHS may pass a limit by its tolerance; once more with that limit lowered by twice the excess
        limits = tightened(tables, answer.choice)
