"""What a reader of foreign models returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import fx

from trigger_prune.errors import UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of, input_type_of

Kind = Literal["qonnx", "onnx", "brevitas"]


@dataclass(frozen=True, eq=False)
class EnteredNetwork:
    """A network made elsewhere, as a quantised network of the toolkit: every stage takes it like one of its own.

    source   the model it was read from, or None for a model in memory
    notes    what the reader decided, one sentence each; empty when the graph was taken over word for word
    exact    whether it has the bits of the source for every input; False after a change that the user asked for
    """

    name: str
    kind: Kind
    network: fx.GraphModule
    source: Path | None
    notes: tuple[str, ...] = ()
    exact: bool = True

    @property
    def input_type(self) -> FixedPoint:
        """Type of every input."""
        return input_type_of(self.network)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return input_shape_of(self.network)


def refusal(node: Any, reason: str, hint: str) -> UnsupportedLayerError:
    """The error for an ONNX node that cannot be taken over; names the node, the reason and the remedy."""
    name = node.name or (node.output[0] if node.output else "?")
    return UnsupportedLayerError(f"node {name!r} ({node.op_type}): {reason}", hint=hint)
