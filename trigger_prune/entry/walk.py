"""The state of one pass over an ONNX graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import onnx

from trigger_prune.entry.builder import Builder
from trigger_prune.entry.entered import refusal
from trigger_prune.entry.onnx_constants import Constant
from trigger_prune.entry.wires import Sum, Tensor, Wire

Inputs = list[Tensor | None]
"""What a node reads; None where an optional input is left out."""


@dataclass(frozen=True, eq=False)
class Walk:
    """What the operators share.

    batch     size of the batch axis that shapes in the graph are computed with
    reads     how often each tensor is read
    nearest   told of every scale that is replaced by the nearest power of two; None = that is refused
    """

    model: onnx.ModelProto
    build: Builder
    batch: int
    reads: Counter[str]
    nearest: Callable[[str], None] | None = None

    def single(self, tensor: str) -> bool:
        """Whether one node alone reads a tensor."""
        return self.reads[tensor] == 1

    def wire(self, node: onnx.NodeProto, tensor: Tensor | None) -> Wire:
        """The tensor as a wire; an unfinished layer is written. Raises UnsupportedLayerError for a constant."""
        if isinstance(tensor, Sum):
            return self.build.finished(tensor)
        if tensor is None or isinstance(tensor, Constant):
            raise refusal(node, "a constant stands where events are expected", "fold constants first")
        return tensor
