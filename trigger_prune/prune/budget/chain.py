"""Dynamic programming along a chain for one additive limit: exact, for any real costs.

Label setting (as for the resource-constrained shortest path): after each layer, for every class of options that the
next layer can tell apart, the plans so far that no other one beats in both cost and loss. Labels whose priced
completion already exceeds a known plan's loss are dropped; see Kellerer et al., Knapsack Problems (2004), chapter 11.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.greedy import greedy_choice
from trigger_prune.prune.budget.lagrange import Pricing
from trigger_prune.prune.budget.plan import tolerance
from trigger_prune.prune.budget.tables import Choice, Tables, positions_in, total

Values = npt.NDArray[np.float64]
MAX_LABELS = 4_000_000
"""New labels of one layer before dominance; beyond it the costs are too varied for this method."""
BOUND_SECONDS = 5.0


class TooManyLabelsError(BudgetError):
    """Dynamic programming would need too much memory."""


def fits_chain(tables: Tables) -> bool:
    """Whether only neighbours in the order are joined and at most one additive quantity is limited (latency counts)."""
    count = len(tables.resources) + (tables.latency_limit is not None)
    if any(pair.second != pair.first + 1 for pair in tables.pairs):
        return False
    return count <= 1 and (tables.latency_limit is None or tables.is_chain)


def chain_choice(tables: Tables) -> Choice | None:
    """Position per layer with the smallest loss within the limit, or None if there is none: both are proofs.

    The tables must fit (``fits_chain``). Raises TooManyLabelsError.
    """
    pricing = Pricing(tables, 1e-6)
    bound = pricing.run(time.monotonic() + BOUND_SECONDS)
    step = 1e-9 * pricing.priced.span
    if bound.infeasible:
        return None
    known, best = bound.incumbent, np.inf
    if known is None:
        walks = [greedy_choice(bound.tables, start) for start in bound.starts]
        losses = [np.inf if walk is None else total(bound.tables, walk)[0] for walk in walks]
        walk = walks[int(np.argmin(losses))]
        known = None if walk is None else positions_in(tables, bound.tables, walk)
    if known is not None:
        best = total(tables, known)[0]
    price = float(bound.prices.values[0].sum()) if bound.prices.values.size else 0.0
    labels = _Labels(bound.tables, price, best + step).run()
    if labels is None:
        return known
    found = positions_in(tables, bound.tables, labels)
    return known if total(tables, found)[0] >= best else found


class _Labels:
    """Labels of all layers: cost, loss, the label they extend, and the option they end with."""

    def __init__(self, tables: Tables, price: float, ceiling: float) -> None:
        """``price`` of the limited quantity, in loss per unit; only plans up to the loss ``ceiling`` matter."""
        self.tables, self.price, self.ceiling = tables, price, ceiling
        latency = tables.latency_limit is not None
        rows = tables.latency if latency else [cost.sum(0) for cost in tables.cost]
        self.own = [np.asarray(row) for row in rows]
        top = tables.latency_limit if tables.latency_limit is not None else float(tables.limits.sum())
        self.limit = top + tolerance(top)
        size = tables.sizes
        self.between = [np.zeros((size[v], size[v + 1])) for v in range(len(size) - 1)]
        self.allowed = [np.ones(table.shape, dtype=bool) for table in self.between]
        for pair in tables.pairs:
            self.between[pair.first] = pair.latency if latency else pair.cost.sum(0)
            self.allowed[pair.first] = pair.allowed
        self.rest = self._completions(0.0, 1.0)
        self.priced_rest = self._completions(1.0, price)

    def _completions(self, loss: float, cost: float) -> list[Values]:
        """Smallest loss x (summed loss) + cost x (summed cost) of all later layers, per option of each layer."""
        rest = [np.zeros(len(self.own[-1]))]
        for v in reversed(range(len(self.between))):
            after = loss * self.tables.loss[v + 1] + cost * self.own[v + 1] + rest[0]
            rest.insert(0, np.where(self.allowed[v], cost * self.between[v] + after[None], np.inf).min(1))
        return rest

    def run(self) -> Choice | None:
        """Extend layer by layer, then walk back from the best label."""
        history = []
        cost, loss = np.zeros(1), np.zeros(1)
        before = np.zeros(1, dtype=np.int64)
        for v, size in enumerate(self.tables.sizes):
            if len(cost) * size > MAX_LABELS:
                raise TooManyLabelsError(
                    f"dynamic programming needs more than {MAX_LABELS} labels at layer {self.tables.names[v]!r}",
                    hint="use method exact",
                )
            new_cost = cost[:, None] + self.own[v][None]
            fits = np.ones(new_cost.shape, dtype=bool)
            if v:
                new_cost = new_cost + self.between[v - 1][before]
                fits = self.allowed[v - 1][before]
            new_loss = loss[:, None] + self.tables.loss[v][None]
            fits = fits & (new_cost + self.rest[v][None] <= self.limit)
            priced = new_loss + self.price * (new_cost - self.limit) + self.priced_rest[v][None]
            fits &= priced <= self.ceiling
            parent, option = np.nonzero(fits)
            cost, loss = new_cost[fits], new_loss[fits]
            kept = self._front(cost, loss, self._classes(v)[option])
            cost, loss, parent, before = cost[kept], loss[kept], parent[kept], option[kept]
            history.append((parent, before))
            if not len(kept):
                return None
        label = int(np.argmin(loss))
        choice = np.zeros(len(history), dtype=np.int64)
        for v in reversed(range(len(history))):
            parent, option = history[v]
            choice[v] = option[label]
            label = int(parent[label])
        return choice

    def _classes(self, v: int) -> npt.NDArray[np.int64]:
        """Options of layer v that the next layer cannot tell apart share a number."""
        if v == len(self.between):
            return np.zeros(len(self.own[v]), dtype=np.int64)
        rows = np.concatenate([self.between[v], self.allowed[v]], axis=1)
        return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)

    @staticmethod
    def _front(cost: Values, loss: Values, group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions of the labels that no other one of their group beats in both, of equal ones the first."""
        order = np.lexsort((loss, cost, group))
        kept = []
        for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            lowest = np.minimum.accumulate(loss[part])
            kept.append(part[np.concatenate([[True], loss[part][1:] < lowest[:-1]])] if len(part) else part)
        return np.concatenate(kept)
