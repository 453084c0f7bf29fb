"""torch -> QONNX: a graph whose Quant nodes carry every precision (opset 13, batch of one)."""

from __future__ import annotations

import copy
import io
import threading
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.errors import ExportError
from trigger_prune.export.quant_node import QONNX_DOMAIN, require_expressible
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.layers import FixedQuantizer, QuantConv1d, QuantLinear, QuantWeightLayer, weight_layers

OPSET = 13
INPUT_NAME = "events"
OUTPUT_NAME = "logits"

EXPORT_LOCK = threading.Lock()
"""torch's exporter keeps global state: two threads that export at once end in a bare AssertionError."""


class _ExportedLayer(nn.Module):
    """A weight layer as the exporter should see it: constants that pass through Quant nodes, no mask arithmetic."""

    def __init__(self, layer: QuantWeightLayer) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.quantized_weight().detach().clone(), requires_grad=False)
        bias = layer.quantized_bias()
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.weight_type, self.bias_type = layer.weight_type, layer.bias_type
        self.call = _linear if isinstance(layer, QuantLinear) else _convolution(layer)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_type.fake_quantize(self.weight)
        bias = None if self.bias is None else self.bias_type.fake_quantize(self.bias)
        return self.call(x, weight, bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.linear(x, weight, bias)


def _convolution(layer: Any) -> Any:
    function: Any = functional.conv1d if isinstance(layer, QuantConv1d) else functional.conv2d
    stride, padding, dilation, groups = layer.stride, layer.padding, layer.dilation, layer.groups
    return lambda x, weight, bias: function(x, weight, bias, stride, padding, dilation, groups)


def to_qonnx(network: fx.GraphModule) -> onnx.ModelProto:
    """The quantised network as a QONNX model with input ``events`` (1, *input_shape) and output ``logits``.

    Raises ExportError, naming the layer, for a type that no Quant node gives, and when torch cannot export a node.
    """
    _require_expressible_types(network)
    exported = copy.deepcopy(network).cpu().float().eval()
    for name, layer in weight_layers(exported).items():
        exported.set_submodule(name, _ExportedLayer(layer))
    example = torch.zeros((1, *input_shape_of(network)))
    buffer: Any = io.BytesIO()
    try:
        with EXPORT_LOCK, warnings.catch_warnings(), torch.no_grad():
            # The TorchScript exporter announces its successor, which writes opset 18; qonnx and hls4ml read 13.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                exported,
                (example,),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                custom_opsets={QONNX_DOMAIN: 1},
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ExportError(f"torch could not export the network to ONNX: {error}") from error
    return onnx.load_from_string(buffer.getvalue())


def _require_expressible_types(network: fx.GraphModule) -> None:
    for name, module in network.named_modules():
        if isinstance(module, FixedQuantizer):
            require_expressible(module.fixed, f"quantiser {name!r}")
    for name, layer in weight_layers(network).items():
        require_expressible(layer.weight_type, f"weights of layer {name!r}")
        if layer.bias is not None:
            require_expressible(layer.bias_type, f"biases of layer {name!r}")
