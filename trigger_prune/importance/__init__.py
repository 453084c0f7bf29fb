"""Importance of weights, one file per family of criteria. Importing a family registers its criteria by name."""

from trigger_prune.importance import lamp as lamp
from trigger_prune.importance import magnitude as magnitude
from trigger_prune.importance._base import Criterion, criterion_by_name

__all__ = ["Criterion", "criterion_by_name"]
