"""A float ONNX file becomes a plain torch module, which is then quantised after training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import fx, nn

from trigger_prune.entry.entered import EnteredNetwork
from trigger_prune.entry.onnx_constants import is_qonnx, load_model
from trigger_prune.entry.onnx_graph import take_over
from trigger_prune.errors import ModelError, VerificationError
from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.ranges import best_type

TOLERANCE = 1e-5
"""Difference to ONNX runtime that float32 in another order explains, as a fraction of the largest output."""


@dataclass(frozen=True)
class PostTrainingBits:
    """Bits that a float model gets without training. ``input_bits`` hold the events where no input type is given."""

    weight_bits: int = 8
    activation_bits: int = 8
    rounding: str = Rounding.AP_TRN.value
    input_bits: int = 12


def read_float_onnx(source: Path | onnx.ModelProto, *, output: str | None = None) -> fx.GraphModule:
    """The model as plain float layers (Linear, Conv1d, Conv2d, ReLU, pools, sums), in evaluation mode.

    BatchNorm and multiplications by constants are folded into the layer before, in float64; means over positions are
    frozen depthwise convolutions. ``output`` is the tensor to take as the output instead of the file's.

    Raises UnsupportedLayerError naming node, reason and remedy, ModelError for a file that cannot be read.
    """
    model = load_model(source)
    if is_qonnx(model):
        raise ModelError(
            f"{source if isinstance(source, Path) else 'the model'} has Quant nodes: it is no float model",
            hint="enter it as QONNX (--kind qonnx), which keeps its bits",
        )
    network, _ = take_over(model, exact=False, output=output)
    return network.eval()


def quantised_float_onnx(
    source: Path | onnx.ModelProto,
    events: NDArray[np.floating],
    bits: PostTrainingBits,
    *,
    name: str | None = None,
    input_type: FixedPoint | None = None,
    output: str | None = None,
) -> tuple[EnteredNetwork, nn.Module]:
    """The quantised network of a float model, and the float model itself.

    events       ``(events, *input_shape)`` that place the binary points; they are rounded to the input type first
    input_type   of the events as they reach the network; by default the best one of ``bits.input_bits`` bits

    Raises as ``read_float_onnx`` and ``quantize_model`` do.
    """
    model = read_float_onnx(source, output=output)
    shape = tuple(model.meta["input_shape"])
    if tuple(events.shape[1:]) != shape:
        raise ModelError(f"the events have shape {tuple(events.shape[1:])}, the model takes {shape}")
    notes = [f"quantised after training: weights {bits.weight_bits} bits, activations {bits.activation_bits} bits"]
    if input_type is None:
        signed = bool((events < 0).any())
        input_type = best_type(events, bits.input_bits, signed=signed, rounding=Rounding.AP_RND)
        notes.append(f"the inputs got the type {input_type} from the range of the events")
    calibration = torch.from_numpy(input_type.quantize(events).astype(np.float32))
    network = quantize_model(model, calibration, input_type, bits)
    path = source if isinstance(source, Path) else None
    entered = EnteredNetwork(name or (path.stem if path else "model"), "onnx", network, path, tuple(notes), exact=False)
    return entered, model


def compare_float(
    source: Path,
    model: nn.Module,
    network: nn.Module,
    events: NDArray[np.floating],
    input_type: FixedPoint,
    output: str | None = None,
) -> str:
    """The torch module against ONNX runtime on the file, and what quantisation changed, in words.

    Raises VerificationError when the module differs from ONNX runtime by more than 1e-5 of the largest output.
    """
    x = torch.from_numpy(np.ascontiguousarray(events, dtype=np.float32))
    with torch.no_grad():
        floats = model(x).numpy().reshape(len(x), -1)
        fixed = network(torch.from_numpy(input_type.quantize(events).astype(np.float32))).numpy().reshape(len(x), -1)
    largest = float(np.abs(floats).max())
    remark = f"quantisation moves outputs by {np.abs(fixed - floats).mean():.3g} on average (largest {largest:.3g})"
    if floats.shape[1] > 1:
        remark += f"; the decision stays in {100 * (fixed.argmax(1) == floats.argmax(1)).mean():.2f} % of the events"
    expected = run_float(source, events, output)
    difference = float(np.abs(floats - expected).max())
    if not difference <= TOLERANCE * max(largest, 1e-30):
        raise VerificationError(
            f"the torch module differs from ONNX runtime on {source} by {difference:.3g} (largest output {largest:.3g})"
        )
    return remark


def run_float(source: Path, events: NDArray[np.floating], output: str | None = None) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of a float file by ONNX runtime, whatever batch size it was written with."""
    import onnxruntime

    model = load_model(source)
    if output is not None:
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    size = given.shape[0] if isinstance(given.shape[0], int) else len(events)
    parts = []
    for start in range(0, len(events), size):
        chunk = np.asarray(events[start : start + size], np.float32)
        padded = np.zeros((size, *chunk.shape[1:]), np.float32)
        padded[: len(chunk)] = chunk
        parts.append(np.asarray(session.run(None, {given.name: padded})[0], np.float64).reshape(size, -1)[: len(chunk)])
    return np.concatenate(parts)
