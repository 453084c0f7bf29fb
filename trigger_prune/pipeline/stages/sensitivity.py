"""Stage ``sensitivity``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from trigger_prune.config.project import PruneConfig, make_target
from trigger_prune.errors import ConfigError
from trigger_prune.importance import criterion_by_name
from trigger_prune.pipeline.progress import Tracker
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, Goal, goal_of, make_batches
from trigger_prune.pipeline.stages.training import MODEL_KEYS, model_files, trained_float_model
from trigger_prune.prune.fine_tune import criterion_events
from trigger_prune.prune.plan_of import groups_of
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.pruned import SINGLE_WEIGHTS
from trigger_prune.sensitivity.scan import scan
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.sensitivity.table import input_rows, point_rows, write_csv
from trigger_prune.sensitivity.weights_only import scan_weights_only
from trigger_prune.structure._base import Groups, Structure
from trigger_prune.target import Target

_SCANNED = {"layers": "networks judged", "inputs": "inputs judged"}


@dataclass(frozen=True)
class AsConfigured:
    """A structure with its options in section ``prune``."""

    name: str
    config: PruneConfig
    target: Target

    def groups(self, network: fx.GraphModule) -> Groups:
        """Its groups. Raises ConfigError for single weights, which have none."""
        found = groups_of(self.config, network, self.target, self.name)
        if found is None:
            raise ConfigError(f"structure {self.name!r} has no groups")
        return found


def structures_of(names: Sequence[str], config: PruneConfig, target: Target) -> tuple[str | Structure, ...]:
    """The structures to scan: single weights by name, the others with their options."""
    return tuple(name if name == SINGLE_WEIGHTS else AsConfigured(name, config, target) for name in names)


def _settings(context: StageContext, goal: Goal) -> ScanSettings:
    config = context.config
    target = make_target(config.target)
    names = config.sensitivity.structures or [config.prune.structure]
    return ScanSettings(
        structures=structures_of(names, config.prune, target),
        bits=tuple(config.sensitivity.bits),
        interval_width=config.sensitivity.interval_width,
        score=goal.score,
        signal_classes=goal.signal_classes,
        background_fraction=goal.objective.background_fraction,
        seed=config.seed,
    )


def _compute(context: StageContext) -> SensitivityScan:
    config, events = context.config, context.result("load")
    network: nn.Module = context.result("quantize").network(trained_float_model(context, events))
    goal = goal_of(context)
    validation = make_batches(events, "validation", goal, plain_weights=goal.task == "classify")
    order = torch.randperm(len(validation), generator=torch.Generator().manual_seed(config.seed))
    rows = order[: config.sensitivity.max_events]
    data = criterion_events(make_batches(events, "train", goal), goal.task, config.seed)
    names = config.sensitivity.criteria or [config.prune.criterion]
    criteria = [criterion_by_name(name, with_data=True) for name in names]
    shared: dict[str, Any] = {"objective": goal.objective, "criterion_data": data, "seed": config.seed}
    with ExitStack() as bars:
        trackers: dict[str, tuple[Tracker, int]] = {}

        def advance(part: str, done: int, total: int) -> None:
            if part not in trackers:
                bar = context.progress.track(total, _SCANNED[part])
                trackers[part] = (bars.enter_context(bar), 0)
            tracker, before = trackers[part]
            tracker.advance(done - before)
            trackers[part] = (tracker, done)

        features, inputs = events.train.features, events.train.feature_names
        judged, sparsities = validation.take(rows), config.sensitivity.sparsities
        if is_weights_only(network):
            return scan_weights_only(
                network, features, judged, inputs, sparsities, criteria[0], goal.task, progress=advance, **shared
            )
        assert isinstance(network, fx.GraphModule)
        return scan(
            network,
            features,
            judged,
            inputs,
            sparsities,
            criteria,
            goal.task,
            progress=advance,
            settings=_settings(context, goal),
            groups=events.validation.groups[rows.numpy()],
            **shared,
        )


def _save(result: SensitivityScan, folder: Path) -> None:
    (folder / "sensitivity.json").write_text(json.dumps(result.to_dict(), indent=1))
    write_csv([asdict(point) for point in result.layers], folder / "layers.csv")
    write_csv(input_rows(result.inputs), folder / "inputs.csv")
    write_csv(point_rows(result.points), folder / "points.csv")


def _load(folder: Path) -> SensitivityScan:
    return SensitivityScan.from_dict(json.loads((folder / "sensitivity.json").read_text()))


SENSITIVITY: Stage[SensitivityScan] = Stage(
    name="sensitivity",
    title="sensitivity of layers and inputs",
    inputs=("load", "teacher", "train", "quantize"),
    config_keys=(
        *MODEL_KEYS,
        *GOAL_KEYS,
        "sensitivity",
        "prune.criterion",
        "prune.structure",
        "prune.block",
        "prune.n_of_m",
        "target",
    ),
    compute=_compute,
    save=_save,
    load=_load,
    files=model_files,
    tools=("torch",),
    version=3,
)
