"""Comparison of a network with float activations with its exported form: close, never bit by bit."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trigger_prune.quantize.freeze import freeze

FLOAT_TOLERANCE = 1e-5
"""Largest accepted difference of an output, relative to the largest output (at least 1) of all events compared.

The exported model adds in float32 and in another order than torch; products and sums of a few thousand terms then
differ by some 1e-7 of the largest ones."""


def float_outputs(network: nn.Module, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of the torch network in float64 arithmetic: the reference."""
    frozen = freeze(network, double=True).cpu()
    chunks = np.array_split(features, -(-len(features) // 8192))
    with torch.no_grad():
        parts = [frozen(torch.from_numpy(np.asarray(chunk, np.float64))).reshape(len(chunk), -1) for chunk in chunks]
    outputs: NDArray[np.float64] = torch.cat(parts).numpy()
    return outputs


def too_far(found: NDArray[np.floating], expected: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Elements beyond FLOAT_TOLERANCE, bool ``(events, outputs)``; NaN is beyond."""
    allowed = FLOAT_TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
    result: NDArray[np.bool_] = ~(np.abs(found.reshape(expected.shape).astype(np.float64) - expected) <= allowed)
    return result
