"""What the quantisers of a network read, event by event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.quantize.ptq.ranges import EventRange

_CHUNK_EVENTS = 1024
_WIRE_VALUES = 1_000_000
"""Values kept of a wire: enough to place a binary point by mean squared error."""


@dataclass(frozen=True, eq=False)
class WireEvents:
    """One wire in front of its quantiser: the extremes of every event, and some of its values."""

    extremes: EventRange
    values: NDArray[np.float32]


class _Observer(fx.Interpreter):
    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.network = network
        self.low: dict[str, list[NDArray[np.float64]]] = {}
        self.high: dict[str, list[NDArray[np.float64]]] = {}
        self.kept: dict[str, list[NDArray[np.float32]]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if isinstance(module_of(self.network, n), (nn.Identity, FixedQuantizer)):
            name, read = str(n.target), self.env[n.all_input_nodes[0]].detach().flatten(1)
            self.low.setdefault(name, []).append(read.amin(dim=1).double().cpu().numpy())
            self.high.setdefault(name, []).append(read.amax(dim=1).double().cpu().numpy())
            kept = self.kept.setdefault(name, [])
            if sum(part.size for part in kept) < _WIRE_VALUES:
                kept.append(read.float().cpu().numpy().ravel())
        return super().run_node(n)


def observe(network: fx.GraphModule, features: Tensor) -> dict[str, WireEvents]:
    """Every wire that has a quantiser, or the identity in its place, by the quantiser's name.

    features   ``(n, *input_shape)`` on the input's grid; the network runs in evaluation mode and is left as it was
    Raises ModelError without events.
    """
    if len(features) == 0:
        raise ModelError("there are no events to observe the wires with")
    modes = {module: module.training for module in network.modules()}
    observer = _Observer(network.eval())
    like = next(network.parameters(), features)
    try:
        with torch.no_grad():
            for start in range(0, len(features), _CHUNK_EVENTS):
                observer.run(features[start : start + _CHUNK_EVENTS].to(like))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {
        name: WireEvents(
            EventRange(np.concatenate(observer.low[name]), np.concatenate(observer.high[name])),
            np.concatenate(observer.kept[name]),
        )
        for name in observer.low
    }
