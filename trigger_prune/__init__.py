"""trigger_prune: prune, quantise, export and prove neural networks for FPGA level-1 triggers.

The public names below are loaded on first use, so that importing the package costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trigger_prune.config.load import LoadedProject, load_project
    from trigger_prune.config.project import ProjectConfig
    from trigger_prune.cost.report import CostStage, HardwareReport
    from trigger_prune.data.sample import EventSample
    from trigger_prune.errors import TriggerPruneError
    from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
    from trigger_prune.pipeline.runner import RunResult, run_pipeline
    from trigger_prune.pipeline.stage import Stage
    from trigger_prune.target import Budget, Target

    __version__: str

_HOMES = {
    "Budget": "target",
    "CostStage": "cost.report",
    "EventSample": "data.sample",
    "FixedPoint": "fixed_point",
    "HardwareReport": "cost.report",
    "LoadedProject": "config.load",
    "Overflow": "fixed_point",
    "ProjectConfig": "config.project",
    "Rounding": "fixed_point",
    "RunResult": "pipeline.runner",
    "Stage": "pipeline.stage",
    "Target": "target",
    "TriggerPruneError": "errors",
    "load_project": "config.load",
    "run_pipeline": "pipeline.runner",
}

__all__ = [
    "Budget",
    "CostStage",
    "EventSample",
    "FixedPoint",
    "HardwareReport",
    "LoadedProject",
    "Overflow",
    "ProjectConfig",
    "Rounding",
    "RunResult",
    "Stage",
    "Target",
    "TriggerPruneError",
    "__version__",
    "load_project",
    "run_pipeline",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("trigger_prune")
    elif name in _HOMES:
        value = getattr(import_module(f"trigger_prune.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'trigger_prune' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
