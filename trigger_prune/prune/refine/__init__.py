"""Refinement for LUTs: fewer signed digits per weight, repaired on the grid."""

from trigger_prune.prune.refine.measure import CostMeasure, MeasuredCost, alkaid_cost
from trigger_prune.prune.refine.refine import RefineResult, refine_network
from trigger_prune.prune.refine.settings import RefineSettings
from trigger_prune.prune.refine.steps import CodeStep, FrontPoint, pareto

__all__ = [
    "CodeStep",
    "CostMeasure",
    "FrontPoint",
    "MeasuredCost",
    "RefineResult",
    "RefineSettings",
    "alkaid_cost",
    "pareto",
    "refine_network",
]
