"""Cost backends by the name they have in project.yaml."""

from __future__ import annotations

from trigger_prune.config.project import CostConfig
from trigger_prune.cost._base import CostModel
from trigger_prune.errors import CostError


def make_cost_model(config: CostConfig) -> CostModel:
    """The cost model that ``config.backend`` names: rtl, analytic or csynth. Imports only what that one needs."""
    if config.backend == "rtl":
        from trigger_prune.synthesis.rtl.cost import RtlCost

        return RtlCost(config.adders_per_stage, config.timeout_s, config.memory_limit_mib)
    if config.backend == "analytic":
        from trigger_prune.cost.analytic import AnalyticCost

        return AnalyticCost(adders_per_stage=config.adders_per_stage)
    if config.backend == "csynth":
        from trigger_prune.synthesis.hls.cost import CsynthCost

        return CsynthCost(config.timeout_s, config.memory_limit_mib)
    raise CostError(f"no cost backend named {config.backend!r}", hint="one of rtl, analytic, csynth")
