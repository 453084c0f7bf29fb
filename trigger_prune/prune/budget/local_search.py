"""Better plans without proof: a narrow search among the most promising options, then in the neighbourhood of the best.

The neighbourhood frees some layers and keeps the options of the others (large neighbourhood search). Free are the
layers on which the best plan and the linear relaxation disagree (RINS, Danna, Rothberg and Le Pape, Mathematical
Programming 102 (2005) 71), first all of them, then a random half, and random others.
"""

from __future__ import annotations

import numpy as np

from trigger_prune.prune.budget.enumeration import Enumeration, Prices
from trigger_prune.prune.budget.greedy import greedy_choice
from trigger_prune.prune.budget.lagrange import Bound
from trigger_prune.prune.budget.progress import Progress
from trigger_prune.prune.budget.tables import positions_in

CORE = 6
"""Options per layer, on average, in the first search."""
PRICE_SETS = 40
FREE, FAILURES = 18, 10
"""Layers that a neighbourhood frees at least, and how many may bring nothing in a row."""
WIDTH = 500
"""Partial plans kept per layer."""


def local_search(progress: Progress, bound: Bound) -> None:
    """Until nothing better is found for a while, or until the deadline."""
    ranked = np.sort(np.concatenate(bound.through))
    for factor in (1, 2):
        place = min(factor * CORE * len(bound.through), len(ranked) - 1)
        before = progress.loss
        _beam(progress, bound, min(float(ranked[place]), progress.loss))
        if progress.loss < before:
            break
    for start in reversed(bound.starts):
        if np.isfinite(progress.loss):
            break
        choice = greedy_choice(bound.tables, start)
        progress.offer(None if choice is None else positions_in(progress.tables, bound.tables, choice))
    _improve(progress, bound)


def _improve(progress: Progress, bound: Bound) -> None:
    if progress.choice is None:
        return
    random = np.random.default_rng(0)
    names = progress.tables.names
    failures = 0
    while failures < FAILURES and not progress.done():
        before = progress.loss
        chosen = progress.tables.choice_of(progress.choice)
        torn = np.array([any(plan[name] != chosen[name] for plan in bound.mixture) for name in names])
        if failures:
            torn &= random.random(len(names)) < 0.5
        free = torn.copy()
        free[random.permutation(len(names))[: max(FREE - int(torn.sum()), FREE // 2)]] = True
        fixed = {name: chosen[name] for name, moves in zip(names, free, strict=True) if not moves}
        _beam(progress, bound, before - 1e-9 * max(1.0, abs(before)), fixed)
        failures = failures + 1 if progress.loss >= before else 0
        if free.all():
            return


def _beam(progress: Progress, bound: Bound, ceiling: float, fixed: dict[str, int] | None = None) -> None:
    """Plans below the ceiling, layer by layer. ``fixed``: layers that keep this option of their menu."""
    margin = 1e-9 * max(1.0, abs(ceiling))
    keep = [
        kept == fixed[name] if fixed and name in fixed else values <= ceiling + margin
        for values, kept, name in zip(bound.through, bound.tables.kept, bound.tables.names, strict=True)
    ]
    if not all(mask.any() for mask in keep):
        return
    tables = bound.tables.restrict(keep)
    enumeration = Enumeration(tables, Prices(bound.prices.values[:PRICE_SETS], bound.prices.paths))
    if enumeration.steps:
        found = enumeration.search(ceiling, width=WIDTH, deadline=progress.deadline)
        if found.choice is not None:
            progress.offer(positions_in(progress.tables, tables, found.choice))
