"""Cost backends by the name they have in project.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trigger_prune.config.project import CostConfig
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.delay_model import DelayModel
from trigger_prune.cost.report import CostStage
from trigger_prune.errors import CostError

if TYPE_CHECKING:
    from trigger_prune.cost.analytic import AnalyticCost
    from trigger_prune.cost.hls.model import HlsAnalyticCost
    from trigger_prune.synthesis.refined_estimate import RefinedHlsCost
    from trigger_prune.synthesis.rtl.cost import RtlCost
    from trigger_prune.synthesis.store.reports import ReportStore

_RELEASE = re.compile(r"20\d\d\.\d(\.\d+)?")


def make_cost_model(config: CostConfig, project_dir: Path = Path()) -> CostModel:
    """The cost model that ``config.backend`` names. Imports only what that one needs.

    A backend that runs a synthesis tool looks into the report store first, unless ``config.use_store`` is off; with
    ``config.offline`` no tool is run (``synthesis/hls/offline.py``). Relative paths start at ``project_dir``. Raises
    CostError for an unknown name, and what the backend's own options raise.
    """
    make = BACKENDS.get(config.backend)
    if make is None:
        raise CostError(f"no cost backend named {config.backend!r}", hint=f"one of {', '.join(BACKENDS)}")
    if config.offline is not None:
        return _offline(config, project_dir)
    return with_store(make(config, project_dir), config, project_dir)


def _offline(config: CostConfig, project_dir: Path) -> CostModel:
    """The backend whose tools are on another machine; it keeps its own reports in the store."""
    from trigger_prune.synthesis.hls.offline import ONLINE, OfflineCost

    if config.backend not in ONLINE:
        raise CostError(
            f"cost.offline does not go with cost.backend {config.backend}", hint=f"one of {', '.join(ONLINE)}"
        )
    assert config.offline is not None
    return OfflineCost(
        project_dir / Path(config.offline).expanduser(),
        config.backend,
        config.tool_version,
        report_store(config, project_dir) if config.use_store else None,
    )


def with_store(model: CostModel, config: CostConfig, project_dir: Path = Path()) -> CostModel:
    """``model`` around which the report store is put, where it runs a tool whose figures can be stored."""
    from trigger_prune.synthesis.store.identity import FLOW_OF

    if not config.use_store or model.name not in FLOW_OF:
        return model
    from trigger_prune.synthesis.store.cost import StoredCost

    return StoredCost(model, report_store(config, project_dir))


def csynth_estimate(
    config: CostConfig, project_dir: Path = Path(), predicts: CostStage = CostStage.CSYNTH
) -> HlsAnalyticCost | RefinedHlsCost:
    """What predicts csynth's (or vsynth's) report by formula, for the compiler release that ``config`` names.

    Every report in the store corrects it, unless ``config.use_store`` is off; without the store only csynth is
    predicted.
    """
    from trigger_prune.cost.hls.from_spec import HLS_VERSION
    from trigger_prune.cost.hls.model import HlsAnalyticCost

    named = config.tool_version is not None and _RELEASE.fullmatch(config.tool_version)
    base = HlsAnalyticCost(hls_version=config.tool_version if named and config.tool_version else HLS_VERSION)
    if not config.use_store:
        return base
    from trigger_prune.synthesis.refined_estimate import RefinedHlsCost

    return RefinedHlsCost(base, report_store(config, project_dir), predicts)


def report_store(config: CostConfig, project_dir: Path = Path()) -> ReportStore:
    """The store that ``config`` names, or the user's own."""
    from trigger_prune.synthesis.store.location import default_store_folder
    from trigger_prune.synthesis.store.reports import ReportStore

    folder = default_store_folder() if config.store is None else project_dir / Path(config.store).expanduser()
    return ReportStore(folder)


def _rtl(config: CostConfig, _: Path) -> CostModel:
    return rtl_pipeline(
        config,
        timeout_s=config.timeout_s,
        memory_limit_mib=config.memory_limit_mib,
        ecp5_seeds=config.ecp5_seeds,
    )


def rtl_pipeline(config: CostConfig, **limits: Any) -> RtlCost:
    """The ``rtl`` backend that cuts its pipeline as ``config`` says; ``limits`` are its other options."""
    from trigger_prune.synthesis.rtl.cost import RtlCost

    return RtlCost(
        adders_per_stage=config.adders_per_stage or RtlCost.adders_per_stage,
        pipeline_stages=config.pipeline_stages,
        pipeline_for_clock=cut_for_clock(config),
        delay_model=DelayModel(config.register_ns, config.unit_ns),
        **limits,
    )


def cut_for_clock(config: CostConfig) -> bool:
    """Whether the pipeline of the rtl flow gets as many stages as the clock period needs."""
    return config.adders_per_stage is None and config.pipeline_stages is None


def analytic_cost(config: CostConfig) -> AnalyticCost:
    """The formula for what the rtl flow measures, with the pipeline cut in the same way."""
    from trigger_prune.cost.analytic import AnalyticCost

    delays = DelayModel(config.register_ns, config.unit_ns)
    if cut_for_clock(config):
        return AnalyticCost(adders_per_stage=None, delay_model=delays)
    return AnalyticCost(adders_per_stage=config.adders_per_stage or AnalyticCost.adders_per_stage, delay_model=delays)


def _analytic(config: CostConfig, _: Path) -> CostModel:
    return analytic_cost(config)


def _analytic_hls(config: CostConfig, project_dir: Path) -> CostModel:
    return csynth_estimate(config, project_dir)


def _hls(config: CostConfig, _: Path) -> CostModel:
    from trigger_prune.synthesis.hls.cost import CosimCost, CsynthCost, PnrCost, VsynthCost

    kinds = {kind.name: kind for kind in (CsynthCost, VsynthCost, CosimCost, PnrCost)}
    return kinds[config.backend](
        timeout_s=config.timeout_s,
        memory_limit_mib=config.memory_limit_mib,
        tool_version=config.tool_version,
        licences=config.licences,
    )


def _runtime(config: CostConfig, _: Path) -> CostModel:
    from trigger_prune.synthesis.runtime.cost import ProcessorCost
    from trigger_prune.synthesis.runtime.timing import Plan

    return ProcessorCost(
        provider=config.provider,
        threads=config.threads,
        batch_sizes=tuple(config.batch_sizes),
        plan=Plan(seconds=config.runtime_seconds),
        timeout_s=config.timeout_s,
        memory_limit_mib=config.memory_limit_mib,
    )


BACKENDS: Mapping[str, Callable[[CostConfig, Path], CostModel]] = MappingProxyType(
    {
        "rtl": _rtl,
        "analytic": _analytic,
        "analytic_hls": _analytic_hls,
        "csynth": _hls,
        "vsynth": _hls,
        "cosim": _hls,
        "pnr": _hls,
        "runtime": _runtime,
    }
)
"""Name in project.yaml -> maker."""
