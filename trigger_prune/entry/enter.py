"""One way in for every format: a file and events become a model and the events on its grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.entry.entered import EnteredNetwork
from trigger_prune.entry.events import read_features, read_transform
from trigger_prune.entry.float_onnx import PostTrainingBits, compare_float, quantised_float_onnx
from trigger_prune.entry.foreign import ForeignDesign
from trigger_prune.entry.hgq2_model import read_hgq2
from trigger_prune.entry.onnx_constants import is_qonnx, load_model
from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.fixed_point import FixedPoint

FileKind = Literal["auto", "qonnx", "onnx", "keras"]
DESIGN_FOLDER = "design"


@dataclass(frozen=True)
class Options:
    """How a file is read; see the readers for the meaning of each."""

    kind: str = "auto"
    input_type: FixedPoint | None = None
    transform: Path | None = None
    output: str | None = None
    nearest_power_of_two: bool = False
    weight_bits: int = 8
    activation_bits: int = 8
    python: Path | None = None
    max_events: int | None = None


@dataclass(frozen=True, eq=False)
class EnteredFile:
    """The model, the events on the grid of its input type, and remarks for the user."""

    model: EnteredNetwork | ForeignDesign
    features: NDArray[np.float32]
    remarks: tuple[str, ...]


def kind_of(file: Path) -> str:
    """``keras``, ``qonnx`` or ``onnx``. Raises ConfigError for another suffix, ModelError for an unreadable file."""
    suffix = file.suffix.lower()
    if suffix == ".keras":
        return "keras"
    if suffix != ".onnx":
        raise ConfigError(f"{file} has the unknown suffix {suffix!r}", hint=".onnx or .keras, or say --kind")
    return "qonnx" if is_qonnx(load_model(file)) else "onnx"


def enter_file(file: Path, events: str, folder: Path, options: Options | None = None) -> EnteredFile:
    """Read a model with its events; a Keras model's design goes into ``folder/design``.

    Raises what the readers raise; ConfigError for options that contradict each other.
    """
    options = options or Options()
    kind = kind_of(file) if options.kind == "auto" else options.kind
    features = read_features(events, options.max_events)
    input_type = options.input_type
    if options.transform is not None:
        transform = read_transform(options.transform)
        if input_type is not None and input_type != transform.fixed:
            raise ConfigError(f"the input type {input_type} contradicts {options.transform}", hint="give one of them")
        features, input_type = transform.apply(features), transform.fixed
    model: EnteredNetwork | ForeignDesign
    remarks: tuple[str, ...] = ()
    if kind == "keras":
        if input_type is None:
            raise ConfigError("the input type of a Keras model is not known", hint="say it with --input-type")
        model = read_hgq2(file, features, input_type, folder / DESIGN_FOLDER, python=options.python)
        remarks = (f"{model.events} golden events agree with Keras", f"made by {model.made_by}")
    elif kind == "qonnx":
        model = read_qonnx(
            file,
            input_type=input_type,
            output=options.output,
            nearest_power_of_two=options.nearest_power_of_two,
        )
        remarks = model.notes
    else:
        bits = PostTrainingBits(options.weight_bits, options.activation_bits)
        model, float_model = quantised_float_onnx(file, features, bits, input_type=input_type, output=options.output)
        remarks = (
            *model.notes,
            compare_float(file, float_model, model.network, features, model.input_type, options.output),
        )
    _check_shape(model, features)
    on_grid = model.input_type.quantize(features)
    moved = int((on_grid != features).reshape(len(features), -1).any(axis=1).sum())
    if moved:
        remarks = (*remarks, f"{moved} of {len(features)} events were rounded to the input type {model.input_type}")
    return EnteredFile(model, on_grid.astype(np.float32), remarks)


def _check_shape(model: Any, features: NDArray[np.float32]) -> None:
    if tuple(features.shape[1:]) != model.input_shape:
        raise ModelError(
            f"the events have shape {tuple(features.shape[1:])}, {model.name} takes {model.input_shape}",
            hint="give events as the network receives them",
        )


__all__ = ["EnteredFile", "Options", "enter_file", "kind_of"]
