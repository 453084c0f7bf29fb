"""A saved QKeras model -> its description."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from qkeras.utils import _add_supported_quantized_objects

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import Rounding
from trigger_prune.qkeras.description import KerasDescription, Node, PlainNode, QuantNode, WeightNode
from trigger_prune.qkeras.keras_quantizers import activation_type, stored_codes
from trigger_prune.quantize.ranges import best_type

_KINDS: dict[str, Any] = {"QDense": "dense", "QConv1D": "conv1d", "QConv2D": "conv2d", "QConv2DBatchnorm": "conv2d"}
_NORMS = ("BatchNormalization", "QBatchNormalization")
_SKIPPED = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "ActivityRegularization")
_BIAS_BITS = 16


def custom_objects() -> dict[str, Any]:
    """What a saved QKeras model refers to by name."""
    objects: dict[str, Any] = {}
    _add_supported_quantized_objects(objects)
    return objects


def load_model(path: Path) -> Any:
    """A model from ``.h5`` or ``.keras``, without its optimiser; wrappers of pruning are taken off.

    Raises ModelError when tf_keras cannot read the file.
    """
    from tensorflow_model_optimization.sparsity import keras as sparsity

    try:
        with sparsity.prune_scope(), tf_keras.utils.custom_object_scope(custom_objects()):
            model = tf_keras.models.load_model(str(path), compile=False)
            if any(type(layer).__name__ == "PruneLowMagnitude" for layer in model.layers):
                model = sparsity.strip_pruning(model)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path} cannot be read as a QKeras model: {type(error).__name__}: {error}",
            hint="save it with model.save('name.h5') under TF_USE_LEGACY_KERAS=1",
        ) from error
    return model


def save_model(model: Any, path: Path) -> None:
    """Write ``.h5`` or ``.keras`` (by the name) under a temporary name, then rename."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        model.save(str(temporary))
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def in_double(model: Any) -> Any:
    """A copy of ``model`` with float64 in place of float32, to be called inside ``double_precision`` only."""
    with tf_keras.utils.custom_object_scope(custom_objects()):
        double = type(model).from_config(_with_dtype(model.get_config()))
    double.set_weights([np.asarray(values, dtype=np.float64) for values in model.get_weights()])
    return double


def _with_dtype(config: Any) -> Any:
    if isinstance(config, dict):
        return {
            key: "float64" if key == "dtype" and value == "float32" else _with_dtype(value)
            for key, value in config.items()
        }
    return [_with_dtype(value) for value in config] if isinstance(config, list) else config


def read_model(model: Any, *, fold_batch_norm: bool = False) -> KerasDescription:
    """The integers and types of ``model``.

    fold_batch_norm   put a batch normalisation into the weights before it and quantise those again: not the same bits
    Raises ModelError, naming the layer, for anything that has no integer counterpart.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs instead of one each"
        )
    reader = _Reader(fold_batch_norm)
    for layer in model.layers:
        reader.add(layer)
    shape = tuple(model.inputs[0].shape[1:])
    if any(size is None for size in shape):
        raise ModelError(f"the input shape {shape} is not fixed", hint="give the Input layer a shape without None")
    output = reader.names[_source(model.outputs[0])]
    return KerasDescription(reader.input_name, tuple(map(int, shape)), None, tuple(reader.nodes), output)


def _source(tensor: Any) -> str:
    name: str = tensor._keras_history.layer.name
    return name


class _Reader:
    """Collects nodes; ``names`` maps a Keras layer to the node that gives its output."""

    def __init__(self, fold_batch_norm: bool) -> None:
        self.fold = fold_batch_norm
        self.names: dict[str, str] = {}
        self.nodes: list[Node] = []
        self.input_name = ""

    def add(self, layer: Any) -> None:
        kind = type(layer).__name__
        where = f"layer {layer.name!r}"
        if kind == "InputLayer":
            self.input_name = self.names[layer.name] = layer.name
            return
        try:
            tensors = layer.input if isinstance(layer.input, list) else [layer.input]
            inputs = tuple(self.names.get(_source(tensor), self.input_name or _source(tensor)) for tensor in tensors)
        except AttributeError:
            raise ModelError(f"{where} is called twice", hint="give each call a layer of its own") from None
        if not self.input_name:
            # a Sequential model does not list its input layer
            self.input_name = inputs[0]
        self.names[layer.name] = layer.name
        if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
            raise ModelError(f"{where} is channels first", hint="use data_format='channels_last'")
        if kind in _KINDS:
            self._add_weights(layer, _KINDS[kind], inputs, where)
        elif kind == "QActivation":
            self.nodes.append(QuantNode(layer.name, inputs, activation_type(layer.quantizer, where)))
        elif kind in _NORMS:
            self._fold(layer, inputs[0], where)
        elif kind in _SKIPPED:
            self.names[layer.name] = inputs[0]
        else:
            self._add_plain(layer, kind, inputs, where)

    def _add_weights(self, layer: Any, kind: Any, inputs: tuple[str, ...], where: str) -> None:
        if getattr(layer, "groups", 1) != 1:
            raise ModelError(f"{where} has {layer.groups} groups", hint="hls4ml's Keras route takes one group")
        kernel, bias = layer.kernel, layer.bias if layer.use_bias else None
        if type(layer).__name__ == "QConv2DBatchnorm":
            kernel, bias = layer.get_folded_weights()
        codes, kernel_type = stored_codes(kernel, layer.kernel_quantizer_internal, f"{where}: its kernel")
        bias_codes, bias_type = None, None
        if bias is not None and np.any(np.asarray(bias)):
            bias_codes, bias_type = stored_codes(bias, layer.bias_quantizer_internal, f"{where}: its bias")
        dense = kind == "dense"
        self.nodes.append(
            WeightNode(
                layer.name,
                inputs,
                kind,
                codes,
                kernel_type,
                np.asarray(kernel) != 0,
                bias_codes,
                bias_type,
                () if dense else tuple(map(int, layer.strides)),
                () if dense else tuple(map(int, layer.dilation_rate)),
                "valid" if dense else layer.padding,
                bool(layer.trainable),
            )
        )
        self._add_activation(layer, where)

    def _add_activation(self, layer: Any, where: str) -> None:
        """The activation that a layer with weights holds itself."""
        activation = layer.activation
        name = getattr(activation, "__name__", "")
        if activation is None or name == "linear":
            return
        own = f"{layer.name}_activation"
        if name in ("relu", "softmax", "sigmoid"):
            self.nodes.append(PlainNode(own, (layer.name,), name))  # type: ignore[arg-type]
        else:
            self.nodes.append(QuantNode(own, (layer.name,), activation_type(activation, where)))
        self.names[layer.name] = own

    def _add_plain(self, layer: Any, kind: str, inputs: tuple[str, ...], where: str) -> None:
        def plain(what: Any, size: Any = (), stride: Any = ()) -> None:
            self.nodes.append(PlainNode(layer.name, inputs, what, tuple(map(int, size)), tuple(map(int, stride))))

        if kind == "Activation" and getattr(layer.activation, "__name__", "") in ("relu", "softmax", "sigmoid"):
            plain(layer.activation.__name__)
        elif kind == "Activation" and getattr(layer.activation, "__name__", "") == "linear":
            self.names[layer.name] = inputs[0]
        elif kind == "Softmax":
            plain("softmax")
        elif kind == "ReLU" and layer.max_value is None and not layer.negative_slope and not layer.threshold:
            plain("relu")
        elif kind == "Flatten":
            plain("flatten")
        elif kind in ("MaxPooling1D", "MaxPooling2D") and layer.padding == "valid":
            plain("max_pool", _sizes(layer.pool_size), _sizes(layer.strides))
        elif kind in ("ZeroPadding1D", "ZeroPadding2D"):
            padding = [layer.padding] if kind == "ZeroPadding1D" else list(layer.padding)
            if any(before != behind for before, behind in padding):
                raise ModelError(f"{where} pads unevenly: {padding}", hint="pad by as much before as behind")
            plain("zero_pad", [before for before, _ in padding])
        elif kind == "Add" or (kind == "Concatenate" and layer.axis in (-1, len(layer.output.shape) - 1)):
            plain("add" if kind == "Add" else "concatenate")
        else:
            raise ModelError(
                f"{where} is a {kind} that has no integer counterpart",
                hint="QDense, QConv1D, QConv2D, QActivation, MaxPooling, ZeroPadding, Flatten and ReLU have one",
            )

    def _fold(self, layer: Any, source: str, where: str) -> None:
        index = next((i for i, node in enumerate(self.nodes) if node.name == source), None)
        before = self.nodes[index] if index is not None else None
        if not self.fold:
            raise ModelError(
                f"{where}: a batch normalisation computes in float, not in integers",
                hint="fold it into the weights before it (--fold-batch-norm, which quantises those again), or train "
                "with QConv2DBatchnorm",
            )
        if index is None or not isinstance(before, WeightNode):
            raise ModelError(f"{where} does not directly follow a layer with weights")
        shift_mean = np.asarray(layer.moving_mean, dtype=np.float64)
        scale = 1.0 / np.sqrt(np.asarray(layer.moving_variance, dtype=np.float64) + layer.epsilon)
        if layer.scale:
            scale = scale * np.asarray(layer.gamma, dtype=np.float64)
        bias = np.zeros(len(scale)) if before.bias is None else before.bias * before.bias_type.lsb  # type: ignore[union-attr]
        folded = (bias - shift_mean) * scale + (np.asarray(layer.beta, dtype=np.float64) if layer.center else 0.0)
        kernel = before.kernel * before.kernel_type.lsb * scale
        kernel_type = best_type(kernel, before.kernel_type.width, signed=True, rounding=Rounding.AP_RND_CONV)
        bias_type = best_type(folded, _BIAS_BITS, signed=True, rounding=Rounding.AP_RND_CONV)
        self.nodes[index] = replace(
            before,
            kernel=kernel_type.to_code(kernel),
            kernel_type=kernel_type,
            bias=bias_type.to_code(folded),
            bias_type=bias_type,
        )
        self.names[layer.name] = source


def _sizes(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
