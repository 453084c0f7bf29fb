"""Schedules by name, one file each. Importing a schedule registers it."""

from trigger_prune.prune.schedules import adaptive as adaptive
from trigger_prune.prune.schedules import cubic as cubic
from trigger_prune.prune.schedules import geometric as geometric
from trigger_prune.prune.schedules import linear as linear
from trigger_prune.prune.schedules import one_shot as one_shot
from trigger_prune.prune.schedules._base import schedule_by_name, schedule_names
from trigger_prune.prune.schedules._plan import RampPlan

__all__ = ["RampPlan", "schedule_by_name", "schedule_names"]
