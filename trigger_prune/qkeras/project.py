"""The pruned network of a project and its events, for the QKeras commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import make_target
from trigger_prune.errors import ConfigError
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.qkeras.bridge import FinetuneSetting, finetune_network
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.target import Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.outputs import output_count

if TYPE_CHECKING:
    from rich.console import Console

_LAST_STAGE = "prune"
_LOSSES = {"classify": "classification", "binary": "classification", "autoencoder": "mse", "distil": "mse"}


@dataclass(frozen=True)
class ProjectNetwork:
    """The network that stage ``prune`` chose. ``train``, ``validation`` and ``test`` hold the inputs that it reads."""

    network: fx.GraphModule
    target: Target
    train: Batches
    validation: Batches
    test: Batches
    goal: Any


def pruned_network(project: LoadedProject, out: Path, console: Console | None = None) -> ProjectNetwork:
    """Run the stages up to ``prune`` where ``out`` does not hold their results, and take over what they made.

    Raises ConfigError for a network whose activations are floats, and what the stages raise.
    """
    from trigger_prune.pipeline.stages import STAGES

    config = project.config
    run = run_pipeline(project, STAGES, out, until=_LAST_STAGE, console=console)
    events, pruned = run.result("load"), run.result(_LAST_STAGE)
    outputs = output_count(events.train, config.task, config.teacher)
    network = pruned.network(build_model(config.model, events.train.event_shape, outputs, project.project_dir))
    if is_weights_only(network):
        raise ConfigError("the network is quantised in its weights only; QKeras needs fixed-point activations as well")
    goal = goal_of(SimpleNamespace(config=config, result=run.result))  # type: ignore[arg-type]
    kept = pruned.kept_inputs
    return ProjectNetwork(
        network,
        replace(make_target(config.target), layers=pruned.layouts),
        make_batches(events, "train", goal, kept),
        make_batches(events, "validation", goal, kept, plain_weights=True),
        make_batches(events, "test", goal, kept, plain_weights=True),
        goal,
    )


def finetune_project(
    project: ProjectNetwork, setting: FinetuneSetting
) -> tuple[fx.GraphModule, dict[str, list[float]], tuple[float, float]]:
    """The network trained in Keras on the project's training events, the history, and the merit on the test events
    before and after."""
    train = project.train
    weights = train.weights.numpy()
    used = weights > 0
    tuned, history = finetune_network(
        project.network,
        train.features.numpy()[used],
        train.targets.numpy()[used],
        replace(setting, loss=_LOSSES[project.goal.task]),
        weights[used] / weights[used].mean(),
    )
    return tuned, history, (merit(project, project.network), merit(project, tuned))


def merit(project: ProjectNetwork, network: fx.GraphModule) -> float:
    """The project's figure of merit on the test events."""
    return evaluate(network, project.test, project.goal.task, project.goal.objective).merit


def judged_features(project: ProjectNetwork, n_events: int | None) -> NDArray[np.float32]:
    """The first test events, or all of them."""
    found: NDArray[np.float32] = project.test.features.numpy()[:n_events]
    return found
