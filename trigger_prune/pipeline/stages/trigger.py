"""Stage ``trigger``: rates and efficiencies of every network and of a cut-based menu; nothing without a signal."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.filling import filling_from
from trigger_prune.physics.luminosity import LuminosityScenario
from trigger_prune.physics.scores import Score
from trigger_prune.physics.trigger_study import (
    StudySettings,
    TriggerStudy,
    default_turn_on,
    has_menu_observables,
    in_words,
    study_trigger,
)
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.deployment import deployed_network
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, Goal, goal_of
from trigger_prune.pipeline.stages.training import MODEL_KEYS, model_files, trained_float_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.output_step import output_fraction_bits
from trigger_prune.quantize.weights_only import is_weights_only, output_count
from trigger_prune.report.files import write_text
from trigger_prune.report.trigger import working_point_figures
from trigger_prune.train.evaluate import predict
from trigger_prune.verify.representations import torch_outputs

_PUBLISHED, _STUDY = "trigger.json", "study.json"

_FALSE_POSITIVE_RATES = (1e-4, 1e-3, 1e-2)
"""Background efficiencies quoted where weights are no rates."""

_Parts = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Trigger:
    """All None where no class is signal. ``luminosity`` describes the collisions that the rates are for, if known."""

    study: TriggerStudy | None = None
    firmware: FirmwareScore | None = None
    luminosity: str | None = None


def _compute(context: StageContext) -> Trigger:
    events, goal = context.result("load"), goal_of(context)
    if goal.score is None:
        context.progress.note("no class is signal, so there is no trigger score")
        return Trigger()
    settings = _settings(context, events, goal)
    scores = _all_scores(context, events, goal.score)
    study = study_trigger(scores, events.validation, events.test, settings)
    network = deployed_network(context)
    is_float = is_weights_only(network)
    n_outputs = output_count(network) if is_float else describe_network(network).n_outputs
    names = events.train.class_names if goal.task == "classify" else tuple(map(str, range(n_outputs)))
    firmware = FirmwareScore(
        goal.score,
        goal.score.describe(names),
        None if is_float else 2.0 ** -output_fraction_bits(network),
        events.transform.fixed.lsb,
    )
    for line in _notes(study):
        context.progress.note(line)
    return Trigger(study, firmware, _luminosity(context, events.train))


def _settings(context: StageContext, events: Events, goal: Goal) -> StudySettings:
    physics, sample = context.config.physics, events.train
    if sample.rate_weights:
        targets, main = (*physics.rates_khz, physics.rate_khz), physics.rate_khz
    else:
        targets, main = (*_FALSE_POSITIVE_RATES, physics.false_positive_rate), physics.false_positive_rate
    return StudySettings(
        signal_classes=goal.signal_classes,
        targets_khz=tuple(sorted(set(targets))),
        main_khz=main,
        turn_on=_turn_on(physics.turn_on, sample, goal.signal_classes),
        turn_on_networks=("float", "deployed"),
        menu=physics.menu and has_menu_observables(sample),
        pairs=(("float", "deployed"), ("dense", "deployed")),
    )


def _turn_on(wanted: list[str] | None, sample: EventSample, signal: tuple[int, ...]) -> tuple[str, ...]:
    if wanted is None:
        return default_turn_on(sample, signal)
    for name in wanted:
        if name not in sample.observables:
            close = difflib.get_close_matches(name, sample.observables, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(sample.observables) or "none (see data.observables)"
            raise ConfigError(
                f"physics.turn_on: the events have no observable {name!r}{meant}", hint=f"there are {known}"
            )
    return tuple(wanted)


def _all_scores(context: StageContext, events: Events, score: Score) -> dict[str, _Parts]:
    """Scores of validation and test events, by network."""
    model = trained_float_model(context, events)
    dense = context.result("baseline").network(model)
    deployed, kept = deployed_network(context), context.result("prune").kept_inputs
    found: dict[str, _Parts] = {}
    teacher = context.result("teacher").scores
    if teacher is not None:
        found["teacher"] = teacher["validation"], teacher["test"]
    for name, network, inputs in (("float", model, None), ("dense", dense, None), ("deployed", deployed, kept)):
        before, after = (network_scores(network, part, score, inputs) for part in (events.validation, events.test))
        found[name] = before, after
    return found


def network_scores(
    network: nn.Module, sample: EventSample, score: Score, kept: tuple[int, ...] | None
) -> NDArray[np.float64]:
    """Scores ``(events,)`` of a network that reads the features ``kept`` (None: all).

    A quantised network runs in float64, which is exact for every network that can be verified: its scores are the
    firmware's. A reconstruction is compared with every feature, also with those that the network does not read.
    """
    features = sample.features if kept is None else np.ascontiguousarray(sample.features[:, list(kept)])
    if isinstance(network, fx.GraphModule):
        outputs = torch_outputs(network, features, double=True)
    else:
        outputs = predict(network, torch.from_numpy(features))
    return score.of(outputs, sample.features if score.kind == "reconstruction" else None)


def _luminosity(context: StageContext, sample: EventSample) -> str | None:
    config = context.config
    if not sample.rate_weights:
        return None
    scenario = LuminosityScenario(
        config.luminosity.pileup, filling_from(config.luminosity.filling, context.project_dir)
    )
    if has_menu_observables(sample):
        return scenario.label
    # weights of an event file: only the number of crossings enters, or nothing of the scenario
    return None if config.data.weight_unit == "hz" else scenario.label.partition(", ")[2]


def _notes(study: TriggerStudy) -> list[str]:
    """One line per target rate of the deployed network, with its warnings."""
    signal, lines = study.signal_names[-1], []
    for point in study.networks["deployed"].points:
        efficiency = point.efficiency[signal]
        rate = in_words(f"{point.target_khz:.3g} kHz", study.rate_weights)
        lines.append(f"deployed at {rate}: {signal} {efficiency.value:.4f} +- {efficiency.error:.4f}")
        lines += [f"  warning: {in_words(text, study.rate_weights)}" for text in point.warnings]
    return lines


def _save(result: Trigger, folder: Path) -> None:
    if result.study is None or result.firmware is None:
        (folder / _STUDY).write_text("null")
        return
    stored = {
        "study": result.study.to_dict(),
        "firmware": result.firmware.to_dict(),
        "luminosity": result.luminosity,
    }
    (folder / _STUDY).write_text(json.dumps(stored))
    write_text(
        json.dumps(for_firmware(result.study, result.firmware, result.luminosity), indent=2), folder / _PUBLISHED
    )


def for_firmware(study: TriggerStudy, firmware: FirmwareScore, luminosity: str | None) -> dict[str, Any]:
    """Content of ``trigger.json``: the score of the deployed network, its grid, and a threshold per target rate.

    ``threshold_integer`` compares with the score in units of ``score_step``, ``threshold`` with the score itself; both
    accept the same events. Both are null where nothing passes; the integer also for a network with float outputs, whose
    ``output_lsb`` is null.
    """
    points = study.networks["deployed"].points
    return {
        "network": "deployed",
        "decision": "accept where score >= threshold"
        + (", that is score / score_step >= threshold_integer" if firmware.step is not None else ""),
        "score": {**firmware.score.to_dict(), "formula": firmware.formula},
        "output_lsb": firmware.output_lsb,
        "input_lsb": firmware.input_lsb,
        "score_step": firmware.step,
        "luminosity": luminosity,
        "working_points": [
            working_point_figures(point, study) | {"threshold_integer": firmware.integer(point.threshold)}
            for point in points
        ],
    }


def _load(folder: Path) -> Trigger:
    raw = json.loads((folder / _STUDY).read_text())
    if raw is None:
        return Trigger()
    return Trigger(TriggerStudy.from_dict(raw["study"]), FirmwareScore.from_dict(raw["firmware"]), raw["luminosity"])


def _publish(folder: Path, out: Path) -> list[Path]:
    if (folder / _PUBLISHED).is_file():
        return [copy_atomically(folder / _PUBLISHED, out / _PUBLISHED)]
    # left by an earlier run of the same project with another task, it would belong to another network
    (out / _PUBLISHED).unlink(missing_ok=True)
    return []


TRIGGER: Stage[Trigger] = Stage(
    name="trigger",
    title="rates and efficiencies at trigger thresholds",
    inputs=("load", "teacher", "train", "baseline", "prune"),
    config_keys=(*MODEL_KEYS, *GOAL_KEYS, "physics", "luminosity", "data.weight_unit"),
    compute=_compute,
    save=_save,
    load=_load,
    publish=_publish,
    files=model_files,
    tools=("torch", "scipy"),
)
