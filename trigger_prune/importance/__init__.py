"""Importance of weights, one file per family of criteria. Importing a family registers its criteria by name.

``criterion_by_name`` also takes combinations: ``taylor_fisher + 2 wanda`` (weighted mean of ranks), ``taylor_fisher *
wanda`` (product of ranks), ``lamp + wanda by layer``.
"""

from trigger_prune.importance import activity as activity
from trigger_prune.importance import attention_score as attention_score
from trigger_prune.importance import gradients as gradients
from trigger_prune.importance import lamp as lamp
from trigger_prune.importance import magnitude as magnitude
from trigger_prune.importance import obd as obd
from trigger_prune.importance import obs_gauss_newton as obs_gauss_newton
from trigger_prune.importance import obs_score as obs_score
from trigger_prune.importance import random_score as random_score
from trigger_prune.importance import wanda as wanda
from trigger_prune.importance._base import (
    Accumulating,
    Criterion,
    CriterionData,
    criterion_by_name,
    criterion_names,
)
from trigger_prune.importance.attention import AttentionSettings, feature_attention
from trigger_prune.importance.batch_norm_scale import BatchNormScale
from trigger_prune.importance.combine import Combine, Term
from trigger_prune.importance.group_scores import score_groups
from trigger_prune.importance.movement import Movement
from trigger_prune.importance.obs_network import prune_with_obs

__all__ = [
    "Accumulating",
    "AttentionSettings",
    "BatchNormScale",
    "Combine",
    "Criterion",
    "CriterionData",
    "Movement",
    "Term",
    "criterion_by_name",
    "criterion_names",
    "feature_attention",
    "prune_with_obs",
    "score_groups",
]
