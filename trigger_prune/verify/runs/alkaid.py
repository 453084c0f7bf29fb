"""alkaid's adder graph, executed by its interpreter: what the Verilog of the ``rtl`` cost is made from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.quantize.convert import input_type_of
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.trace import predict, trace_network
from trigger_prune.verify.runs._base import Events
from trigger_prune.verify.truncate import alkaid_wires
from trigger_prune.verify.wires import Wire


@dataclass(frozen=True)
class Alkaid:
    """Traced from the torch network, not from a file."""

    name = "alkaid"

    def count(self, events: Events) -> int:
        return len(events.features)

    def run(self, events: Events) -> NDArray[np.float64]:
        frozen = freeze(events.network, double=True)
        comb = trace_network(frozen, input_type_of(events.network), tuple(events.features.shape[1:]))
        return predict(comb, events.features, threads=os.cpu_count() or 1)

    def wires(self, events: Events, event: NDArray[np.float32]) -> Iterator[Wire]:
        return alkaid_wires(events.network, event)


ALKAID = Alkaid()
