"""Movement: weights that training moves away from zero matter, whatever their size.

V. Sanh, T. Wolf, A. Rush, "Movement pruning", NeurIPS 2020 (arXiv:2005.07683).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import CriterionData, named_weight_layers, require_finite
from trigger_prune.quantize.layers import weight_layers


class Movement:
    """``-sum over training steps of w * g``, g the gradient of a step's loss by the master weight before clipping.

    ``with Movement(network) as movement: fit(network, ...)`` collects; ``movement.score`` is a Criterion from then on.
    It has seen the training, so it is not known by name and takes no events. Scores are signed; masked weights, which
    have no gradient, score minus infinity. Weights are recorded as they are when the gradient arrives, before the
    optimiser's step.
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
        """See ``Criterion.score``. Raises ModelError for a layer without a recorded step, or of another shape."""
        scores = {}
        for name, layer in named_weight_layers(network, layer_names).items():
            total = self._totals.get(name)
            if total is None or total.shape != layer.weight.shape:
                raise ModelError(
                    f"criterion {self.name}: no training step of layer {name!r} was recorded",
                    hint="train inside `with Movement(network) as movement:`; frozen layers do not move",
                )
            scores[name] = total.to(layer.weight.device)
        require_finite(self.name, scores)
        layers = named_weight_layers(network, layer_names)
        return {name: scores[name].masked_fill(layers[name].weight_mask == 0, -torch.inf) for name in layers}
