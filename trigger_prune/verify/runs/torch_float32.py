"""The fixed-point torch network in float32, the arithmetic of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.verify.runs._base import Events, torch_outputs
from trigger_prune.verify.wires import Wire, torch_wires


@dataclass(frozen=True)
class TorchFloat32:
    """Compared where the accumulators fit float32 only: beyond, nothing that is deployed uses float32."""

    name = "torch_float32"

    def count(self, events: Events) -> int:
        return 0 if events.double else len(events.features)

    def run(self, events: Events) -> NDArray[np.float64]:
        return torch_outputs(events.network, events.features, double=False)

    def wires(self, events: Events, event: NDArray[np.float32]) -> list[Wire]:
        return torch_wires(events.network, event, double=False)


TORCH_FLOAT32 = TorchFloat32()
