"""The process that imports TensorFlow: ``python -m trigger_prune.qkeras.worker REQUEST.json REPLY.json``.

The request is a list of steps that share one model, because the import of TensorFlow takes longer than most of them;
the reply holds what came out, or a typed error of the package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trigger_prune.errors import TriggerPruneError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.qkeras.arithmetic import FLOAT32_BITS, float_bits
from trigger_prune.qkeras.description import KerasDescription, completed, load_description, save_description
from trigger_prune.qkeras.keras_environment import double_precision, prepare

MISSING = "missing"


@dataclass
class _State:
    """The Keras model at hand, its description, and what the reply will hold."""

    model: Any = None
    description: KerasDescription | None = None

    def known(self) -> KerasDescription:
        assert self.description is not None
        return self.description


def _build(state: _State, description: str) -> dict[str, Any]:
    """A model from a stored description."""
    from trigger_prune.qkeras.keras_build import build_model

    state.description = load_description(Path(description))
    state.model = build_model(state.description)
    return {}


def _load(state: _State, model: str, input_type: str | None, fold_batch_norm: bool) -> dict[str, Any]:
    """A saved model, and its description from the model itself."""
    from trigger_prune.qkeras.keras_read import load_model, read_model

    state.model = load_model(Path(model))
    found = completed(read_model(state.model, fold_batch_norm=fold_batch_norm), Path(model))
    state.description = found if input_type is None else replace(found, input_type=FixedPoint.parse(input_type))
    return {}


def _save(state: _State, model: str | None, description: str | None) -> dict[str, Any]:
    from trigger_prune.qkeras.keras_read import save_model

    if model is not None:
        save_model(state.model, Path(model))
    if description is not None:
        save_description(state.known(), Path(description))
    return {}


def _predict(state: _State, features: str, outputs: str) -> dict[str, Any]:
    """In float64 where the sums do not fit float32, or where it is not known."""
    from trigger_prune.qkeras.keras_build import predict
    from trigger_prune.qkeras.keras_read import in_double

    events = np.load(features)
    bits = float_bits(state.known())
    if bits is None or bits > FLOAT32_BITS:
        with double_precision():
            found = predict(in_double(state.model), events.astype(np.float64))
    else:
        found = predict(state.model, events.astype(np.float32))
    np.save(outputs, found)
    return {"bits": bits}


def _finetune(state: _State, events: str, setting: dict[str, Any]) -> dict[str, Any]:
    from trigger_prune.qkeras.keras_train import TrainSetting, finetune

    with np.load(events) as stored:
        state.description, history = finetune(state.model, state.known(), dict(stored), TrainSetting(**setting))
    return {"history": history}


def _project(state: _State, folder: str, collect: bool = False, **request: Any) -> dict[str, Any]:
    """``collect``: a failure is said in the reply, under the name of the folder, and the next step goes on."""
    from trigger_prune.qkeras.keras_hls import write_project

    try:
        write_project(state.model, state.known(), {"folder": folder, **request})
    except TriggerPruneError as error:
        if not collect:
            raise
        return {folder: str(error)}
    return {}


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "build": _build,
    "load": _load,
    "save": _save,
    "predict": _predict,
    "finetune": _finetune,
    "project": _project,
}


def main(request_file: str, reply_file: str) -> None:
    """Do what the request asks and write the reply."""
    reply: dict[str, Any] = {}
    try:
        prepare()
        state = _State()
        for step in json.loads(Path(request_file).read_text()):
            reply |= STEPS[step.pop("step")](state, **step)
    except ImportError as error:
        reply = {"error": MISSING, "message": f"{error}", "hint": None}
    except TriggerPruneError as error:
        reply = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    Path(reply_file).write_text(json.dumps(reply))


if __name__ == "__main__":
    main(*sys.argv[1:])
