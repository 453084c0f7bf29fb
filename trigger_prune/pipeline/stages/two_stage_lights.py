"""Stage ``lights`` of ``trigger-prune two-stage``: the light models, trained and stored as QONNX."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from trigger_prune.config.load import LoadedProject
from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.pipeline.stages.training import MODEL_KEYS, TRAIN_KEYS, epoch_bar, fit_settings, model_files
from trigger_prune.pipeline.stages.two_stage_setup import (
    NETWORK_FILE,
    TRANSFORM_FILE,
    Rows,
    check_signal,
    check_two_stage,
    full_model,
    target_rate,
    two_stage_files,
)
from trigger_prune.quantize.convert import input_type_of
from trigger_prune.two_stage.models.light_inputs import LightInputs
from trigger_prune.two_stage.models.light_model import LightModel
from trigger_prune.two_stage.models.make import make_light_models

FOLDER, MODELS = "two_stage", "models"
"""Below the output folder, and below that."""

_META = "light.json"


def _compute(context: StageContext) -> Any:
    config, events = context.config, context.result("load")
    check_signal(config, events.train)
    goal = goal_of(context)
    assert goal.score is not None
    full = full_model(context, goal.score)
    background = Rows.of(events.validation, goal, one_by_one=False)
    total = float(background.weights[background.signal < 0].sum())
    with epoch_bar(context, None, "light models") as advance:
        inputs = LightInputs(
            train=make_batches(events, "train", goal),
            validation=make_batches(events, "validation", goal),
            settings=fit_settings(context, events, goal, "light", 1, config.train.learning_rate),
            signal_classes=goal.signal_classes,
            background_fraction=target_rate(config, events) / total,
            input_type=events.transform.fixed,
            feature_names=events.train.feature_names,
            rounding=config.quantize.rounding,
            on_epoch=advance,
            note=context.progress.note,
        )
        lights = make_light_models(config.two_stage.lights, full, inputs)
    return lights, events.transform


def _save(result: Any, folder: Path) -> None:
    lights, transform = result
    for number, light in enumerate(lights):
        into = folder / MODELS / f"{number}_{re.sub(r'[^A-Za-z0-9.-]+', '_', light.name)}"
        into.mkdir(parents=True)
        onnx.save(to_qonnx(light.network), str(into / NETWORK_FILE))
        (into / TRANSFORM_FILE).write_text(json.dumps(transform.select(light.kept_inputs).to_dict(), indent=2))
        meta = {
            "name": light.name,
            "kind": light.kind,
            "difficulty": light.difficulty,
            "kept_inputs": list(light.kept_inputs),
            "input_type": str(input_type_of(light.network)),
            "score": light.score.to_dict(),
            "notes": list(light.notes),
        }
        (into / _META).write_text(json.dumps(meta, indent=2))


def _load(folder: Path) -> tuple[LightModel, ...]:
    return read_lights(sorted((folder / MODELS).iterdir(), key=lambda path: int(path.name.partition("_")[0])))


def read_lights(folders: Sequence[Path]) -> tuple[LightModel, ...]:
    """Light models from their folders; the networks have the bits that were trained."""
    found = []
    for folder in folders:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        meta["score"] = Score.from_dict(meta["score"])
        for name in ("kept_inputs", "notes"):
            meta[name] = tuple(meta[name])
        fixed = FixedPoint.parse(meta.pop("input_type"))
        found.append(LightModel(network=read_qonnx(folder / NETWORK_FILE, input_type=fixed).network, **meta))
    return tuple(found)


def _files(project: LoadedProject) -> list[Path]:
    check_two_stage(project.config, project.project_dir)
    return [*model_files(project), *two_stage_files(project)]


LIGHTS: Stage[Any] = Stage(
    name="lights",
    title="light models of a two-stage trigger",
    inputs=("load", "teacher", "train", "baseline", "prune"),
    config_keys=(
        *MODEL_KEYS,
        *TRAIN_KEYS,
        "train.learning_rate",
        "quantize.rounding",
        "two_stage.lights",
        "two_stage.full",
    ),
    compute=_compute,
    save=_save,
    load=_load,
    publish=lambda folder, out: [copy_atomically(folder / MODELS, out / FOLDER / MODELS)],
    files=_files,
    tools=("torch", "onnx", "qonnx"),
)
