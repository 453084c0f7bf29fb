"""The QONNX file, executed by qonnx."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from trigger_prune.verify.onnx_runs import qonnx_wires, run_qonnx
from trigger_prune.verify.runs._base import Events
from trigger_prune.verify.wires import Wire


@dataclass(frozen=True)
class Qonnx:
    """Sees the first ``qonnx_events`` only."""

    name = "qonnx"

    def count(self, events: Events) -> int:
        return events.qonnx_events

    def run(self, events: Events) -> NDArray[np.float64]:
        model = onnx.load(str(events.exported.qonnx_model))
        return run_qonnx(model, events.features[: events.qonnx_events], double=events.double)

    def wires(self, events: Events, event: NDArray[np.float32]) -> list[Wire]:
        return qonnx_wires(onnx.load(str(events.exported.qonnx_model)), event, double=events.double)


QONNX = Qonnx()
