"""Runs in HGQ2's own environment (hgq2, keras 3, alkaid 0.8.2): a saved model becomes an adder graph.

    python -I _hgq2_worker.py REQUEST.json

REQUEST.json: ``model`` (.keras file), ``inputs`` (.npy, events on the input grid), ``kif`` (sign, integer, fraction
bits of an input), ``hard_dc``, ``out`` (folder). Written there: ``comb.json.gz`` (alkaid), ``golden.npz`` (the model's
outputs) and, last of all, ``result.json``; with the key ``refused`` it says why there is nothing else.

Imports nothing of trigger_prune.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("hgq2", "keras", "alkaid", "numpy")


class RefusedError(Exception):
    """The model cannot be entered: (reason, remedy)."""


def main(arguments: list[str]) -> None:
    request = json.loads(Path(arguments[0]).read_text())
    out = Path(request["out"])
    try:
        result = enter(request, out)
    except RefusedError as refused:
        result = {"refused": list(refused.args)}
    temporary = out / "result.tmp"
    temporary.write_text(json.dumps(result))
    temporary.rename(out / "result.json")


def enter(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """Load, predict, trace and compare."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            raise RefusedError(
                f"the environment {sys.prefix} has no package {package}", "pip install hgq2 alkaid==0.8.2 jax keras"
            ) from None
    if "KERAS_BACKEND" not in os.environ:
        os.environ["KERAS_BACKEND"] = "jax"
    import numpy as np

    model = load(Path(request["model"]))
    shape = tuple(model.input_shape[1:])
    x = np.load(request["inputs"])
    if tuple(x.shape[1:]) != shape:
        raise RefusedError(
            f"the model takes events of shape {shape}, the events have {tuple(x.shape[1:])}", "check --events"
        )
    expected = np.asarray(model.predict(x.astype(np.float32), batch_size=4096, verbose=0), np.float64)
    comb = trace(model, shape, request["kif"], request["hard_dc"])
    got = np.asarray(comb.predict(x.astype(np.float64).reshape(len(x), -1), n_threads=1)).reshape(len(x), -1)
    flat = expected.reshape(len(x), -1)
    comb.save(out / "comb.json.gz")
    np.savez_compressed(out / "golden.npz", outputs=flat)
    return {
        "model_name": str(model.name),
        "input_shape": list(shape),
        "output_shape": list(expected.shape[1:]),
        "events": len(x),
        "differ": int((got != flat).any(axis=1).sum()),
        "versions": versions,
        "backend": os.environ["KERAS_BACKEND"],
        "layers": [type(layer).__name__ for layer in model.layers],
    }


def load(path: Path) -> Any:
    """The Keras model of a file."""
    import hgq.layers  # noqa: F401 (registers the layers that the file names)
    import keras

    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = next((line for line in lines if line.startswith("Exception encountered")), lines[0])[:300]
        raise RefusedError(
            f"{path.name} cannot be loaded: {reason}", "save it with model.save('NAME.keras')"
        ) from error
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise RefusedError(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs", "one of each is supported"
        )
    if any(size is None for size in model.input_shape[1:]):
        raise RefusedError(f"the model's input shape {model.input_shape[1:]} is not fixed", "give keras.Input a shape")
    if not any(type(layer).__module__.split(".")[0] == "hgq" for layer in model.layers):
        raise RefusedError(
            "the model has no layer of HGQ2: its weights are floats",
            "write it as ONNX (model.export('NAME.onnx', format='onnx')) and enter that file as floats (--kind onnx)",
        )
    return model


def trace(model: Any, shape: tuple[int, ...], kif: list[int], hard_dc: int) -> Any:
    """alkaid's adder graph.

    ``canonicalize_msb_wraps`` of alkaid 0.8.2 reads the wrong bit behind a one-bit activation: it is replaced by the
    identity, which changes no cost. Inputs that are constants or a lone sign bit are multiplied directly, because
    alkaid's sharing algorithm stops or errs on them.
    """
    import alkaid.trace as tracing
    import numpy as np
    from alkaid.converter import trace_model
    from alkaid.trace.passes import canon

    if "canonicalize_msb_wraps" not in canon.canonicalize.__code__.co_names:
        raise RefusedError(
            f"alkaid {version('alkaid')} has no pass canonicalize_msb_wraps to switch off", "pip install alkaid==0.8.2"
        )
    canon.canonicalize_msb_wraps = lambda comb: comb

    def direct(weights: Any, inputs: Any) -> Any:
        plain = [v.low == v.high or (v.low < 0 and sum(v.kif) == 1) for v in np.asarray(inputs).ravel()]
        return np.broadcast_to(np.array(plain)[:, None], weights.shape) & (weights != 0)

    hardware = tracing.HWConfig(1, -1, -1)
    options = {"hard_dc": hard_dc, "offload_fn": direct}
    bits = [np.full(shape, value, dtype=np.int8) for value in kif]
    inputs = tracing.FVArray.from_kif(*bits, hardware, 0, options)
    try:
        first, last = trace_model(model, hardware, options, inputs=(inputs,), framework="keras")
    except (AssertionError, NotImplementedError, ValueError, TypeError, KeyError) as error:
        raise RefusedError(
            f"alkaid cannot express the model: {type(error).__name__}: {error}", "use layers that alkaid supports"
        ) from error
    return tracing.trace(first, last)


if __name__ == "__main__":
    main(sys.argv[1:])
