"""Two places of hls4ml 1.3.0 that go wrong on a QONNX graph, replaced while a project is made.

* ``distributed_arithmetic`` looks up the layer before another one by the name of a layer, but the ONNX front end names
  inputs by tensor: ``Layer Dense_MatMul_1 has input Relu_0_out0 which is not in the model``.
* The reader of MaxPool takes a one-dimensional pooling for channels first, which it never is here, and leaves out the
  padding: ``Attribute "pad_left" of layer MaxPool_0 (Pooling1D) not set``.

Neither is trusted: the C simulation is compared bit by bit like that of any other project.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.Lock()
_COPY_OF_A_STREAM = re.compile(r"(?P<name>.+)_cpy\d*$")


@contextmanager
def repaired_hls4ml() -> Iterator[None]:
    """Inside, hls4ml builds distributed arithmetic and MaxPool1d from QONNX. One thread at a time."""
    from hls4ml.backends.vivado.passes import distributed_arithmetic
    from hls4ml.converters.onnx_to_hls import layer_handlers

    with _LOCK:
        lookup, pooling = distributed_arithmetic.get_input_layers, layer_handlers["MaxPool"]
        distributed_arithmetic.get_input_layers = _layers_before
        layer_handlers["MaxPool"] = lambda *arguments: _pooling(pooling, *arguments)
        try:
            yield
        finally:
            distributed_arithmetic.get_input_layers = lookup
            layer_handlers["MaxPool"] = pooling


def _layers_before(layer: Any) -> list[Any]:
    """The layers whose outputs ``layer`` reads."""
    producers = {tensor: other for other in layer.model.graph.values() for tensor in other.outputs}
    found = []
    for tensor in layer.inputs:
        copy = _COPY_OF_A_STREAM.match(tensor)
        name = copy["name"] if tensor not in producers and copy else tensor
        found.append(producers[name])
    return found


def _pooling(original: Any, node: Any, names: Any, shapes: Any, graph: Any) -> dict[str, Any]:
    layer: dict[str, Any] = original(node, names, shapes, graph)
    if len(shapes[0]) == 3:
        _, positions, channels = shapes[0]
        before, after = layer["pads"]
        reach = (layer["pool_width"] - 1) * layer["dilations"][0] + 1
        n_out = (positions + before + after - reach) // layer["stride_width"] + 1
        layer |= {"n_in": positions, "n_filt": channels, "n_out": n_out, "pad_left": before, "pad_right": after}
    return layer
