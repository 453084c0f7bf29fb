"""OBS as a criterion: layer-wise saliencies, brought on one scale by how much the loss feels each output unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from trigger_prune.importance._base import (
    CriterionData,
    named_weight_layers,
    register_data_criterion,
    require_data,
    require_finite,
)
from trigger_prune.importance.obs import DAMPING, damp, rows_of, saliencies, second_moments
from trigger_prune.importance.obs_blocks import InputBlocks
from trigger_prune.importance.observed import units_first
from trigger_prune.importance.probes import Probed
from trigger_prune.structure._base import Groups
from trigger_prune.train.loss import event_losses


@dataclass(frozen=True)
class Obs:
    """``F_r / 2 * w_q^2 / (2 [H^-1]_qq)``: an estimate of the loss increase when the weight goes and its row makes up.

    H is the Hessian ``2 E[x x^T] + lambda I`` of the layer's own squared error, see importance/obs.py, and F_r the
    output Fisher of unit r: a change e of the unit's output costs ``F_r / 2 * e^2`` of loss on average, taking output
    and input of a layer as independent (J. Martens, R. Grosse, ICML 2015, arXiv:1503.05671).

    damping   lambda as a fraction of the mean diagonal
    block     inputs per block of H; None: whole rows, or as many as fit in memory. See ``InputBlocks``
    Masked weights score 0. A group of weights scores the error of removing all of it at once, row by row; where a
    layer needs blocks, block by block.
    """

    damping: float = DAMPING
    block: int | None = None
    name: str = "obs"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises what ``layer_hessians`` raises, DataError without ``data``."""
        given = require_data(self.name, data)
        layers = named_weight_layers(network, layer_names)
        fisher = output_fisher(network, layer_names, given)
        scores = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
        for name, hessian in self._hessians(network, layer_names, given).items():
            scale = fisher[name].reshape(-1, *[1] * (scores[name].ndim - 1)) / 2
            scores[name] = scale * saliencies(layers[name], hessian, self.block)
        return require_finite(self.name, scores)

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``."""
        given = require_data(self.name, data)
        layers = named_weight_layers(network, list(groups.ids))
        fisher = output_fisher(network, list(layers), given)
        totals = torch.zeros(groups.count, dtype=torch.float64)
        for name, hessian in self._hessians(network, list(layers), given).items():
            kept = layers[name].weight_mask.flatten(1) != 0
            ids = groups.ids[name].flatten(1).to(kept.device)
            errors = InputBlocks(hessian, kept, self.block).start(rows_of(layers[name])).group_errors(ids)
            for row, found in enumerate(errors):
                for group, error in found:
                    totals[group] += float(fisher[name][row]) / 2 * error
        return require_finite(self.name, {"of all groups": totals})["of all groups"]

    def _hessians(self, network: nn.Module, names: Sequence[str], data: CriterionData) -> dict[str, Tensor]:
        """Of the layers that some input reaches; without one (and without bias) nothing is lost by any removal."""
        moments = require_finite(self.name, second_moments(network, names, data))
        reached = {name: total for name, total in moments.items() if bool(total.any())}
        for name, total in reached.items():
            damp(name, total, self.damping)
        return reached


def output_fisher(network: nn.Module, layer_names: Sequence[str], data: CriterionData) -> dict[str, Tensor]:
    """``E[g^2]`` of each unit of the named layers, float64 ``(units,)``.

    g is the gradient of one event's loss by the unit's output, before any activation; of a convolution the mean is
    also over positions. On a float64 copy in evaluation mode. Raises ModelError for a layer that is never called.
    """
    probed = Probed(network, layer_names)
    totals = {name: torch.zeros(len(layer.weight)).to(layer.weight) for name, layer in probed.layers.items()}
    for part, shares in data.parts(probed.device):
        outputs = probed.run(part.features)
        with torch.enable_grad():
            loss = event_losses(outputs, part.targets, data.task).sum()
        for name, calls in probed.gradients(loss).items():
            for gradient in calls:
                squares = units_first(probed.layers[name], gradient).square().mean(dim=2)
                totals[name] += torch.tensordot(shares, squares, dims=1) / len(calls)
    return totals


OBS = register_data_criterion(Obs())
