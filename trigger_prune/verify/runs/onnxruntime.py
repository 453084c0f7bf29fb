"""The lowered ONNX file, executed by ONNX runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from trigger_prune.verify.onnx_runs import onnxruntime_wires, run_onnxruntime
from trigger_prune.verify.runs._base import Events
from trigger_prune.verify.wires import Wire


@dataclass(frozen=True)
class OnnxRuntime:
    """Its float type is that of the file."""

    name = "onnxruntime"

    def count(self, events: Events) -> int:
        return len(events.features)

    def run(self, events: Events) -> NDArray[np.float64]:
        return run_onnxruntime(onnx.load(str(events.exported.lowered_model)), events.features)

    def wires(self, events: Events, event: NDArray[np.float32]) -> list[Wire]:
        return onnxruntime_wires(onnx.load(str(events.exported.lowered_model)), event)


ONNXRUNTIME = OnnxRuntime()
