"""Trained quantised networks of the reference projects, for benchmarks that prune them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import fx, nn

from trigger_prune.config.load import load_project
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective
from trigger_prune.train.outputs import output_count

ROOT = Path(__file__).parents[1]
BUILD = Path(__file__).parent / "build"


@dataclass(frozen=True)
class Trained:
    """A quantised network after its quantisation-aware training, the float one it came from, and its events."""

    network: fx.GraphModule
    float_model: nn.Module
    train: Batches
    validation: Batches
    test: Batches
    task: Task
    objective: Objective
    config: Any

    def fit_settings(self, phase: str, epochs: int) -> FitSettings:
        """As the project's own fine-tuning, for ``epochs``."""
        section = self.config.train
        return FitSettings(
            phase=phase,
            epochs=epochs,
            batch_size=section.batch_size,
            learning_rate=self.config.prune.learning_rate,
            seed=self.config.seed,
            task=self.task,
            objective=self.objective,
            weight_decay=section.weight_decay,
            gradient_clip_norm=section.gradient_clip_norm,
        )


def trained(project: str, seed: int, overrides: tuple[str, ...], folder: str) -> Trained:
    """Trains, or reads what an earlier call left in ``benchmarks/build``. The seed also decides the split of events."""
    home = ROOT / "hls_projects" / project
    loaded = load_project(home, [*overrides, f"split.seed={seed}"], seed)
    run = run_pipeline(loaded, STAGES, BUILD / folder / project / f"seed{seed}", until="quantize")
    config, events = loaded.config, run.result("load")
    goal = goal_of(SimpleNamespace(config=config, result=run.result))  # type: ignore[arg-type]
    outputs = output_count(events.train, config.task, config.teacher)
    model = build_model(config.model, events.train.event_shape, outputs, home)
    model.load_state_dict(run.result("train").state)
    return Trained(
        network=run.result("quantize").network(model),
        float_model=model,
        train=make_batches(events, "train", goal),
        validation=make_batches(events, "validation", goal),
        test=make_batches(events, "test", goal),
        task=goal.task,
        objective=goal.objective,
        config=config,
    )
