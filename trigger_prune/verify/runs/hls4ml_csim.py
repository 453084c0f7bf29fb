"""The hls4ml project, compiled and executed by hls4ml's predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import VerificationError
from trigger_prune.export.hls4ml_project import channels_last, port_inputs
from trigger_prune.verify.csim import compile_csim, csim_wires, run_csim
from trigger_prune.verify.runs._base import Events
from trigger_prune.verify.wires import Wire


@dataclass(frozen=True)
class Hls4mlCsim:
    """The C simulation, compiled with g++."""

    name = "hls4ml_csim"

    def count(self, events: Events) -> int:
        return 0 if events.exported.hls4ml_project is None else len(events.features)

    def run(self, events: Events) -> NDArray[np.float64]:
        dtype = np.float64 if events.double else np.float32
        inputs = port_inputs(events.network, events.features.astype(dtype))
        return run_csim(compile_csim(_project(events), events.work), inputs, events.work)

    def wires(self, events: Events, event: NDArray[np.float32]) -> list[Wire]:
        last = channels_last(events.network)
        inputs = port_inputs(events.network, event)
        return csim_wires(_project(events), inputs, events.work, channels_last=last)


def _project(events: Events) -> Path:
    if events.exported.hls4ml_project is None:
        raise VerificationError("there is no hls4ml project to compile")
    return events.exported.hls4ml_project


HLS4ML_CSIM = Hls4mlCsim()
