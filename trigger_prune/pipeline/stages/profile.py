"""Stage ``profile`` of ``trigger-prune profile``: ranges of the quantised network against its types."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trigger_prune.errors import ConfigError
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.events import LOAD
from trigger_prune.pipeline.stages.teacher import TEACHER
from trigger_prune.pipeline.stages.training import MODEL_KEYS, QUANTIZE, TRAIN, model_files, trained_float_model
from trigger_prune.quantize.profile.measure import RangeProfile, profile_network
from trigger_prune.quantize.profile.table import from_dict, profile_rows
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.report.profile_plots import save_profile_plots
from trigger_prune.sensitivity.table import write_csv

FOLDER = "profile"
"""Below the output folder."""

MAX_EVENTS = 50_000
"""Validation events that are looked at."""

Profiles = tuple[RangeProfile, ...]


def _compute(context: StageContext) -> Profiles:
    events = context.result("load")
    network = context.result("quantize").network(trained_float_model(context, events))
    if is_weights_only(network):
        raise ConfigError("only the weights of this network are quantised: its wires have no types to compare with")
    features = torch.from_numpy(events.validation.features[:MAX_EVENTS])
    return profile_network(network, features, context.config.precision.confidence)


def write_profiles(profiles: Profiles, folder: Path) -> list[Path]:
    """``profile.json``, ``profile.csv``, ``profile.svg`` and ``profile.png`` in ``folder``, made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(json.dumps([asdict(profile) for profile in profiles], indent=1))
    write_csv(profile_rows(profiles), folder / "profile.csv")
    return [folder / "profile.json", folder / "profile.csv", *save_profile_plots(profiles, folder)]


def _save(profiles: Profiles, folder: Path) -> None:
    write_profiles(profiles, folder / FOLDER)


def _load(folder: Path) -> Profiles:
    return tuple(from_dict(raw) for raw in json.loads((folder / FOLDER / "profile.json").read_text()))


PROFILE: Stage[Profiles] = Stage(
    name="profile",
    title="ranges against types",
    inputs=("load", "teacher", "train", "quantize"),
    config_keys=(*MODEL_KEYS, "precision.confidence"),
    compute=_compute,
    save=_save,
    load=_load,
    publish=lambda folder, out: [copy_atomically(folder / FOLDER, out / FOLDER)],
    files=model_files,
    tools=("torch",),
)

PROFILE_STAGES: tuple[Stage[Any], ...] = (LOAD, TEACHER, TRAIN, QUANTIZE, PROFILE)
"""Stages of ``trigger-prune profile``; all but the last are shared with ``trigger-prune run``."""
