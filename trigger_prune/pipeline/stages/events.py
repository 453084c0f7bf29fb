"""Stage ``load``: events, split and input transform."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trigger_prune.config.load import LoadedProject
from trigger_prune.data.load import load_sample, source_files
from trigger_prune.data.sample import EventSample
from trigger_prune.data.split import split_sample
from trigger_prune.data.transform import InputTransform, fit_input_transform
from trigger_prune.pipeline.stage import Stage, StageContext

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Events:
    """The three parts, their features already on the hardware's input grid, and the transform that put them there."""

    train: EventSample
    validation: EventSample
    test: EventSample
    transform: InputTransform
    saturated_fraction: tuple[float, ...]

    @property
    def parts(self) -> dict[str, EventSample]:
        """Parts by name."""
        return {name: getattr(self, name) for name in _PARTS}

    @property
    def n_outputs(self) -> int:
        """Outputs of a classifier for these events."""
        return self.train.n_classes


def _compute(context: StageContext) -> Events:
    config = context.config
    sample = load_sample(config.data, context.project_dir, config.luminosity)
    split = split_sample(sample, config.split)
    transform = fit_input_transform(_trained(split.train, config.train.classes), config.input)
    saturated = transform.saturated_fraction(split.train.features)
    worst = int(np.argmax(saturated))
    if saturated[worst] > _MANY_SATURATED:
        context.progress.warn(
            f"{saturated[worst]:.1%} of the values of {sample.feature_names[worst]!r} saturate the input type "
            f"{transform.fixed}; raise input.integer_bits"
        )
    parts = {
        name: replace(getattr(split, name), features=transform.apply(getattr(split, name).features)) for name in _PARTS
    }
    context.progress.note(
        f"{sample.n_events} events, {sample.n_features} features, {sample.n_classes} classes from {sample.source}"
    )
    return Events(**parts, transform=transform, saturated_fraction=tuple(float(f) for f in saturated))


def _trained(train: EventSample, classes: list[str] | None) -> EventSample:
    """The events with no weight but that of ``classes``: a scale that a signal has set is knowledge of that signal."""
    if classes is None:
        return train
    wanted = np.isin(train.labels, [train.class_names.index(name) for name in classes if name in train.class_names])
    return replace(train, weights=np.where(wanted, train.weights, 0.0))


_MANY_SATURATED = 0.02
"""Saturated fraction of one feature above which the user is told."""


def _save(events: Events, folder: Path) -> None:
    arrays: dict[str, Any] = {}
    for name, part in events.parts.items():
        codes = events.transform.fixed.to_code(part.features)
        arrays[f"{name}_codes"] = codes.astype(np.int16 if events.transform.fixed.width <= 16 else np.int32)
        for column in ("labels", "weights", "groups"):
            arrays[f"{name}_{column}"] = getattr(part, column)
        if part.strata is not None:
            arrays[f"{name}_strata"] = part.strata
        for observable, values in part.observables.items():
            arrays[f"{name}_observable_{observable}"] = values
    np.savez(folder / "events.npz", **arrays)
    meta = {
        "transform": events.transform.to_dict(),
        "saturated_fraction": events.saturated_fraction,
        "class_names": events.train.class_names,
        "source": events.train.source,
        "rate_weights": events.train.rate_weights,
        "observables": list(events.train.observables),
    }
    (folder / "events.json").write_text(json.dumps(meta, indent=2))


def _load(folder: Path) -> Events:
    meta = json.loads((folder / "events.json").read_text())
    transform = InputTransform.from_dict(meta["transform"])
    with np.load(folder / "events.npz") as arrays:
        parts = {
            name: EventSample(
                features=(arrays[f"{name}_codes"] * transform.fixed.lsb).astype(np.float32),
                labels=arrays[f"{name}_labels"],
                weights=arrays[f"{name}_weights"],
                groups=arrays[f"{name}_groups"],
                feature_names=transform.feature_names,
                class_names=tuple(meta["class_names"]),
                source=meta["source"],
                observables={key: arrays[f"{name}_observable_{key}"] for key in meta["observables"]},
                strata=arrays.get(f"{name}_strata"),
                rate_weights=meta["rate_weights"],
                feature_lsb=transform.lsb,
                feature_units=transform.units,
            )
            for name in _PARTS
        }
    return Events(**parts, transform=transform, saturated_fraction=tuple(meta["saturated_fraction"]))


def _files(project: LoadedProject) -> list[Path]:
    return source_files(project.config.data, project.project_dir, project.config.luminosity)


LOAD: Stage[Events] = Stage(
    name="load",
    title="read events, split, put inputs on the hardware grid",
    config_keys=("data", "split", "input", "luminosity", "train.classes"),
    compute=_compute,
    save=_save,
    load=_load,
    files=_files,
    tools=("numpy",),
    version=2,
)
