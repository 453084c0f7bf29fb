"""The registry of schedules by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import fx

from trigger_prune.errors import ConfigError
from trigger_prune.prune.schedules._plan import RampPlan
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.history import EpochRecord, FitHistory

Progress = Callable[[EpochRecord, int], None]
"""Called after every epoch with its record and the number of epochs."""

Schedule = Callable[[fx.GraphModule, Batches, Batches, FitSettings, RampPlan, Progress | None], FitHistory]
"""Prunes and trains a network in place: network, training events, validation events, settings, plan, progress."""

_SCHEDULES: dict[str, Schedule] = {}


def register_schedule(name: str, schedule: Schedule) -> None:
    """Makes a schedule known by its name."""
    _SCHEDULES[name] = schedule


def schedule_names() -> tuple[str, ...]:
    """Names in alphabetical order."""
    return tuple(sorted(_SCHEDULES))


def schedule_by_name(name: str) -> Schedule:
    """The registered schedule. Raises ConfigError that lists the names there are."""
    if name not in _SCHEDULES:
        close = difflib.get_close_matches(name, _SCHEDULES, n=1)
        raise ConfigError(
            f"unknown schedule {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
            hint=f"schedules: {', '.join(schedule_names())}",
        )
    return _SCHEDULES[name]
