"""What is timed: a network without its idle parts, how it is exported, and what its outputs are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn

from trigger_prune.errors import CostError, VerificationError
from trigger_prune.quantize.weights_only import content_hash, is_weights_only, weight_counts
from trigger_prune.structure.shrink.quantised import ShrunkNetwork, shrink_network
from trigger_prune.structure.shrink.weights_only import shrink_weights_only

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TimedModel:
    """A quantised network on its way to a processor.

    network        as it was given; ``shrunk`` without what has no effect is what runs
    zero_weights   fraction of the weights
    double         runs in float64, because float32 is not exact
    tolerance      whether outputs are compared within FLOAT_TOLERANCE instead of bit by bit
    """

    network: nn.Module
    shrunk: ShrunkNetwork
    content_hash: str
    zero_weights: float
    double: bool
    tolerance: bool

    def to_onnx(self) -> onnx.ModelProto:
        """Standard operators, free batch axis. Raises ExportError."""
        if self.tolerance:
            from trigger_prune.export.float_model import to_float_onnx

            return to_float_onnx(self.shrunk.network)
        from trigger_prune.export.lowered import lower
        from trigger_prune.export.qonnx_model import to_qonnx

        return lower(to_qonnx(self.shrunk.network), double=self.double)

    def require_same_outputs(self, events: NDArray[Any], outputs: NDArray[Any]) -> None:
        """Raise VerificationError when ``outputs`` of the exported model are not those of the network."""
        from trigger_prune.verify.float_tolerance import float_outputs, too_far
        from trigger_prune.verify.representations import torch_outputs

        if isinstance(self.network, fx.GraphModule):
            expected = torch_outputs(self.network, events, double=True)
            differs = outputs.reshape(expected.shape).astype(np.float64) != expected
        else:
            differs = too_far(outputs, float_outputs(self.network, events))
        wrong = np.flatnonzero(differs.any(axis=1))
        if wrong.size:
            raise VerificationError(
                f"the model that was timed gives other outputs than the network in {wrong.size} of {len(events)} "
                "events",
                hint="report this network: the timings would be those of something else",
            )


def timed_model(network: nn.Module) -> TimedModel:
    """Raises CostError for a network that is not quantised."""
    from trigger_prune.quantize.describe import describe_network
    from trigger_prune.verify.representations import FLOAT32_BITS, accumulator_bits

    if is_weights_only(network):
        counts = weight_counts(network).values()
        zeros = 1 - sum(layer.nonzeros for layer in counts) / sum(layer.weights for layer in counts)
        return TimedModel(
            network,
            shrink_weights_only(network, keep_inputs=True),
            content_hash(network),
            zeros,
            double=False,
            tolerance=True,
        )
    if not isinstance(network, fx.GraphModule):
        raise CostError(
            f"{type(network).__name__} is not a quantised network", hint="call quantize_model or quantize_weights first"
        )
    spec = describe_network(network)
    shrunk = shrink_network(network, keep_inputs=True)
    double = max(accumulator_bits(network), accumulator_bits(shrunk.network)) > FLOAT32_BITS
    return TimedModel(
        network, shrunk, spec.content_hash(), 1 - spec.nonzeros / spec.n_weights, double=double, tolerance=False
    )
