"""Child process of ``cost.py``: nothing else runs in the process whose calls are timed.

    python -m trigger_prune.synthesis.runtime._worker FOLDER

Reads ``settings.json``, ``model.onnx`` and ``nothing.onnx`` in FOLDER; writes ``outputs.npy`` (of the first events) and
``result.json``, which holds either the times or ``{"error": message, "hint": what to do}``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import CostError, TriggerPruneError
from trigger_prune.synthesis.runtime.processors import available_cpus, choose_cpus, cpu_name, gpu_name, pin
from trigger_prune.synthesis.runtime.timing import Plan, time_calls

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
NOTHING = "nothing"


def main(folder: Path) -> None:
    """Measure, and write the result."""
    settings = json.loads((folder / "settings.json").read_text())
    try:
        result = _measure(folder, settings)
    except TriggerPruneError as error:
        result = {"error": error.message, "hint": error.hint}
    scratch = folder / "result.json.new"
    scratch.write_text(json.dumps(result))
    scratch.replace(folder / "result.json")


def _measure(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cpus = choose_cpus(settings["threads"], available_cpus())
    pinned = pin(cpus)
    import onnxruntime

    events = np.load(folder / "events.npy")
    session = _session(folder / "model.onnx", settings)
    np.save(folder / "outputs.npy", session.run(None, {session.get_inputs()[0].name: events})[0])
    rng = np.random.default_rng(0)
    calls: dict[str, Callable[[], object]] = {}
    for batch in settings["batch_sizes"]:
        features = events[rng.integers(0, len(events), batch)]
        calls[str(batch)] = _call(session, features, settings["provider"])
    calls[NOTHING] = _call(_session(folder / "nothing.onnx", settings), events[:1, :1], settings["provider"])
    times = time_calls(calls, Plan(**settings["plan"]))
    return {
        "device": gpu_name() if settings["provider"] == "cuda" else cpu_name(),
        "provider": session.get_providers()[0],
        "version": onnxruntime.__version__,
        "pinned": pinned,
        "load_average": load,
        "times": {name: dataclasses.asdict(each) for name, each in times.items()},
    }


def _session(model: Path, settings: dict[str, Any]) -> Any:
    import onnxruntime

    provider = PROVIDERS[settings["provider"]]
    if provider not in onnxruntime.get_available_providers():
        raise CostError(
            f"this ONNX Runtime has no {provider}",
            hint="pip install onnxruntime-gpu in place of onnxruntime, or set cost.provider: cpu",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
    if session.get_providers()[0] != provider:
        # ONNX Runtime says so on its log only and goes on with the CPU.
        raise CostError(
            f"{provider} could not be started; ONNX Runtime would have used {session.get_providers()[0]}",
            hint="check the CUDA and cuDNN libraries, or set cost.provider: cpu",
        )
    return session


def _call(session: Any, features: NDArray[Any], provider: str) -> Callable[[], object]:
    """One inference on memory that is bound before: what is timed is the model, and on CUDA both copies."""
    import onnxruntime

    features = np.ascontiguousarray(features)
    binding = session.io_binding()
    source = onnxruntime.OrtValue.ortvalue_from_numpy(features)
    output = np.zeros((len(features), *session.get_outputs()[0].shape[1:]), features.dtype)
    sink = onnxruntime.OrtValue.ortvalue_from_numpy(output)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, source)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, sink)
    run = session.run_with_iobinding
    if provider == "cpu":
        return lambda: run(binding)

    def on_device() -> None:
        binding.synchronize_inputs()
        run(binding)
        binding.synchronize_outputs()

    return on_device


if __name__ == "__main__":
    main(Path(sys.argv[1]))
