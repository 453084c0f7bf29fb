"""What a stored run was made of, without its weights: enough for its reports to refine the estimates of others."""

from __future__ import annotations

from dataclasses import replace

from trigger_prune.cost.hls.design import HlsDesign
from trigger_prune.cost.hls.from_spec import design_from_spec
from trigger_prune.cost.hls.weightless import without_weights
from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ConfigError, CostError
from trigger_prune.synthesis.store.entry import StoredRun
from trigger_prune.target import Target


def without_network(run: StoredRun) -> StoredRun:
    """The same run with counts over its layers in place of the network, where the HLS estimate reads such."""
    return run if run.network is None else replace(run, network=None, design=_design_of(run))


def shareable(design: HlsDesign, version: str) -> HlsDesign | None:
    """A design without its weights, as the compiler of release ``version`` has built it.

    None for a version that is no release, and for a layer without formulas.
    """
    built = replace(design, setting=replace(design.setting, version=version))
    try:
        _ = built.setting.release
        return without_weights(built)
    except (ValueError, CostError):
        return None


def _design_of(run: StoredRun) -> HlsDesign | None:
    csynth = run.reports.get(CostStage.CSYNTH)
    if run.network is None or csynth is None or run.parts["flow"] != "hls":
        return None
    try:
        design = design_from_spec(run.network, Target.from_dict(run.parts["target"]), csynth.tool_version)
    except (ConfigError, CostError):
        return None
    return shareable(design, csynth.tool_version)
