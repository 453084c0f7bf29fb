"""The features that the full model needs most."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from trigger_prune.quantize.freeze import freeze
from trigger_prune.train.evaluate import predict
from trigger_prune.two_stage.models.light_inputs import FullModel, LightInputs

_EVENTS = 8192
"""Validation events; the choice is repeated for every feature that goes."""


def choose_inputs(full: FullModel, inputs: LightInputs, count: int) -> tuple[int, ...]:
    """``count`` features that the full score depends on most, in ascending order.

    Backward elimination by permutation (I. Guyon et al., Machine Learning 46 (2002) 389; L. Breiman, Machine Learning
    45 (2001) 5): starting from all features that the full model reads, the one goes whose shuffling, together with that
    of all features gone before, changes the order of the full scores least. Of two copies one goes first and the other
    stays, where plain permutation importance would find neither needed. All gone features move from event to event
    together, so that they stay consistent among themselves. What counts is the mean squared change of an event's rank,
    with the weights of the loss: the scale of the score does not matter, nor do a few events with huge scores.
    """
    events = inputs.validation.take(inputs.validation.weights > 0)
    rows = torch.arange(min(_EVENTS, len(events))) * len(events) // min(_EVENTS, len(events))
    events = events.take(rows)
    order = torch.randperm(len(events), generator=torch.Generator().manual_seed(inputs.settings.seed))
    weights = events.weights.double().numpy()
    whole, other = events.features, events.features[order]
    network = freeze(full.network) if isinstance(full.network, fx.GraphModule) else full.network
    read = list(full.kept_inputs)

    def ranks(gone: list[int]) -> NDArray[np.float64]:
        features = whole.clone()
        features[:, gone] = other[:, gone]
        return weighted_ranks(_scores(network, full, features[:, read], whole), weights)

    unchanged, left = ranks([]), list(read)
    gone: list[int] = []
    while len(left) > count:
        damage = [float(weights @ np.square(ranks([*gone, feature]) - unchanged)) for feature in left]
        gone.append(left.pop(int(np.argmin(damage))))
    return tuple(sorted(left))


def weighted_ranks(scores: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the weight below each score, that of equal scores by half; in 0 .. 1, ``(events,)``."""
    _, inverse = np.unique(scores, return_inverse=True)
    each = np.bincount(inverse, weights)
    below = np.cumsum(each) - each / 2
    found: NDArray[np.float64] = below[inverse] / weights.sum()
    return found


def _scores(network: nn.Module, full: FullModel, read: torch.Tensor, whole: torch.Tensor) -> NDArray[np.float64]:
    """A reconstruction is still compared with the true values."""
    true = whole.numpy() if full.score.kind == "reconstruction" else None
    return full.score.of(predict(network, read), true)
