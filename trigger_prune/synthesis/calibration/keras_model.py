"""``keras_model.h5``, which hls4ml leaves in a project: layers in order, with weights as hls4ml would round them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ReportFormatError, ToolError

FILE = "keras_model.h5"
_WEIGHTED = ("Dense", "QDense", "Conv1D", "QConv1D", "Conv2D", "QConv2D")


@dataclass(frozen=True, eq=False)
class KerasLayer:
    """One layer. ``index`` is the number hls4ml gives it (``config7``); ``kernel`` as Keras keeps it, ``(in, out)`` or
    ``(*window, in, out)``, after the quantiser of QKeras; None = the layer has none, or its quantiser is not known."""

    name: str
    class_name: str
    index: int
    config: Mapping[str, Any] = field(default_factory=dict)
    kernel: NDArray[np.float64] | None = None
    bias: NDArray[np.float64] | None = None


def read_keras_model(path: Path) -> tuple[KerasLayer, ...]:
    """Layers of a sequential model. Raises ReportFormatError when the file holds none, ToolError without h5py."""
    try:
        import h5py
    except ImportError:
        raise ToolError("keras_model.h5 needs h5py", hint="pip install 'trigger_prune[hdf5]'") from None
    try:
        with h5py.File(path) as file:
            text = file.attrs["model_config"]
            layers = json.loads(text)["config"]["layers"]
            weights = file["model_weights"]
            return tuple(_layers(layers, weights, h5py.Dataset))
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportFormatError(f"{path} is no Keras model that can be read: {error}") from None


def _layers(layers: list[dict[str, Any]], weights: Any, dataset: type) -> list[KerasLayer]:
    found = []
    index = 0
    for raw in layers:
        class_name, config = raw["class_name"], raw["config"]
        if class_name in ("Dropout",):
            continue  # hls4ml drops it before it counts
        index += 1
        arrays = _arrays(weights, config.get("name", ""), dataset) if class_name in _WEIGHTED else {}
        kernel = arrays.get("kernel")
        bias = arrays.get("bias")
        found.append(
            KerasLayer(
                str(config.get("name", "")),
                class_name,
                index,
                config,
                None if kernel is None else quantized(kernel, config.get("kernel_quantizer")),
                None if bias is None else quantized(bias, config.get("bias_quantizer")),
            )
        )
        # hls4ml makes a layer of its own of the activation, also of a linear one that it removes later.
        if class_name in _WEIGHTED and not isinstance(config.get("activation"), dict):
            index += 1
            activation = str(config.get("activation") or "linear")
            if activation != "linear":
                name = f"{config.get('name')}_{activation}"
                found.append(KerasLayer(name, "Activation", index, {"activation": activation}))
    return found


def _arrays(weights: Any, layer: str, dataset: type) -> dict[str, NDArray[np.float64]]:
    arrays: dict[str, NDArray[np.float64]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, dataset):
            arrays[name.split("/")[-1].split(":")[0]] = np.asarray(item, dtype=np.float64)

    if layer in weights:
        weights[layer].visititems(visit)
    return arrays


def quantized(values: NDArray[np.float64], quantizer: Any) -> NDArray[np.float64] | None:
    """``values`` after ``quantized_bits`` of QKeras with a fixed scale, which hls4ml leaves to a layer of its own; as
    they are without a quantiser; None for any other quantiser."""
    if not quantizer:
        return values
    config = quantizer.get("config") or {}
    alpha = config.get("alpha")
    if quantizer.get("class_name") != "quantized_bits" or isinstance(alpha, str):
        return None
    bits, integer, signed = (
        int(config["bits"]),
        int(config.get("integer") or 0),
        bool(config.get("keep_negative", True)),
    )
    if bits - signed < 1:
        return None
    steps = 2.0 ** (bits - signed)
    low = signed * (-1 + (1 / steps if config.get("symmetric") else 0.0))
    clipped: NDArray[np.float64] = np.clip(np.round(values * steps / 2.0**integer) / steps, low, 1 - 1 / steps)
    return 2.0**integer * clipped


def weight_scale(quantizer: Any) -> float | None:
    """The fixed scale of a quantiser of QKeras, where it has one other than 1."""
    alpha = (quantizer or {}).get("config", {}).get("alpha")
    return float(alpha) if isinstance(alpha, int | float) and alpha != 1 else None
