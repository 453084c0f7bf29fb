"""``trigger-prune check``: is everything there that a run needs? Nothing is trained, nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trigger_prune.config.draft import Draft, read_draft
from trigger_prune.config.load import find_project_file
from trigger_prune.config.project import CostConfig, ProjectConfig, make_target
from trigger_prune.errors import ModelError, TriggerPruneError, UnsupportedLayerError
from trigger_prune.parts import find_part

if TYPE_CHECKING:
    from trigger_prune.data.sample import EventSample

R = TypeVar("R")
_MOST_NAMES = 24


@dataclass(frozen=True)
class CheckReport:
    """``problems`` stop a run; ``rows`` are (what, value) for the user, as far as they could be found out."""

    file: Path
    problems: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]


def check_project(path: Path, overrides: Sequence[str] = (), seed: int | None = None) -> CheckReport:
    """Check keys, events, model and tools of a project; arguments as for ``load_project``.

    What does not depend on a problem is checked all the same. Raises ConfigError only when there is no readable file.
    """
    file = find_project_file(path)
    draft = read_draft(file, overrides, seed)
    config = draft.validate() or draft.repaired()
    problems = list(draft.problems)
    rows = [("project", config.project), ("file", str(file)), ("seed", str(config.seed))]
    sample = None
    if "data" not in draft.bad_sections:
        sample = _attempt(lambda: _load_events(config, file.parent), problems)
    if sample is not None:
        rows += _event_rows(sample)
    if not {"model", "task"} & draft.bad_sections:
        facts = _attempt(lambda: _model_facts(config, sample, file.parent), problems)
        rows.append(("model", config.model.name + (f", {facts}" if facts else "")))
    if sample is not None and not {"physics", "task", "train"} & draft.bad_sections:
        signal = _attempt(lambda: _signal_names(config, sample), problems)
        rows += [("signal", ", ".join(signal))] if signal else []
    if "prune" not in draft.bad_sections:
        _attempt(lambda: _find_criterion(config.prune.criterion), problems)
    if "cost" not in draft.bad_sections:
        problems += _missing_tools(config.cost)
    if not {"prune", "cost", "budget"} & draft.bad_sections:
        _attempt(lambda: _check_structure(config), problems)
    return CheckReport(file, tuple(problems), (*rows, *_target_rows(config, draft)))


def _attempt(work: Callable[[], R], problems: list[str]) -> R | None:
    try:
        return work()
    except TriggerPruneError as error:
        problems.append(str(error))
        return None


def _load_events(config: ProjectConfig, project_dir: Path) -> EventSample:
    from trigger_prune.data.load import load_sample

    return load_sample(config.data, project_dir, config.luminosity)


def _signal_names(config: ProjectConfig, sample: EventSample) -> tuple[str, ...]:
    from trigger_prune.data.class_choice import signal_classes, trained_classes

    trained_classes(config.train.classes, sample)
    return tuple(sample.class_names[i] for i in signal_classes(config.physics.signal, sample))


def _find_criterion(name: str) -> None:
    from trigger_prune.importance import criterion_by_name

    criterion_by_name(name, with_data=True)


def _check_structure(config: ProjectConfig) -> None:
    from trigger_prune.prune.processor_rules import require_cut_out_units

    require_cut_out_units(config.prune, config.cost.backend, config.budget)


def _model_facts(config: ProjectConfig, sample: EventSample | None, project_dir: Path) -> str | None:
    """Number of parameters, and what ends the run at the export; None without events to take a shape from."""
    from trigger_prune.models.build import REFERENCE_MODELS, build_model
    from trigger_prune.models.source import model_source_files
    from trigger_prune.quantize.graph import prepare

    if sample is None:
        if ":" not in config.model.name and config.model.name not in REFERENCE_MODELS:
            raise ModelError(f"model.name: there is no reference model {config.model.name}")
        model_source_files(config.model, project_dir)
        return None

    from trigger_prune.train.outputs import output_count

    n_outputs = output_count(sample, config.task, config.teacher)
    network = build_model(config.model, sample.event_shape, n_outputs, project_dir)
    parameters = f"{sum(parameter.numel() for parameter in network.parameters())} parameters"
    if config.cost.backend == "runtime":
        try:
            prepare(network)
        except UnsupportedLayerError:
            from trigger_prune.prune.processor_rules import refuse_solver

            refuse_solver(config.prune)
            return f"{parameters}; no fixed-point form, so its activations stay float: it runs on processors only"
    from trigger_prune.export.support import find_refusal

    refusal = find_refusal(prepare(network), make_target(config.target))
    if refusal is None:
        return parameters
    return f"{parameters}; hls4ml cannot build {refusal} (instead: {refusal.instead}); run it with --until prune"


def _event_rows(sample: EventSample) -> list[tuple[str, str]]:
    import numpy as np

    counts = np.bincount(sample.labels, minlength=sample.n_classes)
    classes = ", ".join(f"{name} {count}" for name, count in zip(sample.class_names, counts.tolist(), strict=True))
    names = ", ".join(sample.feature_names[:_MOST_NAMES]) + (", ..." if sample.n_features > _MOST_NAMES else "")
    return [
        ("events", f"{sample.n_events} from {sample.source}, {len(np.unique(sample.groups))} collisions"),
        ("features", f"{'x'.join(map(str, sample.event_shape))}: {names}"),
        ("classes", classes),
    ]


def _target_rows(config: ProjectConfig, draft: Draft) -> list[tuple[str, str]]:
    rows = []
    if "budget" not in draft.bad_sections:
        limits = {name: value for name, value in config.budget.model_dump().items() if value is not None}
        rows.append(("budget", ", ".join(f"{name} <= {value}" for name, value in limits.items()) or "no limit is set"))
    if "target" not in draft.bad_sections:
        known = "" if find_part(config.target.part) else " (not in the catalogue: no share of its resources is given)"
        rows.append(("target", f"{config.target.part}{known}, clock period {config.target.clock_period_ns} ns"))
    if "cost" not in draft.bad_sections:
        rows.append(("cost", config.cost.backend))
    return rows


def _missing_tools(cost: CostConfig) -> list[str]:
    if cost.backend == "rtl":
        missing = [name for name in ("alkaid", "pyosys") if find_spec(name) is None]
        if missing:
            return [f"cost.backend rtl needs {', '.join(missing)}\n  -> pip install 'trigger_prune[rtl]'"]
    if cost.backend in ("csynth", "vsynth", "cosim", "pnr"):
        from trigger_prune.synthesis.hls.tools import find_hls_tool

        if find_hls_tool(cost.tool_version) is None:
            release = f" {cost.tool_version}" if cost.tool_version else ""
            return [
                f"cost.backend {cost.backend} needs Vitis HLS or Vivado HLS{release}, and none was found\n"
                "  -> trigger-prune doctor tells what is installed and where it was looked for"
            ]
    if cost.backend == "runtime" and cost.provider == "cuda":
        from onnxruntime import get_available_providers

        if "CUDAExecutionProvider" not in get_available_providers():
            return ["cost.provider cuda needs the CUDA build of ONNX Runtime\n  -> pip install onnxruntime-gpu"]
    return []
