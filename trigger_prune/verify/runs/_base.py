"""What every representation offers, and what it is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from trigger_prune.quantize.freeze import freeze
from trigger_prune.verify.wires import Wire

FLOAT32_BITS = 24
"""Mantissa of float32: sums of integers below 2**24 are exact in it, whatever the order."""


@dataclass(frozen=True)
class Exported:
    """Files to verify: the QONNX model, its lowered form and the hls4ml project (None: hls4ml cannot build it)."""

    qonnx_model: Path
    lowered_model: Path
    hls4ml_project: Path | None


@dataclass(frozen=True)
class Events:
    """What a representation executes.

    features       ``(events, *input_shape)``, on the input grid
    qonnx_events   how many of them qonnx executes
    double         the network needs float64
    work           scratch folder
    """

    network: fx.GraphModule
    exported: Exported
    features: NDArray[np.float32]
    qonnx_events: int
    double: bool
    work: Path


class Representation(Protocol):
    """One way to execute the network. Whatever it raises becomes a failure in the verdict."""

    @property
    def name(self) -> str:
        """Name in verify.json."""
        ...

    def count(self, events: Events) -> int:
        """How many events it executes, counted from the first; 0 when it has no part in this comparison."""
        ...

    def run(self, events: Events) -> NDArray[np.float64]:
        """Outputs ``(count, outputs)``."""
        ...

    def wires(self, events: Events, event: NDArray[np.float32]) -> Iterable[Wire]:
        """Intermediate values for one event ``(1, *input_shape)``, in order of computation."""
        ...


def torch_outputs(network: fx.GraphModule, features: NDArray[np.float32], *, double: bool) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of the fixed-point torch network, in float64 or float32 arithmetic."""
    frozen = freeze(network, double=double).cpu()
    dtype = torch.float64 if double else torch.float32
    chunks = np.array_split(features, -(-len(features) // 8192))
    with torch.no_grad():
        parts = [frozen(torch.from_numpy(chunk).to(dtype)).reshape(len(chunk), -1).double() for chunk in chunks]
    outputs: NDArray[np.float64] = torch.cat(parts).numpy()
    return outputs
