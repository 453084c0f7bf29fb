"""The smallest loss within the limits, with proof: prices, exclusion, enumeration, and HiGHS on what is left.

An option through which every plan has a priced bound above T cannot be part of a plan with less loss than T. So the
search gets only the options below T (the "core" of the knapsack literature, Kellerer et al. 2004, chapter 5): the
smaller of T and the search's own bound holds for the whole problem. T is the loss that a better plan would need; while
no plan is known it grows from a few options per layer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from trigger_prune.prune.budget.enumeration import Enumeration, Prices
from trigger_prune.prune.budget.greedy import greedy_choice
from trigger_prune.prune.budget.lagrange import Bound, Priced, Pricing
from trigger_prune.prune.budget.milp import solve_milp
from trigger_prune.prune.budget.plan import relative_gap as gap_of
from trigger_prune.prune.budget.tables import Choice, Tables, feasible, positions_in, tightened, total

FIRST_CORE = 6
"""Options per layer in the first core, on average."""
MAX_CELLS = 2_000_000
"""Largest elimination table; beyond it the graph is left to HiGHS alone."""
PRICE_SETS = 40
HIGHS_BEFORE, HIGHS_SHARE, HIGHS_SECONDS = 2, 0.35, 10.0
"""The search before which HiGHS is asked, for this part of the time left, or so many seconds if there is no limit."""
INSIDE = 1 - 1e-6
"""Part of the wanted gap that a proof aims for, so that rounding leaves it within the whole."""
FREE, FAILURES = 18, 10
"""Layers that a local search frees at least, and how often it may fail in a row."""
FIRST_WIDTH, WIDTHS = 500, (4000, 32_000, 300_000)
"""Partial plans kept per layer while looking for plans, and in the searches for a proof."""


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
    found = _solve(tables, relative_gap, deadline)
    if found.infeasible or (found.choice is not None and gap_of(found.loss, found.bound) <= relative_gap):
        return found
    search = _Search(tables, relative_gap, deadline)
    search.offer(found.choice)
    search.offer(greedy_choice(tables))
    search.raise_bound(found.bound)
    return search.result()


def _solve(tables: Tables, relative_gap: float, deadline: float) -> Exact:
    search = _Search(tables, relative_gap, deadline)
    if Priced(tables).elimination.cells > MAX_CELLS:
        return solve_program(tables, relative_gap=relative_gap, deadline=deadline)
    pricing = Pricing(tables, min(max(1e-9, 0.02 * relative_gap), 1e-3))
    bound = pricing.run(deadline)
    if bound.infeasible:
        return Exact(None, np.inf, np.inf, True)
    search.offer(bound.incumbent)
    search.raise_bound(min(bound.value, search.loss))
    if not search.done():
        _first_plans(search, bound)
    for number, width in enumerate(WIDTHS):
        if number == HIGHS_BEFORE and not search.done():
            search.ask_highs(bound)
        if search.done() or not np.isfinite(search.loss):
            break
        started = time.monotonic()
        if search.enumerated(bound, width):
            break
        now = time.monotonic()
        if deadline - now < now - started:  # a search that the deadline cuts short proves nothing more
            return search.result()
    _grow(search, bound)
    return search.result()


def solve_program(tables: Tables, *, relative_gap: float, deadline: float) -> Exact:
    """HiGHS alone on the whole problem."""
    search = _Search(tables, relative_gap, deadline)
    search.program(tables, np.inf)
    return search.result()


def _first_plans(search: _Search, bound: Bound) -> None:
    """A narrow search among the most promising options, else greedy walks; then the neighbourhood of the best."""
    ranked = np.sort(np.concatenate(bound.through))
    for factor in (1, 2):
        place = min(factor * FIRST_CORE * len(bound.through), len(ranked) - 1)
        ceiling = min(float(ranked[place]), search.loss)
        before = search.loss
        search.beam(bound, ceiling, FIRST_WIDTH)
        if search.loss < before:
            break
    for start in reversed(bound.starts):
        if np.isfinite(search.loss):
            break
        choice = greedy_choice(bound.tables, start)
        search.offer(None if choice is None else positions_in(search.tables, bound.tables, choice))
    search.improve(bound)


def _grow(search: _Search, bound: Bound) -> None:
    """HiGHS on cores of growing size."""
    ranked = np.sort(np.concatenate(bound.through))
    margin = 1e-9 * max(1.0, abs(bound.value))
    size = FIRST_CORE * len(bound.through)
    while not search.done():
        complete = size >= len(ranked)
        threshold = search.loss if complete else float(ranked[size])
        if search.loss <= threshold + margin:
            threshold, complete = search.loss, True
        keep = [values <= threshold + margin for values in bound.through]
        if all(mask.any() for mask in keep):
            search.program(bound.tables.restrict(keep), threshold)
        elif complete and np.isfinite(threshold):
            search.raise_bound(threshold)
        if complete:
            return
        size *= 2


class _Search:
    """Best plan, best bound, and when to stop. Plans are positions in ``tables``."""

    def __init__(self, tables: Tables, relative_gap: float, deadline: float) -> None:
        self.tables, self.relative_gap, self.deadline = tables, relative_gap, deadline
        self.choice: Choice | None = None
        self.loss, self.bound = np.inf, -np.inf
        self.infeasible = False

    def offer(self, choice: Choice | None) -> None:
        """Keep the choice if it is feasible and better."""
        if choice is None:
            return
        loss = total(self.tables, choice)[0]
        if loss < self.loss and feasible(self.tables, choice):
            self.choice, self.loss = choice, loss

    def raise_bound(self, bound: float) -> None:
        """Keep the best proof."""
        if np.isfinite(bound):
            self.bound = max(self.bound, bound)

    def aim(self) -> float:
        """No plan with less loss than this: then the best one is close enough."""
        return self.loss - INSIDE * self.relative_gap * abs(self.loss)

    def done(self) -> bool:
        """Close enough, or out of time."""
        close = self.choice is not None and gap_of(self.loss, self.bound) <= self.relative_gap
        return close or self.infeasible or time.monotonic() > self.deadline

    def beam(self, bound: Bound, ceiling: float, width: int, fixed: dict[str, int] | None = None) -> float | None:
        """Enumerate plans below the ceiling; the proven bound, or None where the graph's tables are too large.

        ``fixed``: layers that keep this option of their menu; nothing is proven then.
        """
        margin = 1e-9 * max(1.0, abs(ceiling))
        keep = [
            kept == fixed[name] if fixed and name in fixed else values <= ceiling + margin
            for values, kept, name in zip(bound.through, bound.tables.kept, bound.tables.names, strict=True)
        ]
        if not all(mask.any() for mask in keep):
            return ceiling
        tables = bound.tables.restrict(keep)
        enumeration = Enumeration(tables, Prices(bound.prices.values[:PRICE_SETS], bound.prices.paths))
        if not enumeration.steps:
            return None
        found = enumeration.search(ceiling, width=width, deadline=self.deadline)
        if found.choice is not None:
            self.offer(positions_in(self.tables, tables, found.choice))
        return found.bound

    def ask_highs(self, bound: Bound) -> None:
        """Part of the time for HiGHS, which finds better plans where options are few and large."""
        ceiling = self.aim()
        keep = [values <= ceiling for values in bound.through]
        if not all(mask.any() for mask in keep):
            return
        now = time.monotonic()
        before, deadline = self.loss, self.deadline
        self.deadline = now + HIGHS_SHARE * (deadline - now) if np.isfinite(deadline) else now + HIGHS_SECONDS
        self.program(bound.tables.restrict(keep), ceiling)
        self.deadline = deadline
        if self.loss < before:
            self.improve(bound)

    def improve(self, bound: Bound) -> None:
        """Better plans near the best one: free some layers, keep the others, search (large neighbourhood search).

        Free are the layers on which the best plan and the linear relaxation disagree (RINS, Danna et al. 2005), first
        all of them, then a random half, and random others.
        """
        if self.choice is None:
            return
        random = np.random.default_rng(0)
        count = len(self.tables.names)
        failures = 0
        while failures < FAILURES and not self.done():
            before = self.loss
            chosen = self.tables.choice_of(self.choice)
            torn = np.array([any(plan[n] != chosen[n] for plan in bound.mixture) for n in self.tables.names])
            if failures:
                torn &= random.random(count) < 0.5
            free = torn.copy()
            free[random.permutation(count)[: max(FREE - int(torn.sum()), FREE // 2)]] = True
            self.beam(
                bound,
                before - 1e-9 * max(1.0, abs(before)),
                FIRST_WIDTH,
                fixed={name: chosen[name] for name, moves in zip(self.tables.names, free, strict=True) if not moves},
            )
            failures = failures + 1 if self.loss >= before else 0
            if free.all():
                return

    def enumerated(self, bound: Bound, width: int) -> bool:
        """Search below what a plan better than the known one by the wanted gap needs; whether nothing is left to do."""
        if not np.isfinite(self.loss):
            return False
        ceiling = self.aim()
        before = self.loss
        proven = self.beam(bound, ceiling, width)
        if self.loss < before:
            self.improve(bound)
        if proven is None:
            return True
        self.raise_bound(proven)
        return proven >= ceiling

    def program(self, tables: Tables, threshold: float) -> None:
        """HiGHS on restricted tables; every plan outside them has a loss of at least ``threshold``."""
        limits = tables
        for _ in range(2):
            answer = solve_milp(limits, relative_gap=self.relative_gap * 0.9, deadline=self.deadline)
            if limits is tables:
                self.raise_bound(threshold if answer.infeasible else min(threshold, answer.bound))
                self.infeasible = answer.infeasible and not np.isfinite(threshold)
            if answer.choice is None:
                return
            found = positions_in(self.tables, tables, answer.choice)
            self.offer(found)
            if feasible(self.tables, found):
                return
            # HiGHS may pass a limit by its tolerance; once more with that limit lowered by twice the excess
            limits = tightened(tables, answer.choice)

    def result(self) -> Exact:
        """What was found."""
        return Exact(self.choice, self.loss, min(self.bound, self.loss), self.infeasible)
