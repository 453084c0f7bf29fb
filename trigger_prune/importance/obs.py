"""Optimal brain surgeon, layer by layer: remove a weight and let the others of its row make up for it, exactly.

B. Hassibi, D. Stork, "Second order derivatives for network pruning", NeurIPS 1992; with the Hessian of the layer's
own reconstruction error: E. Frantar, D. Alistarh, "Optimal brain compression", NeurIPS 2022 (arXiv:2208.11580).

For one output row w of a layer with inputs x the error of a change d is ``1/2 d^T H d``, ``H = 2 E[x x^T] + lambda I``.
Setting ``w_q`` to zero at the least error costs ``w_q^2 / (2 [H^-1]_qq)`` and changes the row by
``-w_q / [H^-1]_qq * H^-1[:, q]``. Inputs include a constant 1 where there is a bias, so the bias is repaired too.
The errors are of the layer's own outputs: importance/obs_score.py brings those of different layers on one scale.

Every row needs an inverse of its own once weights go. For a layer too wide for that the inputs are cut into blocks
(importance/obs_blocks.py); the repair at the end is exact for any width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.importance._base import CriterionData, kept_weight, named_weight_layers
from trigger_prune.importance.obs_blocks import InputBlocks
from trigger_prune.importance.obs_repair import least_error_rows, rows_within_range
from trigger_prune.importance.observed import layer_values
from trigger_prune.quantize.layers import QuantConv1d, QuantLinear, QuantWeightLayer

DAMPING = 1e-2
"""lambda of the layer's Hessian as a fraction of its mean diagonal."""


@dataclass(frozen=True)
class PrunedLayer:
    """A layer after pruning, as master values; the layer itself is not changed.

    weight   shaped like the layer's, float64, zero where masked
    bias     ``(units,)`` float64, or None
    mask     0/1, shaped like the weight, float64
    error    ``1/2 d^T H d`` summed over the rows, d the change of weight and bias
    """

    weight: Tensor
    bias: Tensor | None
    mask: Tensor
    error: float

    def apply(self, layer: QuantWeightLayer) -> None:
        """Writes weight, bias and mask into ``layer``."""
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.weight_mask.copy_(self.mask)
            if layer.bias is not None and self.bias is not None:
                layer.bias.copy_(self.bias)


def layer_hessians(
    network: nn.Module, layer_names: Sequence[str], data: CriterionData, damping: float = DAMPING
) -> dict[str, Tensor]:
    """``2 E[x x^T] + lambda I`` of each layer, float64 ``(groups, inputs, inputs)``.

    E is the weighted mean over events, summed over the positions of a convolution; the inputs of a weight row are in
    the order of ``weight.flatten(1)``, and a constant 1 comes last where there is a bias.
    damping   lambda as a fraction of the mean diagonal; equal or dead inputs make the matrix singular without it
    Raises ConfigError unless damping is above zero, ModelError for a layer that is never called, whose inputs are all
    zero or not finite.
    """
    totals = second_moments(network, layer_names, data)
    for name, total in totals.items():
        damp(name, total, damping)
    return totals


def second_moments(network: nn.Module, layer_names: Sequence[str], data: CriterionData) -> dict[str, Tensor]:
    """``2 E[x x^T]`` of each layer, as in ``layer_hessians`` but without lambda."""
    layers = named_weight_layers(network, layer_names)
    totals: dict[str, Tensor] = {}
    for values, shares in layer_values(network, layer_names, data, side="input"):
        for name, calls in values.items():
            for inputs in calls:
                x = row_inputs(layers[name], inputs)
                term = 2 * torch.einsum("n,ngip,ngjp->gij", shares, x, x)
                totals[name] = totals[name] + term if name in totals else term
    return totals


def damp(layer_name: str, hessian: Tensor, damping: float) -> float:
    """Adds lambda to the diagonals in place and returns it. Raises what ``layer_hessians`` raises."""
    if not damping > 0:
        raise ConfigError(f"damping {damping} of the layer's Hessian is not above zero")
    mean = float(hessian.diagonal(dim1=1, dim2=2).mean())
    if not 0 < mean < float("inf"):
        raise ModelError(
            f"layer {layer_name!r}: the mean square of its inputs is {mean / 2}",
            hint="check the features for NaN and infinity; where it is zero, prune the layers before it less",
        )
    hessian.diagonal(dim1=1, dim2=2).add_(damping * mean)
    return damping * mean


def prune_layer(
    layer: QuantWeightLayer,
    hessian: Tensor,
    n_masked: int,
    *,
    optimum: Tensor | None = None,
    block: int | None = None,
    within_range: bool = False,
) -> PrunedLayer:
    """Masks weights one by one, each time the one of least error, until ``n_masked`` are, with the best repair.

    hessian        of the layer, from ``layer_hessians``
    optimum        rows ``(units, inputs)`` in the order of the Hessian, from which errors count: the best weights
                   without any mask. Default: the layer's own weights and bias
    block          inputs per block while weights are chosen, see ``InputBlocks``; default: all, or as many as the
                   memory allows
    within_range   keep values inside the range of the layer's fixed-point types: what saturates is fixed at the limit,
                   and the rest of the row makes up for that too
    Weights already masked stay masked and count. Ties go to the lower flat index. The repaired rows are the least
    error possible with that mask (and range); which weights are in it is the greedy choice.
    Raises ModelError for a count below that of the mask or above the number of weights, and for a layer too wide.
    """
    rows = len(layer.weight)
    n_weights = layer.weight[0].numel()
    already = int((layer.weight_mask == 0).sum())
    if not already <= n_masked <= rows * n_weights:
        raise ModelError(
            f"{n_masked} weights are to be masked; the layer has {rows * n_weights}, of which {already} are masked"
        )
    goal = rows_of(layer) if optimum is None else optimum
    kept = layer.weight_mask.flatten(1) != 0
    values = least_error_rows(goal, hessian, _with_bias_kept(kept, hessian))
    blocks = InputBlocks(hessian, kept, block)
    removal = blocks.start(values)
    for _ in range(n_masked - already):
        removal.remove_cheapest()
    kept = removal.kept
    keep = _with_bias_kept(kept, hessian)
    repaired = least_error_rows(goal, hessian, keep)
    if within_range:
        repaired = rows_within_range(goal, hessian, keep, repaired, *_limits(layer, n_weights))
    change = repaired - goal
    per_group = change.reshape(len(hessian), -1, hessian.shape[1])
    error = 0.5 * float(torch.einsum("gri,gij,grj->", per_group, hessian, per_group))
    weight = repaired[:, :n_weights].reshape(layer.weight.shape)
    bias = None if layer.bias is None else repaired[:, n_weights]
    return PrunedLayer(weight, bias, kept.reshape(layer.weight.shape).double(), error)


def saliencies(layer: QuantWeightLayer, hessian: Tensor, block: int | None = None) -> Tensor:
    """``w_q^2 / (2 [H^-1]_qq)`` of every weight, shaped like the weight: the error of removing it alone, repaired.

    The inverse is over the kept weights of the row, or of the block of the row (``block``, see ``InputBlocks``): there
    only that block and the bias make up for the removal, so a saliency in blocks is never below the exact one.
    Masked weights score 0.
    """
    kept = layer.weight_mask.flatten(1) != 0
    result: Tensor = InputBlocks(hessian, kept, block).start(rows_of(layer)).costs()
    return result.masked_fill(~kept, 0).reshape(layer.weight.shape)


def rows_of(layer: QuantWeightLayer) -> Tensor:
    """Kept weights ``(units, inputs)`` in float64, the bias last where there is one."""
    weight = kept_weight(layer).flatten(1)
    return weight if layer.bias is None else torch.cat([weight, layer.bias.detach().double().unsqueeze(1)], dim=1)


def _with_bias_kept(kept: Tensor, hessian: Tensor) -> Tensor:
    return functional.pad(kept, (0, hessian.shape[1] - kept.shape[1]), value=True)


def _limits(layer: QuantWeightLayer, n_weights: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each column of ``rows_of``."""
    types = [layer.weight_type] * n_weights + ([] if layer.bias is None else [layer.bias_type])
    limits = torch.tensor([[t.min_value, t.max_value] for t in types], dtype=torch.float64, device=layer.weight.device)
    return limits[:, 0], limits[:, 1]


def row_inputs(layer: QuantWeightLayer, inputs: Tensor) -> Tensor:
    """What the rows of the weight multiply: ``(events, groups, inputs, positions)``, a constant 1 last for the bias."""
    if isinstance(layer, QuantLinear):
        # positions in front of the features, where there are any
        x = inputs.reshape(len(inputs), 1, -1, inputs.shape[-1]).transpose(2, 3)
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
        flat = isinstance(layer, QuantConv1d)
        columns = functional.unfold(
            padded.unsqueeze(2) if flat else padded,
            (1, *layer.kernel_size) if flat else layer.kernel_size,
            dilation=(1, *layer.dilation) if flat else layer.dilation,
            stride=(1, *layer.stride) if flat else layer.stride,
        )
        x = columns.reshape(len(inputs), layer.groups, -1, columns.shape[-1])
    if layer.bias is None:
        return x
    return torch.cat([x, torch.ones_like(x[:, :, :1])], dim=2)
