"""Intermediate wires of the alkaid interpreter: the network is cut behind each layer and traced again."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.quantize.convert import input_type_of
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.trace import predict, trace_network
from trigger_prune.verify.wires import Wire, torch_wires


def alkaid_wires(network: fx.GraphModule, event: NDArray[np.float32]) -> Iterator[Wire]:
    """Wires of alkaid's interpreter for one event ``(1, *input_shape)``, traced one by one as they are asked for."""
    frozen = freeze(network, double=True)
    for reference in torch_wires(network, event):
        cut = cut_behind(frozen, reference.layer)
        comb = trace_network(cut, input_type_of(network), tuple(event.shape[1:]))
        yield Wire(reference.layer, reference.kind, predict(comb, event.astype(np.float64)))


def cut_behind(network: fx.GraphModule, layer: str) -> fx.GraphModule:
    """A copy of ``network`` whose output is the output of ``layer``."""
    cut = copy.deepcopy(network)
    target = next(node for node in cut.graph.nodes if node.op == "call_module" and node.target == layer)
    output = next(node for node in cut.graph.nodes if node.op == "output")
    output.args = (target,)
    cut.graph.eliminate_dead_code()
    cut.delete_all_unused_submodules()
    cut.recompile()
    return cut
