"""Runs inside a process of its own: loads a compiled hls4ml library and calls hls4ml's predict on all events.

python -m trigger_prune.verify._csim_worker PROJECT LIBRARY INPUTS.npz OUTPUTS.npy
"""

from __future__ import annotations

import ctypes
import sys

import hls4ml
import numpy as np


def main(project: str, library: str, inputs: str, outputs: str) -> None:
    """Save the outputs of all rows of ``inputs`` (one array for each input of the project), in hls4ml's shape."""
    model = hls4ml.converters.link_existing_project(project)
    model._top_function_lib = ctypes.cdll.LoadLibrary(library)
    with np.load(inputs) as stored:
        ports = [np.ascontiguousarray(stored[name]) for name in stored.files]
    np.save(outputs, model.predict(ports if len(ports) > 1 else ports[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
