"""A Brevitas model (QuantLinear, QuantConv1d/2d, QuantReLU, QuantIdentity) becomes a quantised network, bit for bit.

The way goes through Brevitas' own QONNX export, so that what Brevitas computes at inference is what is taken over.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import onnx
import torch
from torch import nn

from trigger_prune.entry.entered import EnteredNetwork
from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.errors import ExportError, ModelError
from trigger_prune.export.qonnx_model import EXPORT_LOCK
from trigger_prune.export.quiet import quiet
from trigger_prune.fixed_point import FixedPoint


def is_brevitas(model: nn.Module) -> bool:
    """Whether a layer of the model is one of Brevitas; does not import it."""
    return any(type(module).__module__.split(".")[0] == "brevitas" for module in model.modules())


def brevitas_to_qonnx(model: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """The QONNX model that Brevitas exports, batch of one.

    Raises ModelError for a model without layers of Brevitas or when it is not installed, ExportError when it fails.
    """
    if not is_brevitas(model):
        raise ModelError(
            f"{type(model).__name__} has no layer of Brevitas",
            hint="a plain torch model is quantised by quantize_model",
        )
    try:
        import onnxoptimizer  # noqa: F401
        from brevitas.export import export_qonnx
    except ImportError as error:
        raise ModelError(
            f"a Brevitas model is exported by Brevitas, which cannot be imported: {error}",
            hint="pip install 'trigger_prune[brevitas]'",
        ) from error
    was_training, device = model.training, next(model.parameters(), torch.zeros(())).device
    try:
        with EXPORT_LOCK, quiet(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            example = torch.zeros((1, *input_shape))
            exported: Any = export_qonnx(model.cpu().eval(), example, dynamo=False, opset_version=13)
    except Exception as error:
        # Brevitas and torch raise RuntimeError, AttributeError, KeyError and others for what they cannot export.
        raise ExportError(
            f"Brevitas cannot export {type(model).__name__}: {type(error).__name__}: {error}",
            hint="try brevitas.export.export_qonnx on the model by itself",
        ) from error
    finally:
        model.train(was_training)
        model.to(device)
    return exported


def read_brevitas(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    name: str | None = None,
    input_type: FixedPoint | None = None,
    nearest_power_of_two: bool = False,
) -> EnteredNetwork:
    """The quantised network of a Brevitas model in evaluation mode.

    input_shape           of one event, without batch axis
    input_type            of the events; needed where the model does not begin with a QuantIdentity
    nearest_power_of_two  see ``read_qonnx``: changes the outputs, which ``exact`` and ``notes`` then say

    Raises as ``brevitas_to_qonnx`` and ``read_qonnx`` do: Brevitas' default scales are no powers of two, and are
    refused with the remedy.
    """
    entered = read_qonnx(
        brevitas_to_qonnx(model, input_shape),
        name=name or type(model).__name__,
        input_type=input_type,
        nearest_power_of_two=nearest_power_of_two,
    )
    return replace(entered, kind="brevitas")
