"""Importance of weights, one file per family of criteria. Importing a family registers its criteria by name.

Criteria that need more than the network and events are made by hand: ``BatchNormScale(float_model)`` and
``with Movement(network) as movement``.
"""

from trigger_prune.importance import activity as activity
from trigger_prune.importance import gradients as gradients
from trigger_prune.importance import lamp as lamp
from trigger_prune.importance import magnitude as magnitude
from trigger_prune.importance import obd as obd
from trigger_prune.importance import random_score as random_score
from trigger_prune.importance import wanda as wanda
from trigger_prune.importance._base import Criterion, CriterionData, criterion_by_name, criterion_names
from trigger_prune.importance.batch_norm_scale import BatchNormScale
from trigger_prune.importance.movement import Movement

__all__ = ["BatchNormScale", "Criterion", "CriterionData", "Movement", "criterion_by_name", "criterion_names"]
