"""Profile of a network that lies in a file, on the events of its project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import fx

from trigger_prune.config.load import LoadedProject
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages.events import LOAD
from trigger_prune.pipeline.stages.profile import MAX_EVENTS
from trigger_prune.quantize.checkpoint import load_network
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.profile.measure import RangeProfile, profile_network
from trigger_prune.train.outputs import output_count

if TYPE_CHECKING:
    from rich.console import Console


def profile_checkpoint(
    project: LoadedProject, path: Path, out: Path, console: Console | None = None
) -> tuple[RangeProfile, ...]:
    """The network in ``path`` on validation events of the project; stage ``load`` runs where ``out`` lacks it.

    Raises ArtefactError for a file that is no network of this project, ConfigError for one that reads other inputs.
    """
    config = project.config
    if not path.is_file():
        raise ConfigError(f"there is no file {path}", hint="e.g. OUT/precision/network.pt")
    events = run_pipeline(project, (LOAD,), out, console=console).result("load")
    outputs = output_count(events.train, config.task, config.teacher)
    network = load_network(path, build_model(config.model, events.train.event_shape, outputs, project.project_dir))
    if not isinstance(network, fx.GraphModule):
        raise ModelError("only the weights of this network are quantised: its wires have no types to compare with")
    features = torch.from_numpy(events.validation.features[:MAX_EVENTS])
    if tuple(features.shape[1:]) != tuple(input_shape_of(network)):
        raise ConfigError(
            f"{path} reads events of shape {tuple(input_shape_of(network))}, the project's are "
            f"{tuple(features.shape[1:])}",
            hint="inputs were removed from this network; profile one that reads them all",
        )
    return profile_network(network, features, config.precision.confidence)
