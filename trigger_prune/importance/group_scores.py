"""From scores of weights to scores of groups."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, fx

from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.structure._base import Groups


@runtime_checkable
class GroupCriterion(Protocol):
    """A criterion with a rule of its own for groups; the sum over the weights is the rule of all others."""

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """One score per group, float64 ``(count,)``, higher = keep."""
        ...


def score_groups(
    criterion: Criterion, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None
) -> Tensor:
    """One score per group, float64 ``(count,)`` on the CPU: the criterion's own rule, or the sum over its weights.

    Raises what ``Criterion.score`` raises.
    """
    if isinstance(criterion, GroupCriterion):
        return criterion.score_groups(network, groups, data).double().cpu()
    return groups.sums(criterion.score(network, list(groups.ids), data))
