"""The mask of a network on its way to a plan's sparsity: counts, scores, updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ConfigError
from trigger_prune.importance import CriterionData, criterion_by_name
from trigger_prune.importance._base import Accumulating, Criterion
from trigger_prune.importance.combine import Combine
from trigger_prune.importance.group_scores import score_groups
from trigger_prune.prune.schedules._plan import RampPlan
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.structure._base import Groups
from trigger_prune.structure.group_masks import remove_groups, removed_groups
from trigger_prune.structure.masks import Scope, masked_fraction, prunable_layers, raise_sparsity
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import Task

_CRITERION_EVENTS = 2048
"""Training events that a criterion sees; scores are taken many times on a ramp."""


@dataclass
class Part:
    """Layers ranked together, or the groups of such layers, and the sparsity they shall reach.

    layers     of single weights: the layers, by name
    groups     of groups: those of this part, and which of all groups they are (bool)
    """

    scope: Scope
    end: float
    layers: dict[str, QuantWeightLayer] = field(default_factory=dict)
    groups: tuple[Groups, Tensor] | None = None

    def counts(self, network: fx.GraphModule) -> list[tuple[int, int]]:
        """(removed, all) of everything that is brought to the sparsity by itself: the layers, or all together."""
        if self.groups is None:
            each = [(int((layer.weight_mask == 0).sum()), layer.weight_mask.numel()) for layer in self.layers.values()]
            return each if self.scope == "layer" else [(sum(a for a, _ in each), sum(b for _, b in each))]
        part, _ = self.groups
        removed = removed_groups(network, part)
        if self.scope == "global":
            return [(int(removed.sum()), part.count)]
        home = part.home_numbers()
        mine = [home == number for number in torch.unique(home)]
        return [(int((removed & rows).sum()), int(rows.sum())) for rows in mine]

    def start(self, network: fx.GraphModule) -> float:
        """Fraction removed now."""
        counts = self.counts(network)
        return sum(removed for removed, _ in counts) / sum(n for _, n in counts)

    def lacks(self, network: fx.GraphModule, fraction: float) -> bool:
        """Whether something has to go to reach ``fraction``."""
        return any(round(fraction * n) > removed for removed, n in self.counts(network))

    def raise_to(self, network: fx.GraphModule, scores: dict[str, Tensor], of_groups: Tensor, fraction: float) -> None:
        """Remove the lowest scores until exactly ``round(fraction * n)`` are gone."""
        if self.groups is not None:
            part, rows = self.groups
            remove_groups(network, part, of_groups[rows], fraction, self.scope)
            return
        alone = nn.ModuleList(self.layers.values())
        raise_sparsity(alone, {str(k): scores[name] for k, name in enumerate(self.layers)}, fraction, self.scope)


class Masking:
    """Raises the sparsity of ``network`` by the plan's ranking, part by part.

    Raises ConfigError for an unknown criterion or layer, ModelError for a network without prunable layer.
    """

    def __init__(self, network: fx.GraphModule, train: Batches, task: Task, seed: int, plan: RampPlan) -> None:
        plan.check_layers(network)
        # raises where there is nothing to prune
        masked_fraction(network)
        self.network = network
        self.plan = plan
        self.parts = _parts(network, plan)
        self.starts = [part.start(network) for part in self.parts]
        self._criterion: Criterion | None = None if plan.scores else criterion_by_name(plan.criterion, with_data=True)
        self.data = criterion_events(train, task, seed)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """To be entered around the training: a criterion that gathers what it needs from the steps does so."""
        with ExitStack() as stack:
            criterion: object = self._criterion
            if isinstance(criterion, Accumulating):
                self._criterion = stack.enter_context(criterion.watch(self.network))
            yield

    @property
    def needs_training(self) -> bool:
        """Whether the criterion, or one that it combines, has no score before the first step."""
        criterion = self._criterion
        if isinstance(criterion, Combine):
            return any(isinstance(factor, Accumulating) for term in criterion.terms for factor in term.factors)
        return isinstance(criterion, Accumulating)

    def scores(self) -> dict[str, Tensor]:
        """Score of every prunable weight, by layer."""
        if self.plan.scores is not None:
            return self.plan.scores(self.network)
        assert self._criterion is not None
        return self._criterion.score(self.network, list(prunable_layers(self.network)), self.data)

    def raise_to(self, at: Callable[[float, float], float]) -> bool:
        """Bring every part to ``at(start, end)``; False, and nothing scored, when every part is there already."""
        wanted = [at(start, max(start, part.end)) for part, start in zip(self.parts, self.starts, strict=True)]
        if not any(part.lacks(self.network, fraction) for part, fraction in zip(self.parts, wanted, strict=True)):
            return False
        if self.plan.groups is None:
            scores, of_groups = self.scores(), torch.empty(0)
        elif self.plan.scores is not None or self._criterion is None:
            scores, of_groups = {}, self.plan.groups.sums(self.scores())
        else:
            scores, of_groups = {}, score_groups(self._criterion, self.network, self.plan.groups, self.data)
        for part, fraction in zip(self.parts, wanted, strict=True):
            part.raise_to(self.network, scores, of_groups, fraction)
        return True

    @property
    def shared_start(self) -> float | None:
        """Fraction removed at the start of what shares the plan's ``sparsity``; None when every layer has its own."""
        return self.starts[-1] if len(self.parts) > len(self.plan.layer_sparsity or {}) else None

    def reached(self) -> bool:
        """Whether every part has the sparsity of the plan."""
        return not any(part.lacks(self.network, part.end) for part in self.parts)


def criterion_events(train: Batches, task: Task, seed: int) -> CriterionData:
    """A random part of the training events for criteria that look at events, the same for the same seed."""
    used = train.take(train.weights > 0)
    rows = torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))
    return CriterionData(used.take(rows[:_CRITERION_EVENTS].to(used.features.device)), task)


def _parts(network: fx.GraphModule, plan: RampPlan) -> list[Part]:
    layers = prunable_layers(network)
    named = dict(plan.layer_sparsity or {})
    if plan.groups is None:
        rest = {name: layer for name, layer in layers.items() if name not in named}
        single = [Part("layer", value, {name: layers[name]}) for name, value in named.items()]
        return single + ([Part(plan.scope, plan.sparsity, rest)] if rest else [])
    home = plan.groups.home_numbers()
    numbers = {name: number for number, name in enumerate(plan.groups.ids)}
    # of whole layers there is no share
    scope: Scope = "global" if plan.groups.whole_layers else "layer"
    parts: list[Part] = []
    others = torch.ones(plan.groups.count, dtype=torch.bool)
    for name, value in named.items():
        rows = home == numbers[name]
        if not bool(rows.any()):
            raise ConfigError(f"layer_sparsity: no group of structure {plan.groups.structure!r} counts for {name!r}")
        parts.append(Part(scope, value, groups=(_only(plan.groups, rows), rows)))
        others &= ~rows
    if bool(others.any()):
        parts.append(Part(plan.scope, plan.sparsity, groups=(_only(plan.groups, others), others)))
    return parts


def _only(groups: Groups, rows: Tensor) -> Groups:
    """The groups ``rows`` (bool ``(count,)``), numbered anew."""
    number = torch.where(rows, rows.long().cumsum(0) - 1, -1)
    # the last entry is what -1 looks up
    number = torch.cat([number, torch.tensor([-1])])
    ids = {name: number.to(old.device)[old] for name, old in groups.ids.items()}
    cells = None if groups.cells is None else groups.cells[rows]
    return replace(groups, ids=ids, count=int(rows.sum()), cells=cells)
