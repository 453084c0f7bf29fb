"""Branch and bound among the options that matter.

An option through which every plan has a priced bound above T cannot be part of a plan with less loss than T. So the
tree gets only the options below T (the "core" of the knapsack literature, Kellerer, Pferschy and Pisinger, Knapsack
Problems (2004), chapter 5): the smaller of T and the bound by the tree holds for the whole problem. T grows from a few
options per layer until a plan is known, and is then the loss that a better plan would need; it falls with every better
plan, and options leave the tree as it grows.
"""

from __future__ import annotations

import time

import numpy as np

from trigger_prune.prune.budget.branching import Tree
from trigger_prune.prune.budget.enumeration import Enumeration, Path, Prices
from trigger_prune.prune.budget.label_bounds import Values, Whole
from trigger_prune.prune.budget.lagrange import Bound
from trigger_prune.prune.budget.local_search import local_search
from trigger_prune.prune.budget.node_bounds import NodeBounds
from trigger_prune.prune.budget.progress import Progress
from trigger_prune.prune.budget.tables import Choice, exceeded_path, positions_in

CORE, GROWTH, LEAP = 2.0, 1.4, 2.5
"""Options per layer, on average, in the first core; by how much the core grows while no plan is below T; by how much
it may grow at once to reach the loss of a plan that is known."""
SHRINK = 0.85
"""The tree is laid out anew when this part of its options is left below T."""
MAX_PATHS = 40
"""Paths through the graph on which the latency is limited."""
PATIENCE, PATIENCE_SECONDS, LOCAL_SHARE = 0.75, 10.0, 0.5
"""Part of the time left, or seconds, after which the tree waits for a local search; the part of the time then left, or
again so many seconds at most, that the local search gets."""


def branch_in_cores(progress: Progress, bound: Bound) -> bool:
    """Until the wanted gap is proven or the deadline is over; False where tables or tree are too large."""
    return _Cores(progress, bound).run()


class _Core:
    """The options of each layer that are below a ceiling, laid out for the tree."""

    def __init__(self, bound: Bound, ceiling: float, paths: list[Path]) -> None:
        keep = [values <= ceiling for values in bound.through]
        self.empty = not all(mask.any() for mask in keep)
        self.size = sum(int(mask.sum()) for mask in keep)
        if self.empty:
            return
        self.tables = bound.tables.restrict(keep)
        self.prices = np.zeros(len(self.tables.resources) + len(paths))
        self.prices[: bound.prices.values.shape[1]] = bound.prices.values[0]
        enumeration = Enumeration(self.tables, Prices(self.prices[None], tuple(paths)))
        self.order = enumeration.order
        self.bounds = NodeBounds(enumeration.steps, enumeration.limits) if enumeration.steps else None

    def columns(self, smaller: _Core) -> Whole:
        """Where the options of a smaller core, step by step, are among those of this one."""
        kept = self.tables.kept
        start = dict(zip(self.order, np.cumsum([0, *(len(kept[layer]) for layer in self.order)]), strict=False))
        return np.concatenate(
            [start[layer] + np.searchsorted(kept[layer], smaller.tables.kept[layer]) for layer in smaller.order]
        )

    def positions(self, choice: Whole) -> Choice:
        """Positions in the core's tables from a choice [step]."""
        positions = np.zeros(len(self.order), dtype=np.int64)
        positions[self.order] = choice
        return positions


class _Cores:
    def __init__(self, progress: Progress, bound: Bound) -> None:
        self.progress, self.bound = progress, bound
        self.through = np.sort(np.concatenate(bound.through))
        self.paths = list(bound.prices.paths)
        now = time.monotonic()
        self.patience = now + min(PATIENCE * (progress.deadline - now), PATIENCE_SECONDS)

    def run(self) -> bool:
        progress, tables = self.progress, self.progress.tables
        worst = sum(float(loss.max()) for loss in (*tables.loss, *(pair.loss for pair in tables.pairs)))
        beyond = worst + max(1.0, abs(worst))  # above the loss of every plan
        size = int(CORE * len(self.bound.through))
        while not progress.done():
            known = len(self.paths)
            threshold = beyond if size >= len(self.through) else float(self.through[size])
            if not self._branch(threshold):
                return False
            if len(self.paths) > known:
                continue
            if threshold >= min(beyond, progress.aim()):
                progress.infeasible = progress.choice is None and progress.bound >= beyond
                return True
            needed = int(np.searchsorted(self.through, progress.aim(), side="right"))
            size = needed if needed <= LEAP * size else int(np.ceil(GROWTH * size))
        return True

    def _branch(self, threshold: float) -> bool:
        """Until no plan is both below the threshold and better than the best one by the wanted gap.

        Ends early where a plan met exceeds the latency on a path that is not limited yet; the path joins ``paths``.
        """
        progress = self.progress

        def ceiling() -> float:
            return min(threshold, progress.aim())

        core = _Core(self.bound, ceiling(), self.paths)
        tree = None
        known = len(self.paths)

        def met(choice: Whole, loss: Values) -> None:
            for plan in np.argsort(loss, kind="stable"):
                if loss[plan] >= progress.loss:
                    return
                positions = core.positions(choice[:, plan])
                progress.offer(positions_in(progress.tables, core.tables, positions))
                path = exceeded_path(core.tables, positions) if len(self.paths) < MAX_PATHS else None
                if path is not None and path not in self.paths:
                    self.paths.append(path)

        def left() -> int:
            return int(np.searchsorted(self.through, ceiling(), side="right"))

        def stop() -> bool:
            now = time.monotonic()
            ended = len(self.paths) > known or now > progress.deadline or now > self.patience
            return ended or left() < SHRINK * core.size

        while True:
            if core.empty:
                progress.raise_bound(ceiling())
                return True
            if core.bounds is None:
                return False
            tree = Tree(core.bounds, core.prices) if tree is None else tree
            proven = tree.search(ceiling=ceiling, met=met, stop=stop)
            progress.raise_bound(proven)
            if tree.full:
                return False
            if proven >= ceiling() or len(self.paths) > known or time.monotonic() > progress.deadline:
                return True
            if time.monotonic() > self.patience:
                self._search_locally()
            if left() < SHRINK * core.size:
                smaller = _Core(self.bound, ceiling(), self.paths)
                if not smaller.empty and smaller.bounds is not None:
                    tree.restrict(smaller.bounds, core.columns(smaller))
                core = smaller

    def _search_locally(self) -> None:
        progress, now, deadline = self.progress, time.monotonic(), self.progress.deadline
        self.patience = np.inf
        progress.deadline = now + min(LOCAL_SHARE * (deadline - now), PATIENCE_SECONDS)
        local_search(progress, self.bound)
        progress.deadline = deadline
