"""Movement: weights that training moves away from zero matter, whatever their size.

V. Sanh, T. Wolf, A. Rush, "Movement pruning", NeurIPS 2020 (arXiv:2005.07683).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, fx, nn

from trigger_prune.importance._base import (
    CriterionData,
    kept_weight,
    named_weight_layers,
    register,
    require_finite,
)
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers
from trigger_prune.structure._base import Groups


class Movement:
    """``-sum over training steps of w * g``, g the gradient of a step's loss by the master weight before clipping.

    ``with Movement(network) as movement: fit(network, ...)`` collects; ``movement.score`` is a Criterion all the time.
    Scores are signed; masked weights, which have no gradient, score minus infinity. Weights are recorded as they are
    when the gradient arrives, before the optimiser's step.

    With steps of one learning rate the sum is in proportion to ``w_now^2 - w_start^2``. A layer that no training step
    was recorded of is taken as having come all the way from zero: it scores ``w^2``, the order of the magnitudes.
    A group scores the sum over its kept weights; one without, minus infinity.
    """

    name = "movement"

    def __init__(self, network: nn.Module) -> None:
        self._weights = {name: layer.weight for name, layer in weight_layers(network).items()}
        self._totals: dict[str, Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Movement:
        for name, weight in self._weights.items():
            if weight.requires_grad:
                self._hooks.append(weight.register_hook(partial(self._collect, name)))  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _collect(self, name: str, gradient: Tensor) -> None:
        product = self._weights[name].detach().double() * gradient.detach().double()
        total = self._totals.get(name)
        self._totals[name] = -product if total is None else total.to(product.device) - product

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises ModelError when a score is not finite."""
        layers = named_weight_layers(network, layer_names)
        scores = require_finite(self.name, {name: self._moved(name, layer) for name, layer in layers.items()})
        return {name: scores[name].masked_fill(layer.weight_mask == 0, -torch.inf) for name, layer in layers.items()}

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``."""
        layers = named_weight_layers(network, list(groups.ids))
        masks = {name: layer.weight_mask.double() for name, layer in layers.items()}
        scores = require_finite(self.name, {name: self._moved(name, layer) for name, layer in layers.items()})
        sums = groups.sums({name: masks[name] * scores[name] for name in layers})
        return sums.masked_fill(groups.sums(masks) == 0, -torch.inf)

    def _moved(self, name: str, layer: QuantWeightLayer) -> Tensor:
        total = self._totals.get(name)
        if total is None or total.shape != layer.weight.shape:
            return kept_weight(layer).square()
        return total.to(layer.weight.device)


class MovementCriterion:
    """``Movement`` by name: gathers while the network is fine-tuned, see ``Accumulating``.

    Of a network whose training was not watched it scores ``w^2``, as ``Movement`` does before the first step.
    """

    name = Movement.name

    def watch(self, network: nn.Module) -> Movement:
        """See ``Accumulating.watch``."""
        return Movement(network)

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``: of a network whose training was not watched."""
        return Movement(network).score(network, layer_names)

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``: of a network whose training was not watched."""
        return Movement(network).score_groups(network, groups)


MOVEMENT = register(MovementCriterion())
