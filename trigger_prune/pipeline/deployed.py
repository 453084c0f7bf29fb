"""The pruned network of a project, or a network of it that lies in a file, with test events on its inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.config.load import LoadedProject
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.quantize.checkpoint import load_network
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.train.outputs import output_count

if TYPE_CHECKING:
    from rich.console import Console

_TRANSFORM = "input_transform.json"


def deployed_of(
    project: LoadedProject, out: Path, checkpoint: Path | None, console: Console | None = None
) -> tuple[fx.GraphModule, NDArray[np.float32]]:
    """The network and all test events ``(n, *input_shape)`` on its input grid.

    checkpoint   a file of ``save_network``; ``input_transform.json`` beside it, if any, says which inputs it reads.
                 None: what stage ``prune`` of the project chose
    Stages run where ``out`` does not hold their results. Raises ConfigError for a missing file or other inputs than the
    project's, ModelError for a network with float activations, and what the stages raise.
    """
    if checkpoint is not None and not checkpoint.is_file():
        raise ConfigError(f"there is no file {checkpoint}", hint="e.g. PROJECT/build/trials/round2/network.pt")
    run = run_pipeline(project, STAGES, out, until="load" if checkpoint else "prune", console=console)
    config, events = project.config, run.result("load")
    outputs = output_count(events.train, config.task, config.teacher)
    model = build_model(config.model, events.train.event_shape, outputs, project.project_dir)
    if checkpoint is None:
        pruned = run.result("prune")
        network, kept = pruned.network(model), list(pruned.kept_inputs)
    else:
        network, kept = load_network(checkpoint, model), _kept_inputs(checkpoint, events)
    if not isinstance(network, fx.GraphModule):
        raise ModelError(
            "the activations of this network are floats: no two representations of it have the same bits",
            hint="trigger-prune run compares its exported form within a tolerance",
        )
    features = np.ascontiguousarray(events.test.features[:, kept])
    if tuple(features.shape[1:]) != tuple(input_shape_of(network)):
        raise ConfigError(
            f"the network reads events of shape {tuple(input_shape_of(network))}, the project's are "
            f"{tuple(features.shape[1:])}",
            hint=f"put the {_TRANSFORM} that was written with the network beside it",
        )
    return network, features


def _kept_inputs(checkpoint: Path, events: Events) -> list[int]:
    names = list(events.test.feature_names)
    path = checkpoint.with_name(_TRANSFORM)
    if not path.is_file():
        return list(range(len(names)))
    wanted = json.loads(path.read_text())["feature_names"]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(f"{path}: the project's events have no feature {unknown[0]!r}")
    return [names.index(name) for name in wanted]
