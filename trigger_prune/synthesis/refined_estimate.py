"""``RefinedHlsCost``: the HLS estimate, corrected by every report in the user's store.

For each stored run of an HLS compiler the estimate of the same network and target is computed anew and compared with
what the tools reported; the corrections shrink towards the shipped estimate (``cost/calibration/refine.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from trigger_prune.cost.calibration.refine import Observation, Refinement, refined
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ConfigError, CostError
from trigger_prune.synthesis.store.history import Measurement, history
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class RefinedHlsCost:
    """A ``CostModel``: ``base`` corrected by the runs in ``store``, which is read once, at the first estimate.

    predicts   csynth, or vsynth: then what logic synthesis will make of the csynth report
    """

    base: HlsAnalyticCost
    store: ReportStore
    predicts: CostStage = CostStage.CSYNTH
    name = "analytic_hls"
    stage = CostStage.ANALYTIC

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Estimate for a quantised network. Raises as ``HlsAnalyticCost.measure``."""
        return self._refine(self.base.measure(network, target))

    def estimate(self, spec: NetworkSpec, target: Target) -> HardwareReport:
        """Estimate for a network given as integers. Raises as ``HlsAnalyticCost.estimate``."""
        return self._refine(self.base.estimate(spec, target))

    def _refine(self, report: HardwareReport) -> HardwareReport:
        report = self.refinement.apply(report)
        return self.refinement.to_vsynth(report) if self.predicts is CostStage.VSYNTH else report

    @cached_property
    def refinement(self) -> Refinement:
        """Corrections of all runs in the store."""
        found = [pair for run in history(self.store) for pair in observations(run, self.base)]
        return refined(self.base.calibration, found)


def observations(run: Measurement, base: HlsAnalyticCost) -> Iterator[Observation]:
    """What one stored run teaches: estimate against csynth, and csynth against vsynth.

    A run shared without its network is estimated by the counts over its layers. Nothing for other flows, for a run of
    which neither is known, and for a network without formulas.
    """
    if run.flow != "hls":
        return
    csynth, vsynth = run.reports.get(CostStage.CSYNTH), run.reports.get(CostStage.VSYNTH)
    if csynth is not None and vsynth is not None:
        yield Observation(csynth, vsynth)
    if csynth is None:
        return
    model = HlsAnalyticCost(base.calibration, hls_version=csynth.tool_version)
    try:
        if run.network is not None:
            yield Observation(model.estimate(run.network, run.target), csynth)
        elif run.design is not None:
            yield Observation(model.estimate_design(run.design), csynth)
    except (ConfigError, CostError):
        return
