"""A list of Keras layers in ``designs.csv`` -> the layers that hls4ml makes of it in io_stream."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from trigger_prune.cost.calibration.rows import Row
from trigger_prune.cost.hls.design import HlsLayer, LayerKind
from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration.drafts import strategy_named

_IMAGES = {"Keb-L+hls4ml-data": (16, 16, 3)}
"""Height, width and channels of the input, where a table leaves them out; the trip counts of the reports state them."""
_POOL = 2
_FUSED = ("BatchNormalization", "InputLayer", "Flatten")
"""Without hardware: a batch normalisation is fused into the convolution in front of it."""
_ACTIVATIONS: Mapping[str, LayerKind] = {
    "LeakyReLU": "leaky_relu",
    "ReLU": "relu",
    "softmax": "softmax",
    "relu": "relu",
}


def layers_of_list(row: Row, project: str, value_type: FixedPoint) -> list[HlsLayer]:
    """Layers in order of computation, all of one type; reuse factors are not in the list: 1.

    Raises DataError for a layer of an unknown kind, and an input whose size is not known.
    """
    entries = _entries(row)
    image = _IMAGES.get(project)
    if image is None:
        raise DataError(f"{row.source}: the size of the input is not in the table")
    strategy = strategy_named(row.text("strategy_eff") or row.required_text("strategy"))
    builder = _Builder(image[:-1], image[-1], value_type, row.source)
    for entry in entries:
        kind = str(entry.get("kind"))
        if kind in _FUSED:
            continue
        if kind == "conv2d":
            builder.convolution(entry, strategy)
        elif kind == "MaxPooling2D":
            builder.pool()
        elif kind == "dense":
            builder.dense(entry, strategy)
        elif kind in _ACTIVATIONS:
            builder.activation(_ACTIVATIONS[kind])
        else:
            raise DataError(f"{row.source}: a layer of kind {kind!r} is unknown")
        if entry.get("act"):
            activation = _ACTIVATIONS.get(str(entry["act"]))
            if activation is None:
                raise DataError(f"{row.source}: the activation {entry['act']!r} is unknown")
            builder.activation(activation)
    return builder.layers


class _Builder:
    """Image size and channels along the network."""

    def __init__(self, image: tuple[int, ...], channels: int, value_type: FixedPoint, source: str) -> None:
        self.layers: list[HlsLayer] = []
        self._image, self._channels, self._type, self._source = image, channels, value_type, source

    def _add(self, kind: LayerKind, n_in: int, n_out: int, **more: Any) -> None:
        name = f"{kind}_{len(self.layers)}"
        self.layers.append(HlsLayer(name, kind, n_in, n_out, self._type, self._type, **more))

    def convolution(self, entry: Mapping[str, Any], strategy: str) -> None:
        """Padding is a layer of its own in io_stream."""
        try:
            width, filters, stride = int(entry["filt_width"]), int(entry["n_filt"]), int(entry["stride"])
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{self._source}: a convolution without filt_width, n_filt or stride") from None
        before = self._image
        if entry.get("pad") == "same" and width > 1:
            outputs = tuple(-(-size // stride) for size in before)
            padded = tuple(max((out - 1) * stride + width, size) for out, size in zip(outputs, before, strict=True))
            self._add("zero_padding", self._channels, self._channels, input_size=before, output_size=padded)
        else:
            outputs, padded = tuple((size - width) // stride + 1 for size in before), before
        window = len(before)
        self._add(
            "conv2d",
            self._channels,
            filters,
            strategy=strategy,
            accum_type=self._type,
            weight_type=self._type,
            kernel=(width,) * window,
            stride=(stride,) * window,
            input_size=padded,
            output_size=outputs,
        )
        self._image, self._channels = outputs, filters

    def pool(self) -> None:
        """Keras's default: 2 x 2, without overlap."""
        outputs = tuple(size // _POOL for size in self._image)
        window = (_POOL,) * len(outputs)
        self._add(
            "max_pool",
            self._channels,
            self._channels,
            kernel=window,
            stride=window,
            input_size=self._image,
            output_size=outputs,
        )
        self._image = outputs

    def dense(self, entry: Mapping[str, Any], strategy: str) -> None:
        """Reads what the stream brings, position by position."""
        try:
            outputs = int(entry["n_out"])
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{self._source}: a dense layer without n_out") from None
        inputs = math.prod(self._image) * self._channels
        self._add(
            "dense",
            inputs,
            outputs,
            strategy=strategy,
            accum_type=self._type,
            weight_type=self._type,
            input_size=self._image,
        )
        self._image, self._channels = (), outputs

    def activation(self, kind: LayerKind) -> None:
        """Of every channel of every position."""
        self._add(kind, self._channels, self._channels, output_size=self._image)


def _entries(row: Row) -> list[dict[str, Any]]:
    try:
        entries = json.loads(row.required_text("layers"))
    except ValueError as error:
        raise DataError(f"{row.source}: layers is not JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{row.source}: layers is not a list of layers")
    return entries
