"""A description -> the QKeras model of stock layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras
from qkeras import QActivation, QConv1D, QConv2D, QDense, quantized_bits

from trigger_prune.fixed_point import FixedPoint, Overflow
from trigger_prune.qkeras.binary_points import widened
from trigger_prune.qkeras.description import KerasDescription, Node, PlainNode, QuantNode, WeightNode

_JOINS = {"add": tf_keras.layers.Add, "concatenate": tf_keras.layers.Concatenate}


def build_model(description: KerasDescription) -> Any:
    """The functional model, weights on their grids; it takes ``(events, *description.input_shape)``."""
    wires = {description.input_name: tf_keras.Input(description.input_shape, name=description.input_name)}
    for node in description.nodes:
        inputs = [wires[name] for name in node.inputs]
        wires[node.name] = _layer(node, inputs[0].shape)(inputs[0] if len(inputs) == 1 else inputs)
    model = tf_keras.Model(wires[description.input_name], wires[description.output])
    set_codes(model, description)
    return model


def set_codes(model: Any, description: KerasDescription) -> None:
    """Put the integers of ``description`` into the layers of ``model``."""
    for node in description.weights:
        values = [node.kernel * node.kernel_type.lsb]
        if node.bias is not None and node.bias_type is not None:
            values.append(node.bias * node.bias_type.lsb)
        model.get_layer(node.name).set_weights(values)


def _layer(node: Node, shape: Any) -> Any:
    if isinstance(node, QuantNode):
        return QActivation(_activation(node.fixed), name=node.name)
    return _weights(node) if isinstance(node, WeightNode) else _plain(node, len(shape) - 2)


def _activation(fixed: FixedPoint) -> str:
    """QKeras's own text for a quantiser; a layer that holds it can be saved in every format."""
    if not fixed.signed:
        return f"quantized_relu({fixed.width},{fixed.integer})"
    return f"quantized_bits({fixed.width},{fixed.integer - 1},{_symmetric(fixed)},alpha=1.0)"


def _symmetric(fixed: FixedPoint) -> int:
    return int(fixed.overflow is Overflow.AP_SAT_SYM)


def _stored(fixed: FixedPoint | None) -> Any:
    if fixed is None:
        return None
    wide = widened(fixed)
    # without an alpha, QKeras takes scales from the weights
    return quantized_bits(wide.width, wide.integer - 1, _symmetric(fixed), keep_negative=True, alpha=1.0)


def _weights(node: WeightNode) -> Any:
    shared = {
        "kernel_quantizer": _stored(node.kernel_type),
        "bias_quantizer": _stored(node.bias_type),
        "use_bias": node.bias is not None,
        "name": node.name,
        "trainable": node.trainable,
    }
    if node.kind == "dense":
        return QDense(node.kernel.shape[-1], **shared)
    kind = QConv1D if node.kind == "conv1d" else QConv2D
    return kind(
        node.kernel.shape[-1],
        node.kernel.shape[:-2],
        strides=node.stride,
        padding=node.padding,
        dilation_rate=node.dilation,
        **shared,
    )


def _plain(node: PlainNode, axes: int) -> Any:
    layers = tf_keras.layers
    if node.kind in _JOINS:
        return _JOINS[node.kind](name=node.name)
    if node.kind == "flatten":
        return layers.Flatten(name=node.name)
    if node.kind == "max_pool":
        pool = layers.MaxPooling1D if axes == 1 else layers.MaxPooling2D
        return pool(node.size, strides=node.stride, padding="valid", name=node.name)
    if node.kind == "zero_pad":
        pad = layers.ZeroPadding1D if axes == 1 else layers.ZeroPadding2D
        return pad(node.size[0] if axes == 1 else node.size, name=node.name)
    return layers.Activation(node.kind, name=node.name)


def predict(model: Any, features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Outputs ``(events, outputs)`` in the model's own order, float64."""
    outputs = np.asarray(model.predict(features, batch_size=2048, verbose=0), dtype=np.float64)
    return outputs.reshape(len(features), -1)
