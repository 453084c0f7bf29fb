"""All representations of one network, executed on the same events and compared bit by bit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import ToolError, TriggerPruneError, VerificationError
from trigger_prune.export.hls4ml_project import channels_last, project_inputs
from trigger_prune.export.lowered import lower
from trigger_prune.quantize.convert import input_type_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.trace import predict as predict_comb
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.verify.csim import compile_csim, csim_wires, run_csim
from trigger_prune.verify.onnx_runs import onnxruntime_wires, qonnx_wires, run_onnxruntime, run_qonnx
from trigger_prune.verify.truncate import alkaid_wires
from trigger_prune.verify.verdict import FirstDifference, PairVerdict, Verdict
from trigger_prune.verify.wires import Wire, first_difference, torch_wires

FLOAT32_BITS = 24
"""Mantissa of float32: sums of integers below 2**24 are exact in it, whatever the order."""


@dataclass(frozen=True)
class Exported:
    """Files to verify: the QONNX model, its lowered form and the hls4ml project."""

    qonnx_model: Path
    lowered_model: Path
    hls4ml_project: Path


@dataclass(frozen=True)
class _Representation:
    name: str
    run: Callable[[], NDArray[np.float64]]
    wires: Callable[[NDArray[np.float32]], list[Wire]]


def accumulator_bits(network: fx.GraphModule) -> int:
    """Bits of the largest magnitude any accumulator can reach, computed from the integer weights and input ranges."""
    return describe_network(network).accumulator_bound.bit_length()


def verify_network(
    network: fx.GraphModule,
    exported: Exported,
    features: NDArray[np.float32],
    *,
    qonnx_events: int,
    progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Run every representation on ``features`` ``(events, *input_shape)`` and count events whose bits differ.

    The features must be on the input grid (VerificationError otherwise). The reference is the fixed-point torch
    network in float64, where every sum is exact up to 52 bits; the torch network in float32, which training uses, is
    one of the pairs when the accumulator bound allows float32. qonnx sees the first ``qonnx_events`` only: it
    interprets one event at a time.
    """
    on_grid = input_type_of(network).contains(features)
    if not on_grid.all():
        row = int(np.argwhere(~on_grid)[0][0])
        raise VerificationError(
            f"event {row} has an input that is not on the grid of {input_type_of(network)}",
            hint="apply the input transform to the events first",
        )
    bits = accumulator_bits(network)
    reference = torch_outputs(network, features, double=True)
    slow = min(qonnx_events, len(features))
    with tempfile.TemporaryDirectory(prefix="trigger_prune_verify_") as name:
        pairs = []
        for item in _representations(network, exported, features, slow, bits, Path(name)):
            if progress is not None:
                progress(item.name)
            pairs.append(_compare(network, item, features, reference))
    return Verdict(len(features), bits, "float32" if bits <= FLOAT32_BITS else "float64", tuple(pairs))


def torch_outputs(network: fx.GraphModule, features: NDArray[np.float32], *, double: bool) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of the fixed-point torch network, in float64 or float32 arithmetic."""
    frozen = freeze(network, double=double).cpu()
    dtype = torch.float64 if double else torch.float32
    with torch.no_grad():
        parts = [frozen(torch.from_numpy(chunk).to(dtype)) for chunk in np.array_split(features, -(-len(features) // 8192))]
    outputs: NDArray[np.float64] = torch.cat(parts).reshape(len(features), -1).double().numpy()
    return outputs


def _representations(
    network: fx.GraphModule, exported: Exported, features: NDArray[np.float32], slow: int, bits: int, work: Path
) -> list[_Representation]:
    double = bits > FLOAT32_BITS
    qonnx_model = onnx.load(str(exported.qonnx_model))
    lowered = onnx.load(str(exported.lowered_model))
    last = channels_last(network)
    found = []
    if not double:
        found.append(
            _Representation(
                "torch_float32",
                lambda: torch_outputs(network, features, double=False),
                lambda event: torch_wires(network, event),
            )
        )

    def csim() -> NDArray[np.float64]:
        inputs = project_inputs(features.astype(np.float64 if double else np.float32), last=last)
        return run_csim(compile_csim(exported.hls4ml_project, work), inputs, work)

    def alkaid() -> NDArray[np.float64]:
        frozen = freeze(network, double=True)
        comb = trace_network(frozen, input_type_of(network), tuple(features.shape[1:]))
        return predict_comb(comb, features.astype(np.float64))

    qonnx_run = to_double(qonnx_model) if double else qonnx_model
    return [
        *found,
        _Representation(
            "qonnx", lambda: run_qonnx(qonnx_run, features[:slow]), lambda event: qonnx_wires(qonnx_run, event)
        ),
        _Representation(
            "onnxruntime", lambda: run_onnxruntime(lowered, features), lambda event: onnxruntime_wires(lowered, event)
        ),
        _Representation(
            "hls4ml_csim",
            csim,
            lambda event: csim_wires(exported.hls4ml_project, project_inputs(event, last=last), work, channels_last=last),
        ),
        _Representation("alkaid", alkaid, lambda event: alkaid_wires(network, event)),
    ]


def to_double(qonnx_model: onnx.ModelProto) -> onnx.ModelProto:
    """QONNX model with float64 tensors, for accumulators beyond 24 bits."""
    from onnx import TensorProto, numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(qonnx_model)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float64)))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


def _compare(
    network: fx.GraphModule, item: _Representation, features: NDArray[np.float32], reference: NDArray[np.float64]
) -> PairVerdict:
    start = time.perf_counter()
    try:
        outputs = item.run()
    except TriggerPruneError as error:
        return PairVerdict(item.name, 0, None, None, str(error), time.perf_counter() - start)
    events = len(outputs)
    if outputs.shape != reference[:events].shape:
        failure = f"outputs have shape {outputs.shape}, the network's {reference[:events].shape}"
        return PairVerdict(item.name, events, None, None, failure, time.perf_counter() - start)
    # NaN differs from everything, itself included, and so counts as a mismatch.
    wrong = np.flatnonzero((outputs != reference[:events]).any(axis=1))
    seconds = time.perf_counter() - start
    if not wrong.size:
        return PairVerdict(item.name, events, 0, None, None, seconds)
    event = int(wrong[0])
    return PairVerdict(item.name, events, int(wrong.size), _locate(network, item, features, event, outputs, reference), None, seconds)


def _locate(
    network: fx.GraphModule,
    item: _Representation,
    features: NDArray[np.float32],
    event: int,
    outputs: NDArray[np.float64],
    reference: NDArray[np.float64],
) -> FirstDifference:
    one = features[event : event + 1]
    element = int(np.flatnonzero(outputs[event] != reference[event])[0])
    at_output = FirstDifference(
        event, "output", element, float(reference[event, element]), float(outputs[event, element])
    )
    try:
        found = first_difference(torch_wires(network, one), item.wires(one), event)
    except ToolError:
        return at_output
    return found or at_output


def write_lowered(qonnx_model: onnx.ModelProto, network: fx.GraphModule) -> onnx.ModelProto:
    """The lowered model in the float type that the accumulator bound asks for."""
    return lower(qonnx_model, double=accumulator_bits(network) > FLOAT32_BITS)
