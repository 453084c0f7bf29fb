"""The scan of a project: trains what is not trained yet, then scans the quantised network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import make_target
from trigger_prune.errors import ConfigError
from trigger_prune.importance import criterion_by_name
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.progress import progress_for
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.pipeline.stages.sensitivity import structures_of
from trigger_prune.prune.fine_tune import criterion_events
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.scan import scan
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.structure import structure_by_name
from trigger_prune.train.outputs import output_count

if TYPE_CHECKING:
    from rich.console import Console

_LAST_STAGE = "quantize"


@dataclass(frozen=True)
class ScanRequest:
    """What the user asks for; None: as in project.yaml. ``part`` is ``validation`` or ``test``."""

    criteria: tuple[str, ...] | None = None
    structures: tuple[str, ...] | None = None
    sparsities: tuple[float, ...] | None = None
    bits: tuple[int, ...] | None = None
    activation_bits: tuple[int, ...] | None = None
    part: str = "validation"
    max_events: int | None = None
    interval_width: float | None = None
    with_cost: bool = True


def scan_project(
    project: LoadedProject, request: ScanRequest, out: Path, console: Console | None = None
) -> tuple[SensitivityScan, str]:
    """The scan, and the figure that the project's objective is of.

    Stages up to the quantised network run where ``out`` does not hold their results. Criteria see training events only.
    Raises ConfigError for unknown criteria, structures and impossible bits or sparsities before anything is trained,
    and what the stages and ``scan`` raise.
    """
    from trigger_prune.pipeline.stages import STAGES

    config = project.config
    own = config.sensitivity
    names = _chosen(request.criteria, own.criteria) or (config.prune.criterion,)
    criteria = [criterion_by_name(name, with_data=True) for name in names]
    structures = _chosen(request.structures, own.structures) or (config.prune.structure,)
    for name in structures:
        structure_by_name(name)
    sparsities = _chosen(request.sparsities, own.sparsities)
    bits, activation_bits = _chosen(request.bits, own.bits), request.activation_bits or ()
    _check(sparsities, (*bits, *activation_bits))
    run = run_pipeline(project, STAGES, out, until=_LAST_STAGE, console=console)
    events = run.result("load")
    goal = goal_of(SimpleNamespace(config=config, result=run.result))  # type: ignore[arg-type]
    outputs = output_count(events.train, config.task, config.teacher)
    model = build_model(config.model, events.train.event_shape, outputs, project.project_dir)
    network = run.result(_LAST_STAGE).network(model)
    if is_weights_only(network):
        raise ConfigError(
            "the scan changes a fixed-point graph, and this network is quantised in its weights only",
            hint="trigger-prune run has the curves of single weights in its report",
        )
    sample = getattr(events, request.part)
    judged = make_batches(events, request.part, goal, plain_weights=goal.task == "classify")
    generator = torch.Generator().manual_seed(config.seed)
    most = request.max_events or (own.max_events if request.part == "validation" else len(judged))
    rows = torch.randperm(len(judged), generator=generator)[:most]
    target = make_target(config.target)
    settings = ScanSettings(
        structures=structures_of(structures, config.prune, target),
        bits=bits,
        activation_bits=activation_bits,
        interval_width=request.interval_width or own.interval_width,
        score=goal.score,
        signal_classes=goal.signal_classes,
        background_fraction=goal.objective.background_fraction or config.physics.false_positive_rate,
        target=target if request.with_cost else None,
    )
    progress = progress_for(console)
    with ExitStack() as bars:
        seen: dict[str, Any] = {}

        def advance(part: str, done: int, total: int) -> None:
            if part not in seen:
                what = {"layers": "networks judged", "inputs": "inputs judged"}[part]
                seen[part] = [bars.enter_context(progress.track(total, what)), 0]
            seen[part][0].advance(done - seen[part][1])
            seen[part][1] = done

        found = scan(
            network,
            events.train.features,
            judged.take(rows),
            events.train.feature_names,
            sparsities,
            criteria,
            goal.task,
            objective=goal.objective,
            criterion_data=criterion_events(make_batches(events, "train", goal), goal.task, config.seed),
            seed=config.seed,
            progress=advance,
            settings=settings,
            groups=sample.groups[rows.numpy()],
        )
    name = goal.objective.name
    return found, "efficiency" if name.startswith("efficiency") else name


def _chosen(asked: tuple[Any, ...] | None, configured: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(configured) if asked is None else asked


def _check(sparsities: Iterable[float], bits: Iterable[int]) -> None:
    for sparsity in sparsities:
        if not 0 <= sparsity <= 1:
            raise ConfigError(f"sparsity {sparsity:g} of the scan is outside 0..1")
    for width in bits:
        if not 1 <= width <= 16:
            raise ConfigError(f"{width} bits of the scan are outside 1..16")
