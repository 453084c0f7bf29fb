"""Comparison of a network with float activations with its exported form: close, never bit by bit."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from trigger_prune.errors import VerificationError
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.freeze import freeze
from trigger_prune.verify.onnx_runs import run_onnxruntime
from trigger_prune.verify.verdict import FirstDifference, PairVerdict, Verdict

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


def verify_float_model(network: nn.Module, model: Path, features: NDArray[np.float32]) -> Verdict:
    """The exported float model against the torch network on ``features`` ``(events, *input_shape)``.

    An event counts as a mismatch when an output is ``too_far``. Raises VerificationError when there is nothing to
    compare.
    """
    if len(features) == 0 or features.shape[1:] != input_shape_of(network):
        raise VerificationError(
            f"{len(features)} events of shape {features.shape[1:]}, the network takes {input_shape_of(network)}"
        )
    expected = float_outputs(network, features)
    start = time.perf_counter()
    found = run_onnxruntime(onnx.load(str(model)), features)
    seconds = time.perf_counter() - start
    wrong = too_far(found, expected)
    events = np.flatnonzero(wrong.any(axis=1))
    first = None
    if events.size:
        event = int(events[0])
        element = int(np.flatnonzero(wrong[event])[0])
        first = FirstDifference(event, "output", element, float(expected[event, element]), float(found[event, element]))
    pair = PairVerdict("onnxruntime", len(features), int(events.size), first, None, seconds)
    return Verdict(len(features), 0, "float32", (pair,), FLOAT_TOLERANCE)
