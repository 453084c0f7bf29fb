"""A network with float activations -> standard ONNX, for processors."""

from __future__ import annotations

import io
import warnings
from typing import Any

import onnx
import torch
from torch import nn

from trigger_prune.errors import ExportError
from trigger_prune.export.qonnx_model import EXPORT_LOCK, INPUT_NAME, OUTPUT_NAME
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.freeze import freeze

_OPSET = 17
"""The first with LayerNormalization."""


def to_float_onnx(network: nn.Module) -> onnx.ModelProto:
    """A weights-only network with its quantised, masked weights as float32 constants; batch axis named ``batch``.

    Input ``events`` (batch, *input_shape), output ``logits``. Raises ExportError when torch cannot export a node.
    """
    exported = freeze(network).cpu().float().eval()
    example = torch.zeros((2, *input_shape_of(network)))
    buffer: Any = io.BytesIO()
    try:
        with EXPORT_LOCK, warnings.catch_warnings(), torch.no_grad():
            # the TorchScript exporter announces its successor
            warnings.simplefilter("ignore")
            torch.onnx.export(
                exported,
                (example,),
                buffer,
                dynamo=False,
                opset_version=_OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ExportError(f"torch could not export {type(network).__name__} to ONNX: {error}") from error
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model
