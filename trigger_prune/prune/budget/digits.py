"""Weights that keep fewer signed digits than their type allows, while a network trains towards a cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.cost.csd import csd_count
from trigger_prune.prune.refine.digit_caps import release
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.digit_cap import DigitCap
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure.masks import prunable_layers

_Ints = NDArray[np.int64]
_FREE = 64


class DigitCaps:
    """How many canonical signed digits every weight of a network may have; tighter from time to time.

    held   every weight may have as many as it has now, not as many as its type allows
    """

    def __init__(self, network: fx.GraphModule, *, held: bool) -> None:
        every = weight_layers(network)
        self.layers = {name: every[name] for name in prunable_layers(network)}
        self.digits = {name: np.full(tuple(layer.weight.shape), _FREE) for name, layer in self.layers.items()}
        if held:
            codes = {layer.name: layer.weight for layer in describe_network(network).layers}
            self.digits = {name: csd_count(codes[name]) for name in self.layers}
        for name in self.layers:
            self._cap(name)

    def tighten(self, name: str, weights: _Ints, digits: _Ints) -> None:
        """Weights of layer ``name`` at flat positions ``weights`` may have at most ``digits`` each."""
        flat = self.digits[name].reshape(-1)
        flat[weights] = np.minimum(flat[weights], digits)
        self._cap(name)

    def _cap(self, name: str) -> None:
        self.layers[name].weight_cap = DigitCap(self.digits[name], self.layers[name].weight_type)

    def release(self) -> None:
        """Take the caps off; the capped values are the master values from then on."""
        for layer in self.layers.values():
            release(layer)


@contextmanager
def digits_capped(network: fx.GraphModule, *, held: bool) -> Iterator[DigitCaps]:
    """Within, weights of ``network`` keep to caps; afterwards they are where the caps have put them."""
    caps = DigitCaps(network, held=held)
    try:
        yield caps
    finally:
        caps.release()
