"""The main job: the stages in order."""

from __future__ import annotations

from typing import Any

from trigger_prune.pipeline.stage import Stage
from trigger_prune.pipeline.stages.deployment import COST, EXPORT, VERIFY
from trigger_prune.pipeline.stages.events import LOAD
from trigger_prune.pipeline.stages.pruning import PRUNE
from trigger_prune.pipeline.stages.reporting import REPORT
from trigger_prune.pipeline.stages.rtl_project import RTL
from trigger_prune.pipeline.stages.sensitivity import SENSITIVITY
from trigger_prune.pipeline.stages.teacher import TEACHER
from trigger_prune.pipeline.stages.training import BASELINE, QUANTIZE, TRAIN
from trigger_prune.pipeline.stages.trigger import TRIGGER

STAGES: tuple[Stage[Any], ...] = (
    LOAD,
    TEACHER,
    TRAIN,
    QUANTIZE,
    BASELINE,
    SENSITIVITY,
    PRUNE,
    TRIGGER,
    EXPORT,
    VERIFY,
    RTL,
    COST,
    REPORT,
)
"""Every stage of ``trigger-prune run``, in order."""
