"""Runs inside a process of its own: loads a compiled hls4ml library and calls it.

    python -m trigger_prune.verify._csim_worker predict PROJECT INPUTS.npy OUTPUTS.npy
    python -m trigger_prune.verify._csim_worker trace   PROJECT INPUT.npy  OUTPUTS.npz
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

import numpy as np

_TAP = re.compile(r'save_layer_output<[^;]*>\(\w+, "(\w+)", ([\d*]+)\);')
_DOUBLE_BYTES = 8


class _TraceData(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.c_void_p))


def predict(project: Path, inputs: Path, outputs: Path) -> None:
    """hls4ml's own predict on all rows of ``inputs``."""
    import hls4ml

    model = hls4ml.converters.link_existing_project(str(project))
    model._top_function_lib = ctypes.cdll.LoadLibrary(str(_library(project)))
    np.save(outputs, model.predict(np.ascontiguousarray(np.load(inputs))))


def trace(project: Path, inputs: Path, outputs: Path) -> None:
    """One event through the tapped library; every tapped layer is saved by name."""
    library = ctypes.cdll.LoadLibrary(str(_library(project)))
    source = next((project / "firmware").glob("*.cpp"))
    taps = {name: int(np.prod([int(n) for n in size.split("*")])) for name, size in _TAP.findall(source.read_text())}
    library.allocate_trace_storage(ctypes.c_size_t(_DOUBLE_BYTES))
    event = np.ascontiguousarray(np.load(inputs), dtype=np.float64).ravel()
    result = np.zeros(1 << 16)
    pointer = ctypes.POINTER(ctypes.c_double)
    getattr(library, f"{source.stem}_double")(event.ctypes.data_as(pointer), result.ctypes.data_as(pointer))
    found = (_TraceData * len(taps))()
    library.collect_trace_output(found)
    values = {}
    for entry in found:
        name = entry.name.decode()
        values[name] = np.ctypeslib.as_array(ctypes.cast(entry.data, pointer), (taps[name],)).copy()
    library.free_trace_storage()
    np.savez(outputs, **values)


def _library(project: Path) -> Path:
    return next((project / "firmware").glob("*.so"))


if __name__ == "__main__":
    {"predict": predict, "trace": trace}[sys.argv[1]](*(Path(argument) for argument in sys.argv[2:]))
