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
from trigger_prune.prune.budget.tables import Choice, Tables, feasible, longest_path, total

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
        self.scope = [self._within_reach(layer) for layer in range(len(choice))]
        self.leaders = [self._leaders(layer) for layer in range(len(choice))]
        self.known: dict[int, tuple[Values, Values, list[tuple[int, int]]]] = {}
        self.critical: tuple[set[int], set[int]] = (set(), set())
        self.choice = choice
        self.reset(choice)

    def _within_reach(self, layer: int) -> set[int]:
        """Layers on whose options the steps of this one depend: itself, what it drags along, and their neighbours."""
        dragged, queue = {layer}, [layer]
        while queue:
            for number in self.touching[queue.pop()]:
                pair = self.tables.pairs[number]
                fresh = {pair.first, pair.second} - dragged
                if not pair.allowed.all():
                    dragged |= fresh
                    queue.extend(fresh)
        reached = set(dragged)
        for other in dragged:
            for number in self.touching[other]:
                reached |= {self.tables.pairs[number].first, self.tables.pairs[number].second}
        return reached

    def _leaders(self, layer: int) -> list[int]:
        """Options worth a joint step: of each set with the same permissions, the least loss and the least cost."""
        rows = []
        for number in self.touching[layer]:
            pair = self.tables.pairs[number]
            if not pair.allowed.all():
                rows.append(pair.allowed if layer == pair.first else pair.allowed.T)
        if not rows:
            return []
        kinds = np.unique(np.concatenate(rows, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        size = (self.tables.cost[layer] / np.where(self.tables.limits > 0, self.tables.limits, 1.0)[:, None]).sum(0)
        chosen = set()
        for kind in np.unique(kinds):
            members = np.flatnonzero(kinds == kind)
            chosen |= {int(members[np.argmin(values[members])]) for values in (self.tables.loss[layer], size)}
        return sorted(chosen)

    def reset(self, choice: Choice) -> None:
        """Continue from this choice."""
        tables = self.tables
        changed = set(np.flatnonzero(choice != self.choice).tolist())
        before = self.critical
        self.choice = choice
        self.cost = total(tables, choice)[1]
        if tables.latency_limit is not None:
            own = [float(values[p]) for values, p in zip(tables.latency, choice, strict=True)]
            between = [float(pair.latency[choice[pair.first], choice[pair.second]]) for pair in tables.pairs]
            length, layers, pairs = longest_path(tables, own, between)
            self.critical = (set(layers), set(pairs))
            self.cost = np.append(self.cost, length)
        changed |= before[0] ^ self.critical[0]
        for number in before[1] ^ self.critical[1]:
            changed |= {tables.pairs[number].first, tables.pairs[number].second}
        self.known = {layer: steps for layer, steps in self.known.items() if not self.scope[layer] & changed}

    def excess(self) -> float:
        """Summed relative excess over the limits."""
        over = self.cost - self.limits
        return float(np.where(over > self.slack, over / self.scale, 0.0).sum())

    def _local(self, layer: int, choice: Choice) -> tuple[Values, npt.NDArray[np.bool_]]:
        """Cost [limit, option] that depends on one layer's option, and permission, the others as in ``choice``."""
        tables = self.tables
        cost = tables.cost[layer]
        latency = tables.latency[layer] if layer in self.critical[0] else np.zeros(cost.shape[1])
        allowed = np.ones(cost.shape[1], dtype=bool)
        for number in self.touching[layer]:
            pair = tables.pairs[number]
            at = np.s_[:, choice[pair.second]] if layer == pair.first else np.s_[choice[pair.first], :]
            cost = cost + pair.cost[(slice(None), *at)]
            allowed = allowed & pair.allowed[at]
            if number in self.critical[1]:
                latency = latency + pair.latency[at]
        return (cost if tables.latency_limit is None else np.concatenate([cost, latency[None]])), allowed

    def _joint(self, layer: int, option: int) -> Choice | None:
        """The choice after this step, with the layers that must follow on their cheapest permitted option."""
        choice = self.choice.copy()
        choice[layer] = option
        moved, queue = {layer}, [layer]
        while queue:
            at = queue.pop()
            for number in self.touching[at]:
                pair = self.tables.pairs[number]
                other = pair.second if at == pair.first else pair.first
                permitted = pair.allowed[choice[at]] if at == pair.first else pair.allowed[:, choice[at]]
                if permitted[choice[other]]:
                    continue
                if other in moved or not permitted.any():
                    return None
                choice[other] = int(np.argmin(np.where(permitted, self.tables.loss[other], np.inf)))
                moved.add(other)
                queue.append(other)
        return choice

    def _joint_change(self, after: Choice) -> tuple[float, Values]:
        """Loss and cost change of a joint step, one layer after the other."""
        loss, change = 0.0, np.zeros(len(self.limits))
        choice = self.choice.copy()
        for layer in np.flatnonzero(after != self.choice):
            cost, _ = self._local(int(layer), choice)
            loss += float(self.tables.loss[layer][after[layer]] - self.tables.loss[layer][choice[layer]])
            change += cost[:, after[layer]] - cost[:, choice[layer]]
            choice[layer] = after[layer]
        return loss, change

    def move(self, step: tuple[int, int]) -> None:
        """Take the step."""
        after = self._joint(*step)
        if after is not None:
            self.reset(after)

    def _steps_of(self, layer: int) -> tuple[Values, Values, list[tuple[int, int]]]:
        """Loss change, cost change [limit, step] and the steps of one layer."""
        now = int(self.choice[layer])
        cost, allowed = self._local(layer, self.choice)
        joint = [(option, self._joint(layer, option)) for option in self.leaders[layer] if not allowed[option]]
        together = [(option, *self._joint_change(after)) for option, after in joint if after is not None]
        allowed[now] = False
        free = np.flatnonzero(allowed)
        loss = self.tables.loss[layer]
        losses = np.concatenate([loss[free] - loss[now], [change for _, change, _ in together]])
        costs = np.concatenate([(cost[:, free] - cost[:, [now]]).T, *(change[None] for _, _, change in together)]).T
        return losses, costs, [(layer, int(option)) for option in (*free, *(option for option, _, _ in together))]

    def _steps(self) -> tuple[Values, Values, list[tuple[int, int]]]:
        """Loss change, cost after, and step, for every step."""
        for layer in range(len(self.choice)):
            if layer not in self.known:
                self.known[layer] = self._steps_of(layer)
        parts = [self.known[layer] for layer in range(len(self.choice))]
        return (
            np.concatenate([losses for losses, _, _ in parts]),
            self.cost[:, None] + np.concatenate([costs for _, costs, _ in parts], axis=1),
            [step for _, _, steps in parts for step in steps],
        )

    def cheapest(self, banned: set[tuple[int, int]]) -> tuple[int, int] | None:
        """The step with the least loss per saved excess; one that saves and lowers the loss wins at once."""
        losses, costs, steps = self._steps()
        over = costs - self.limits[:, None]
        saved = self.excess() - np.where(over > self.slack[:, None], over / self.scale[:, None], 0.0).sum(0)
        usable = saved > 1e-12
        if banned:
            usable &= np.array([step not in banned for step in steps], dtype=bool)
        if not usable.any():
            return None
        ratio = np.where(usable, losses / np.where(usable, saved, 1.0), np.inf)
        return steps[int(np.argmin(ratio))]

    def gainful(self) -> tuple[int, int] | None:
        """The step inside the limits that lowers the loss most."""
        losses, costs, steps = self._steps()
        inside = (costs <= (self.limits + self.slack)[:, None]).all(0) & (losses < -1e-12)
        for number in np.flatnonzero(inside)[np.argsort(losses[inside])].tolist():
            after = self._joint(*steps[number])
            if after is not None and feasible(self.tables, after):  # off the longest path the estimate is blind
                step: tuple[int, int] = steps[number]
                return step
        return None
