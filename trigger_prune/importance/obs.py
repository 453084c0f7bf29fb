"""Optimal brain surgeon, layer by layer: remove a weight and let the others of its row make up for it, exactly.

B. Hassibi, D. Stork, "Second order derivatives for network pruning", NeurIPS 1992; with the Hessian of the layer's
own reconstruction error: E. Frantar, D. Alistarh, "Optimal brain compression", NeurIPS 2022 (arXiv:2208.11580).

For one output row w of a layer with inputs x the error of a change d is ``1/2 d^T H d``, ``H = 2 E[x x^T] + lambda I``.
Setting ``w_q`` to zero at the least error costs ``w_q^2 / (2 [H^-1]_qq)`` and changes the row by
``-w_q / [H^-1]_qq * H^-1[:, q]``. Inputs include a constant 1 where there is a bias, so the bias is repaired too.
The errors are of the layer's own outputs: those of different layers are on no common scale, so nothing here is
registered as a criterion by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.importance._base import CriterionData, kept_weight, named_weight_layers
from trigger_prune.importance.observed import layer_values
from trigger_prune.quantize.layers import QuantConv1d, QuantLinear, QuantWeightLayer

_INVERSE_VALUES = 2**26
"""Largest total size of the inverse Hessians of a layer's rows (512 MiB): each row has its own once weights go."""


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
    network: nn.Module, layer_names: Sequence[str], data: CriterionData, damping: float = 1e-2
) -> dict[str, Tensor]:
    """``2 E[x x^T] + lambda I`` of each layer, float64 ``(groups, inputs, inputs)``.

    E is the weighted mean over events, summed over the positions of a convolution; the inputs of a weight row are in
    the order of ``weight.flatten(1)``, and a constant 1 comes last where there is a bias.
    damping   lambda as a fraction of the mean diagonal; equal or dead inputs make the matrix singular without it
    Raises ConfigError unless damping is above zero, ModelError for a layer that is never called, whose inputs are all
    zero or not finite.
    """
    if not damping > 0:
        raise ConfigError(f"damping {damping} of the layer's Hessian is not above zero")
    layers = named_weight_layers(network, layer_names)
    totals: dict[str, Tensor] = {}
    for values, shares in layer_values(network, layer_names, data, side="input"):
        for name, calls in values.items():
            for inputs in calls:
                x = _row_inputs(layers[name], inputs)
                term = 2 * torch.einsum("n,ngip,ngjp->gij", shares, x, x)
                totals[name] = totals[name] + term if name in totals else term
    for name, total in totals.items():
        mean = float(total.diagonal(dim1=1, dim2=2).mean())
        if not 0 < mean < float("inf"):
            raise ModelError(f"layer {name!r}: the mean square of its inputs is {mean / 2}")
        total.diagonal(dim1=1, dim2=2).add_(damping * mean)
    return totals


def prune_layer(layer: QuantWeightLayer, hessian: Tensor, n_masked: int) -> PrunedLayer:
    """Masks weights one by one, each time the one of least error, until ``n_masked`` are, with the best repair.

    hessian    of the layer, from ``layer_hessians``
    Weights already masked stay masked and count. Ties go to the lower flat index. The repaired rows are the least
    error possible with that mask; which weights are in it is the greedy choice.
    Raises ModelError for a count below that of the mask or above the number of weights, and for a layer too wide.
    """
    rows = len(layer.weight)
    n_weights = layer.weight[0].numel()
    width = hessian.shape[1]
    already = int((layer.weight_mask == 0).sum())
    if not already <= n_masked <= rows * n_weights:
        raise ModelError(
            f"{n_masked} weights are to be masked; the layer has {rows * n_weights}, of which {already} are masked"
        )
    if rows * width**2 > _INVERSE_VALUES:
        raise ModelError(
            f"a layer of {rows} rows of {width} inputs is too wide for the exact removal of weights one by one",
            hint="score it with obd_fisher or wanda",
        )
    per_row = hessian.repeat_interleave(rows // len(hessian), dim=0)
    original = _with_bias(layer)
    kept = layer.weight_mask.flatten(1) != 0
    values = original.clone()
    # masked weights are cut out of the matrix: what is left in the other places is the inverse for the kept ones
    inverse = torch.linalg.inv(_cut(per_row, kept))
    for _ in range(n_masked - already):
        costs = values[:, :n_weights].square() / (2 * inverse.diagonal(dim1=1, dim2=2)[:, :n_weights])
        place = int(costs.masked_fill(~kept, torch.inf).flatten().argmin())
        row, q = divmod(place, n_weights)
        column = inverse[row, :, q].clone()
        values[row] -= values[row, q] / column[q] * column
        inverse[row] -= torch.outer(column, column) / column[q]
        kept[row, q] = False
        values[row, q] = 0
        # its place in the matrix is of no more use; 1 keeps the division above finite
        inverse[row, q, q] = 1
    repaired = _repaired(original, per_row, kept)
    change = repaired - original
    error = 0.5 * float(torch.einsum("ri,rij,rj->", change, per_row, change))
    weight = repaired[:, :n_weights].reshape(layer.weight.shape)
    bias = None if layer.bias is None else repaired[:, n_weights]
    return PrunedLayer(weight, bias, kept.reshape(layer.weight.shape).double(), error)


def saliencies(layer: QuantWeightLayer, hessian: Tensor) -> Tensor:
    """``w_q^2 / (2 [H^-1]_qq)`` of every weight, shaped like the weight: the error of removing it alone, repaired.

    The inverse is over the kept weights of the row; masked weights score 0.
    """
    rows, n_weights = len(layer.weight), layer.weight[0].numel()
    per_row = hessian.repeat_interleave(rows // len(hessian), dim=0)
    inverse = torch.linalg.inv(_cut(per_row, layer.weight_mask.flatten(1) != 0))
    costs = kept_weight(layer).flatten(1).square() / (2 * inverse.diagonal(dim1=1, dim2=2)[:, :n_weights])
    result: Tensor = costs.reshape(layer.weight.shape)
    return result


def _with_bias(layer: QuantWeightLayer) -> Tensor:
    weight = kept_weight(layer).flatten(1)
    return weight if layer.bias is None else torch.cat([weight, layer.bias.detach().double().unsqueeze(1)], dim=1)


def _cut(per_row: Tensor, kept: Tensor) -> Tensor:
    """The matrices with the rows and columns of weights that are not kept replaced by those of the identity."""
    keep = functional.pad(kept, (0, per_row.shape[1] - kept.shape[1]), value=True)
    both = keep.unsqueeze(2) & keep.unsqueeze(1)
    return torch.where(both, per_row, torch.diag_embed((~keep).double()))


def _repaired(original: Tensor, per_row: Tensor, kept: Tensor) -> Tensor:
    """The rows of least error with zeros where not kept: ``w_K + H_KK^-1 H_KM w_M``, solved once and not in steps."""
    keep = functional.pad(kept, (0, per_row.shape[1] - kept.shape[1]), value=True)
    removed = (original * ~keep).unsqueeze(2)
    pull = (per_row @ removed) * keep.unsqueeze(2)
    repaired = original + torch.linalg.solve(_cut(per_row, kept), pull).squeeze(2)
    return torch.where(keep, repaired, torch.zeros_like(repaired))


def _row_inputs(layer: QuantWeightLayer, inputs: Tensor) -> Tensor:
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
