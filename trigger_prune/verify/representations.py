"""All representations of one network, executed on the same events and compared bit by bit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import TriggerPruneError, VerificationError
from trigger_prune.export.lowered import lower
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.wires import wire_types
from trigger_prune.verify.runs import IN_ORDER, Events, Exported, Representation
from trigger_prune.verify.runs._base import FLOAT32_BITS, torch_outputs
from trigger_prune.verify.verdict import FirstDifference, PairVerdict, Verdict
from trigger_prune.verify.wires import first_difference, torch_wires

__all__ = ["FLOAT32_BITS", "Exported", "accumulator_bits", "torch_outputs", "verify_network", "write_lowered"]

FLOAT64_BITS = 53
"""Mantissa of float64."""


def accumulator_bits(network: fx.GraphModule) -> int:
    """Bits of the largest magnitude any wire can reach, computed from the integer weights and the wires' types.

    Accumulators count in units of their own LSB, partial sums included (NetworkSpec.accumulator_bound).
    """
    sums = describe_network(network).accumulator_bound
    wires = max(max(-fixed.min_code, fixed.max_code) for fixed in wire_types(network).values())
    return max(sums, wires).bit_length()


def write_lowered(qonnx_model: onnx.ModelProto, network: fx.GraphModule) -> onnx.ModelProto:
    """The lowered model in the float type that the accumulator bound asks for."""
    return lower(qonnx_model, double=accumulator_bits(network) > FLOAT32_BITS)


def verify_network(
    network: fx.GraphModule,
    exported: Exported,
    features: NDArray[np.float32],
    *,
    qonnx_events: int,
    progress: Callable[[str], None] | None = None,
    only: Collection[str] | None = None,
) -> Verdict:
    """Run every representation on ``features`` ``(events, *input_shape)`` and count events whose bits differ.

    The reference is the fixed-point torch network in float64, where every sum is exact up to 53 bits; the torch network
    in float32, which training uses, is one of the pairs when the accumulator bound allows float32. qonnx sees the first
    ``qonnx_events`` only. ``only`` names the representations to run (None: all). A representation that cannot run is a
    failure in the verdict; the others still run.

    Raises VerificationError when there is nothing to compare: no events, events of another shape or off the input grid
    (the first one is named), accumulators beyond 53 bits.
    """
    _check_events(network, features, qonnx_events)
    bits = accumulator_bits(network)
    if bits > FLOAT64_BITS:
        raise VerificationError(
            f"the accumulators need {bits} bits, float64 is exact up to {FLOAT64_BITS}",
            hint="use fewer bits for inputs, weights or activations",
        )
    double = bits > FLOAT32_BITS
    reference = torch_outputs(network, features, double=True)
    with tempfile.TemporaryDirectory(prefix="trigger_prune_verify_") as name:
        events = Events(network, exported, features, min(qonnx_events, len(features)), double, Path(name))
        pairs = []
        for representation in IN_ORDER:
            if not representation.count(events) or (only is not None and representation.name not in only):
                continue
            if progress is not None:
                progress(representation.name)
            pairs.append(_compare(representation, events, reference))
    return Verdict(len(features), bits, "float64" if double else "float32", tuple(pairs))


def _check_events(network: fx.GraphModule, features: NDArray[np.float32], qonnx_events: int) -> None:
    if len(features) == 0 or qonnx_events < 1:
        raise VerificationError("there are no events to compare the representations on")
    if features.shape[1:] != input_shape_of(network):
        raise VerificationError(
            f"the events have shape {features.shape[1:]}, the network takes {input_shape_of(network)}"
        )
    on_grid = input_type_of(network).contains(features)
    if not on_grid.all():
        event, *element = np.argwhere(~on_grid)[0].tolist()
        raise VerificationError(
            f"event {event} has an input that is not on the grid of {input_type_of(network)}: "
            f"{float(features[event][tuple(element)])!r} at {element}",
            hint="apply the input transform to the events first",
        )


def _compare(representation: Representation, events: Events, reference: NDArray[np.float64]) -> PairVerdict:
    name, start = representation.name, time.perf_counter()
    try:
        outputs = representation.run(events)
    except TriggerPruneError as error:
        return PairVerdict(name, 0, None, None, str(error), time.perf_counter() - start)
    except Exception as error:
        # Five foreign programs run here; what one of them raises is its verdict and must not hide the others'.
        return PairVerdict(name, 0, None, None, f"{type(error).__name__}: {error}", time.perf_counter() - start)
    seconds = time.perf_counter() - start
    n = representation.count(events)
    if outputs.shape != reference[:n].shape:
        failure = f"outputs have shape {outputs.shape}, the network's {reference[:n].shape}"
        return PairVerdict(name, n, None, None, failure, seconds)
    # NaN differs from everything, itself included, and so counts as a mismatch.
    wrong = np.flatnonzero((outputs != reference[:n]).any(axis=1))
    if not wrong.size:
        return PairVerdict(name, n, 0, None, None, seconds)
    first = _locate(representation, events, int(wrong[0]), outputs, reference)
    return PairVerdict(name, n, int(wrong.size), first, None, seconds)


def _locate(
    representation: Representation,
    events: Events,
    event: int,
    outputs: NDArray[np.float64],
    reference: NDArray[np.float64],
) -> FirstDifference:
    """The first layer that differs, or the output where the representation does not show its layers."""
    one = events.features[event : event + 1]
    element = int(np.flatnonzero(outputs[event] != reference[event])[0])
    at_output = FirstDifference(
        event, "output", element, float(reference[event, element]), float(outputs[event, element])
    )
    try:
        found = first_difference(torch_wires(events.network, one), representation.wires(events, one), event)
    except Exception:
        # The mismatch is counted already; where it begins is a help that a broken representation may not give.
        return at_output
    return found or at_output
