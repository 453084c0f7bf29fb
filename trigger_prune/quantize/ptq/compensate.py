"""Rounding weights so that the layer's outputs stay, not the weights: what one rounding does is repaired by the next.

Weights of a neuron are rounded one after the other, and the change of the output is taken back by the weights that are
still free, as far as their inputs are correlated (Frantar and Alistarh, OBQ, arXiv:2208.11580, and GPTQ,
arXiv:2210.17323). The change of the mean output goes into the bias (Nagel et al., arXiv:1906.04721), so that only the
covariance of the inputs counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.fixed_point import FixedPoint, Overflow
from trigger_prune.quantize.convert import QUANTISED
from trigger_prune.quantize.graph import module_of

Floats = NDArray[np.float64]

_EVENTS = 4096
_CHUNK_EVENTS = 256
_DAMPING = 0.01
"""Of the mean variance, added to every variance: inputs that never vary leave the covariance singular."""


@dataclass(frozen=True, eq=False)
class InputMoments:
    """Of what the weights of a layer multiply: mean ``(groups, k)`` and covariance ``(groups, k, k)``, where k counts
    the inputs of one output (inputs of a dense layer; channels of a group times kernel of a convolution)."""

    mean: Floats
    covariance: Floats


def input_moments(structure: fx.GraphModule, features: Tensor) -> dict[str, InputMoments]:
    """Moments of every weight layer of ``build_structure``'s float graph, from at most 4096 of the events."""
    gatherer = _Gatherer(structure.eval())
    like = next(structure.parameters(), features)
    rows = features[torch.linspace(0, len(features) - 1, min(len(features), _EVENTS)).long()]
    with torch.no_grad():
        for start in range(0, len(rows), _CHUNK_EVENTS):
            gatherer.run(rows[start : start + _CHUNK_EVENTS].to(like))
    found = {}
    for name, (count, first, second) in gatherer.sums.items():
        mean = first / count
        found[name] = InputMoments(mean, second / count - mean[:, :, None] * mean[:, None, :])
    return found


def compensated_weights(weight: Floats, fixed: FixedPoint, moments: InputMoments) -> tuple[Floats, Floats]:
    """Weights on the grid of ``fixed``, shape of ``weight`` ``(out, ...)``, and what to add to the bias ``(out,)``."""
    groups, k = moments.mean.shape
    flat = weight.reshape(groups, -1, k)
    rounded = np.stack([_round(flat[g], fixed, moments.covariance[g]) for g in range(groups)])
    shift = np.einsum("gok,gk->go", flat - rounded, moments.mean)
    return rounded.reshape(weight.shape), shift.ravel()


def output_error(weight: Floats, rounded: Floats, moments: InputMoments) -> float:
    """Variance of the change of the outputs, summed over them."""
    groups, k = moments.mean.shape
    change = (weight - rounded).reshape(groups, -1, k)
    return float(np.einsum("goi,gij,goj->", change, moments.covariance, change))


def compensated_type(weight: Floats, fixed: FixedPoint, moments: InputMoments) -> FixedPoint:
    """``fixed`` or the type with half or double its range, whichever leaves the smallest error at the outputs."""
    trials = [replace(fixed, integer=fixed.integer + step, overflow=Overflow.AP_SAT) for step in (0, -1, 1)]
    errors = [output_error(weight, compensated_weights(weight, trial, moments)[0], moments) for trial in trials]
    return trials[int(np.argmin(errors))]


def _round(weight: Floats, fixed: FixedPoint, covariance: Floats) -> Floats:
    """Weights ``(out, k)`` of one group, columns of the largest variance first."""
    variance = np.diag(covariance)
    damped = covariance + np.eye(len(covariance)) * max(_DAMPING * float(variance.mean()), 1e-12)
    order = np.argsort(-variance, kind="stable")
    # rows of this factor are the repairs: L L' = H^-1 in the order of rounding, transposed
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left = weight[:, order].copy()
    done = np.empty_like(left)
    for j in range(left.shape[1]):
        done[:, j] = fixed.quantize(left[:, j])
        error = (left[:, j] - done[:, j]) / factor[j, j]
        left[:, j:] -= error[:, None] * factor[j, j:]
    result = np.empty_like(done)
    result[:, order] = done
    return result


class _Gatherer(fx.Interpreter):
    """Sums of the inputs of every weight layer, and of their products."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.network = network
        self.sums: dict[str, tuple[int, Floats, Floats]] = {}

    def run_node(self, n: fx.Node) -> Any:
        layer: Any = module_of(self.network, n)
        if type(layer) in QUANTISED:
            rows = patches(layer, self.env[n.all_input_nodes[0]]).double().cpu().numpy()
            first = rows.sum(axis=1)
            second = np.einsum("gni,gnj->gij", rows, rows, optimize=True)
            known: Mapping[str, tuple[int, Floats, Floats]] = self.sums
            count, before, squares = known.get(str(n.target), (0, np.zeros_like(first), np.zeros_like(second)))
            self.sums[str(n.target)] = (count + rows.shape[1], before + first, squares + second)
        return super().run_node(n)


def patches(layer: nn.Linear | nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """What every output position multiplies with the weights, ``(groups, positions of all events, k)``."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    flat = isinstance(layer, nn.Conv1d)
    pads: Any = layer.padding
    if isinstance(pads, str):
        pads = tuple(
            d * (k - 1) // 2 if pads == "same" else 0 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        )

    def pair(values: Any, of_height: int) -> tuple[int, int]:
        return (of_height, values[0]) if flat else (values[0], values[1])

    unfolded = functional.unfold(
        x.unsqueeze(2) if flat else x,
        pair(layer.kernel_size, 1),
        pair(layer.dilation, 1),
        pair(pads, 0),
        pair(layer.stride, 1),
    )
    events, _, positions = unfolded.shape
    grouped = unfolded.reshape(events, layer.groups, -1, positions)
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)
