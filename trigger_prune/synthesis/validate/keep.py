"""Puts validation reports into the store of syntheses, where they refine the estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.synthesis.hls.cost import CsynthCost
from trigger_prune.synthesis.store.entry import StoredRun, now
from trigger_prune.synthesis.store.identity import tool_identity
from trigger_prune.synthesis.store.key import cost_options, key_parts
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.synthesis.store.shared_design import shareable
from trigger_prune.synthesis.validate.build import BuiltDesign


@dataclass(frozen=True)
class _ToolOfReport(CsynthCost):
    """The csynth backend as it was on the machine that has made a report."""

    tool: str = ""
    version: str = ""

    def identity(self) -> Mapping[str, str]:
        return {"tool": self.tool, "version": self.version}


def keep_reports(
    store: ReportStore, built: BuiltDesign, reports: Mapping[CostStage, HardwareReport]
) -> StoredRun | None:
    """Store the reports of one design; None when there is no csynth report to say which tool it was.

    They are found again by the csynth, vsynth and cosim backends for the same network, target and tool. A softmax is no
    part of a quantised network: such a design is stored by the counts over its layers, under a key of its own.
    """
    csynth = reports.get(CostStage.CSYNTH)
    if csynth is None:
        return None
    from trigger_prune.quantize.describe import describe_network

    model = _ToolOfReport(tool=f"{built.backend} HLS", version=csynth.tool_version)
    identity = tool_identity(model)
    assert identity is not None  # it was given
    parts = key_parts(
        built.network,
        built.content_hash,
        flow=identity.flow,
        options=cost_options(CsynthCost()),
        target=built.target,
        tool=identity.parts,
    )
    named = {stage: replace(report, content_hash=built.content_hash) for stage, report in reports.items()}
    if built.design.softmax:
        design = shareable(built.hls, csynth.tool_version)
        return store.put(StoredRun(parts, named, now(), design=design))
    return store.put(StoredRun(parts, named, now(), network=describe_network(built.network)))
