"""What a project says its layers are, before it is compared with the modules that were synthesised."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.design import HlsLayer, LayerKind, Strategy
from trigger_prune.errors import ReportFormatError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration.keras_model import KerasLayer, weight_scale
from trigger_prune.synthesis.calibration.project_config import ProjectConfig

_STRATEGIES: dict[str, Strategy] = {
    "latency": "latency",
    "resource": "resource",
    "unrolled": "latency",
    "resource_unrolled": "resource_unrolled",
    "distributed_arithmetic": "distributed_arithmetic",
}
_KINDS: dict[str, LayerKind] = {
    "Dense": "dense",
    "QDense": "dense",
    "Conv1D": "conv1d",
    "QConv1D": "conv1d",
    "Conv2D": "conv2d",
    "QConv2D": "conv2d",
    "BatchNormalization": "batchnorm",
    "QBatchNormalization": "batchnorm",
    "MaxPooling1D": "max_pool",
    "MaxPooling2D": "max_pool",
    "AveragePooling1D": "average_pool",
    "AveragePooling2D": "average_pool",
    "GlobalAveragePooling1D": "global_pool",
    "GlobalAveragePooling2D": "global_pool",
    "ZeroPadding1D": "zero_padding",
    "ZeroPadding2D": "zero_padding",
    "Softmax": "softmax",
    "ReLU": "relu",
}
_ONE_AFTER_THE_OTHER = ("relu", "softmax", "sigmoid", "tanh", "batchnorm")
"""Layers that treat every position of an image alike."""
_WITHOUT_HARDWARE = ("InputLayer", "Flatten", "Reshape")
_ACTIVATIONS: dict[str, LayerKind] = {"relu": "relu", "softmax": "softmax", "sigmoid": "sigmoid", "tanh": "tanh"}
DEFAULT_TYPE = FixedPoint(16, 6)
"""hls4ml's own default."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A layer as the project describes it, and the name of its configuration in the C++ (``relu_config4``).

    scale   of quantised weights that hls4ml takes out of the layer into one of its own behind it; None = there is none
    """

    layer: HlsLayer
    config: str
    scale: float | None = None

    @property
    def number(self) -> int:
        """The 4 of ``relu_config4``: hls4ml numbers all layers of a network."""
        return config_number(self.config)


def config_number(config: str) -> int:
    """Number in a configuration's name; -1 when there is none."""
    match = re.search(r"config(\d+)", config)
    return int(match.group(1)) if match else -1


def strategy_named(text: str) -> Strategy:
    """hls4ml's strategy. Raises ReportFormatError for an unknown one."""
    try:
        return _STRATEGIES[text.lower()]
    except KeyError:
        raise ReportFormatError(f"the strategy {text!r} is unknown") from None


def drafts_from_keras(
    keras: tuple[KerasLayer, ...], config: ProjectConfig, input_type: FixedPoint | None
) -> tuple[Draft, ...]:
    """Layers of a Keras model, with the types and reuse factors that ``config`` asks for."""
    drafts: list[Draft] = []
    inputs = [layer for layer in keras if layer.class_name == "InputLayer"]
    first = config.layer_type(inputs[0].name, "result") if inputs else None
    value_type = input_type or first or DEFAULT_TYPE
    size = 0
    image = _first_image(inputs)
    for layer in keras:
        kind = _kind(layer)
        if kind is None:
            if layer.class_name in ("Flatten", "Reshape"):
                size, image = size * math.prod(image), ()
            continue
        output_type = config.layer_type(layer.name, "result") or value_type
        weighted = layer.kernel is not None or kind in ("dense", "conv1d", "conv2d")
        weight_type = config.layer_type(layer.name, "weight") if weighted else None
        bias_type = config.layer_type(layer.name, "bias") if weighted else None
        n_in, n_out = _sizes(layer, kind, size)
        size, before = n_out, image
        window = _window(layer, "kernel_size") or _window(layer, "pool_size")
        image = _image_after(layer, image, window)
        follows = bool(image) and kind in _ONE_AFTER_THE_OTHER
        if follows and config.io_type != "io_stream":
            n_in, n_out = n_in * math.prod(image), n_out * math.prod(image)
        drafts.append(
            Draft(
                HlsLayer(
                    name=layer.name,
                    kind=kind,
                    n_in=n_in,
                    n_out=n_out,
                    input_type=value_type,
                    output_type=output_type,
                    strategy=strategy_named(config.strategy(layer.name)),
                    reuse_factor=config.reuse_factor(layer.name),
                    accum_type=config.layer_type(layer.name, "accum") if weighted else None,
                    weight=_codes(layer.kernel, weight_type),
                    weight_type=weight_type,
                    bias=_codes(layer.bias, bias_type),
                    bias_type=bias_type,
                    n_zeros=None if layer.kernel is None else int((layer.kernel == 0).sum()),
                    kernel=window,
                    stride=_window(layer, "strides") if window else (),
                    input_size=before if window else (),
                    output_size=image if window or (follows and config.io_type == "io_stream") else (),
                    implementation=str(config.layers.get(layer.name, {}).get("Implementation") or "stable").lower(),
                    parallelization_factor=config.parallelization_factor(layer.name),
                ),
                _config_name(layer, kind),
                weight_scale(layer.config.get("kernel_quantizer")),
            )
        )
        value_type = output_type
    return tuple(drafts)


def _kind(layer: KerasLayer) -> LayerKind | None:
    """None for what costs no hardware."""
    if layer.class_name in _WITHOUT_HARDWARE:
        return None
    if layer.class_name in ("Activation", "QActivation"):
        activation = layer.config.get("activation")
        name = activation["class_name"] if isinstance(activation, dict) else str(activation)
        name = name.removeprefix("quantized_").split("(")[0]
        return None if name == "linear" else _ACTIVATIONS.get(name, "other")
    return _KINDS.get(layer.class_name, "other")


def _config_name(layer: KerasLayer, kind: LayerKind) -> str:
    activation = kind in ("relu", "softmax", "sigmoid", "tanh")
    return f"{kind}_config{layer.index}" if activation else f"config{layer.index}"


def _sizes(layer: KerasLayer, kind: LayerKind, size: int) -> tuple[int, int]:
    if layer.kernel is not None:
        return int(layer.kernel.shape[-2]), int(layer.kernel.shape[-1])
    units = layer.config.get("units")
    return (size, int(units)) if isinstance(units, int) else (size, size)


def _first_image(inputs: list[KerasLayer]) -> tuple[int, ...]:
    shape = (inputs[0].config.get("batch_input_shape") or inputs[0].config.get("batch_shape")) if inputs else None
    return tuple(int(n) for n in shape[1:-1] if n is not None) if shape else ()


def _window(layer: KerasLayer, key: str) -> tuple[int, ...]:
    value = layer.config.get(key)
    if value is None:
        return ()
    return tuple(map(int, value)) if isinstance(value, list | tuple) else (int(value),)


def _image_after(layer: KerasLayer, image: tuple[int, ...], window: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of the output, as Keras defines them for the padding of the layer."""
    if not window:
        return image
    stride = _window(layer, "strides") or window
    if layer.config.get("padding") == "same":
        return tuple(-(-n // s) for n, s in zip(image, stride, strict=False))
    return tuple((n - k) // s + 1 for n, k, s in zip(image, window, stride, strict=False))


def _codes(values: NDArray[np.float64] | None, fixed: FixedPoint | None) -> NDArray[np.int64] | None:
    """Codes as hls4ml's headers hold them, outputs first."""
    if values is None or fixed is None:
        return None
    return fixed.to_code(values if values.ndim == 1 else np.moveaxis(values, (-1, -2), (0, 1)))
