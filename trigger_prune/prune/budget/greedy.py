"""Greedy choice: start from the smallest loss, then take the change that costs least loss per saved resource.

The baseline of the exact methods and their source of first plans. Saved resource = decrease of the summed relative
excess over the limits, sum max(0, cost / limit - 1), as in HALP's (arXiv:2110.10811) and other knapsack pruning's
importance per latency. Then, while it pays, the change that lowers the loss most and stays inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trigger_prune.prune.budget.elimination import FORBIDDEN, Elimination
from trigger_prune.prune.budget.plan import tolerance
from trigger_prune.prune.budget.tables import Choice, Tables, feasible, longest_path

Values = npt.NDArray[np.float64]


def greedy_choice(tables: Tables, start: Sequence[int] | Choice | None = None) -> Choice | None:
    """Position per layer, or None where the greedy walk ends outside the limits (which proves nothing).

    ``start``: first choice, permitted by every pair; default: the smallest loss of all that are.
    """
    walk = _Walk(tables, _smallest_loss(tables) if start is None else np.array(start, dtype=np.int64))
    banned: set[tuple[int, int]] = set()
    while walk.excess() > 0:
        step = walk.cheapest(banned)
        if step is None:
            return None
        before, choice = walk.excess(), walk.choice.copy()
        walk.move(step)
        if walk.excess() >= before * (1 - 1e-12):  # the longest path moved elsewhere: the saving was an illusion
            walk.reset(choice)
            banned.add(step)
    while (step := walk.gainful()) is not None:
        walk.move(step)
    return walk.choice if feasible(tables, walk.choice) else None


def _smallest_loss(tables: Tables) -> Choice:
    scale = FORBIDDEN * max(sum(float(np.ptp(loss)) for loss in tables.loss), 1e-300)
    coupling = [pair for pair in tables.pairs if not pair.allowed.all()]
    elimination = Elimination(tables.sizes, [(pair.first, pair.second) for pair in coupling])
    return elimination.minimise(tables.loss, [np.where(pair.allowed, 0.0, scale) for pair in coupling])[1]


class _Walk:
    """A choice and its cost, kept up to date. A step (layer, option) drags coupled layers along where it must."""

    def __init__(self, tables: Tables, choice: Choice) -> None:
        self.tables = tables
        self.touching: list[list[int]] = [[] for _ in tables.sizes]
        for number, pair in enumerate(tables.pairs):
            self.touching[pair.first].append(number)
            self.touching[pair.second].append(number)
        latency = [] if tables.latency_limit is None else [tables.latency_limit]
        self.limits = np.array([*tables.limits, *latency])
        self.scale = np.where(self.limits > 0, self.limits, 1.0)
        self.slack = np.array([tolerance(limit) for limit in self.limits])
        self.reset(choice)

    def reset(self, choice: Choice) -> None:
        """Start again from this choice."""
        self.choice = choice
        self.cost = self._total()

    def _total(self) -> Values:
        tables, choice = self.tables, self.choice
        cost = np.sum([values[:, p] for values, p in zip(tables.cost, choice, strict=True)], axis=0)
        for pair in tables.pairs:
            cost = cost + pair.cost[:, choice[pair.first], choice[pair.second]]
        own = [float(values[p]) for values, p in zip(tables.latency, choice, strict=True)]
        between = [float(pair.latency[choice[pair.first], choice[pair.second]]) for pair in tables.pairs]
        length, layers, pairs = longest_path(tables, own, between)
        self.critical = (set(layers), set(pairs))
        return cost if tables.latency_limit is None else np.append(cost, length)

    def excess(self) -> float:
        """Summed relative excess over the limits."""
        over = self.cost - self.limits
        return float(np.where(over > self.slack, over / self.scale, 0.0).sum())

    def _changes(self, layer: int) -> tuple[Values, Values, npt.NDArray[np.bool_]]:
        """Loss and cost [limit] changes and permission of every option of one layer, the others as they are."""
        tables, now = self.tables, int(self.choice[layer])
        cost = tables.cost[layer]
        latency = tables.latency[layer] if layer in self.critical[0] else np.zeros(len(tables.loss[layer]))
        allowed = np.ones(len(latency), dtype=bool)
        for number in self.touching[layer]:
            pair = tables.pairs[number]
            at = (
                (slice(None), int(self.choice[pair.second])) if layer == pair.first else (int(self.choice[pair.first]),)
            )
            cost = cost + pair.cost[(slice(None), *at)]
            allowed = allowed & pair.allowed[at]
            if number in self.critical[1]:
                latency = latency + pair.latency[at]
        if tables.latency_limit is not None:
            cost = np.concatenate([cost, latency[None]])
        return tables.loss[layer] - tables.loss[layer][now], cost - cost[:, now : now + 1], allowed

    def _joint(self, layer: int, option: int) -> dict[int, int]:
        """The other layers that must follow this step, each with its cheapest permitted option."""
        follow = {layer: option}
        queue = [layer]
        while queue:
            moved = queue.pop()
            for number in self.touching[moved]:
                pair = self.tables.pairs[number]
                other = pair.second if moved == pair.first else pair.first
                permitted = pair.allowed[follow[moved]] if moved == pair.first else pair.allowed[:, follow[moved]]
                if permitted[follow.get(other, self.choice[other])]:
                    continue
                if other in follow:
                    return {}
                if not permitted.any():
                    return {}
                follow[other] = int(np.argmin(np.where(permitted, self.tables.loss[other], np.inf)))
                queue.append(other)
        return follow

    def move(self, step: tuple[int, int]) -> None:
        """Take the step."""
        choice = self.choice.copy()
        for layer, option in self._joint(*step).items():
            choice[layer] = option
        self.reset(choice)

    def _steps(self) -> tuple[Values, Values, list[tuple[int, int]]]:
        """Loss change, cost after, and step, for every single step."""
        losses, costs, steps = [], [], []
        for layer in range(len(self.choice)):
            loss, cost, allowed = self._changes(layer)
            for option in np.flatnonzero(~allowed):
                follow = self._joint(layer, int(option))
                if follow:
                    loss_change, cost_after = self._try(follow)
                    losses.append([loss_change])
                    costs.append(cost_after[:, None])
                    steps.append((layer, int(option)))
            allowed[int(self.choice[layer])] = False
            free = np.flatnonzero(allowed)
            losses.append(list(loss[free]))
            costs.append(self.cost[:, None] + cost[:, free])
            steps.extend((layer, int(option)) for option in free)
        return np.concatenate(losses), np.concatenate(costs, axis=1), steps

    def _try(self, follow: dict[int, int]) -> tuple[float, Values]:
        before, cost, critical = self.choice, self.cost, self.critical
        self.choice = before.copy()
        for layer, option in follow.items():
            self.choice[layer] = option
        after = self._total()
        change = sum(
            float(self.tables.loss[layer][option] - self.tables.loss[layer][before[layer]])
            for layer, option in follow.items()
        )
        self.choice, self.cost, self.critical = before, cost, critical
        return change, after

    def cheapest(self, banned: set[tuple[int, int]]) -> tuple[int, int] | None:
        """The step with the least loss per saved excess; one that saves and lowers the loss wins at once."""
        losses, costs, steps = self._steps()
        over = costs - self.limits[:, None]
        saved = self.excess() - np.where(over > self.slack[:, None], over / self.scale[:, None], 0.0).sum(0)
        usable = saved > 1e-12
        for number in [number for number, step in enumerate(steps) if step in banned]:
            usable[number] = False
        if not usable.any():
            return None
        ratio = np.where(usable, losses / np.where(usable, saved, 1.0), np.inf)
        return steps[int(np.argmin(ratio))]

    def gainful(self) -> tuple[int, int] | None:
        """The step inside the limits that lowers the loss most."""
        losses, costs, steps = self._steps()
        inside = (costs <= (self.limits + self.slack)[:, None]).all(0) & (losses < -1e-12)
        for number in np.argsort(losses):
            if not inside[number]:
                continue
            if self.tables.latency_limit is not None:  # off the longest path the estimate is blind
                _, after = self._try(self._joint(*steps[number]) or {steps[number][0]: steps[number][1]})
                if after[-1] > self.limits[-1] + self.slack[-1]:
                    continue
            return steps[number]
        return None
