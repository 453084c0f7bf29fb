"""What a foreign design costs as Verilog: the ``rtl`` flow from its adder graph on."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

from trigger_prune.cost.report import Available, CostStage, HardwareReport
from trigger_prune.entry.foreign import ForeignDesign
from trigger_prune.parts import find_part
from trigger_prune.synthesis.rtl.cost import CLOCK_NOTE, LIMITS, RtlCost
from trigger_prune.synthesis.rtl.trace import alkaid_version
from trigger_prune.synthesis.rtl.yosys import synthesize
from trigger_prune.target import Target
from trigger_prune.two_stage.options import UNROLLED, FullOption


def measure_foreign(design: ForeignDesign, model: RtlCost, target: Target) -> HardwareReport:
    """Cost of a foreign design, comparable with that of a network measured by the same ``model``.

    There is no split by layers. Raises ToolError and CostError as ``RtlCost.measure`` does.
    """
    comb = design.comb
    with tempfile.TemporaryDirectory(prefix="trigger_prune_rtl_") as scratch:
        project = model.write(comb, Path(scratch), target)
        cells = synthesize(
            project.sources, project.top, timeout_s=model.timeout_s, memory_limit_mib=model.memory_limit_mib
        )
    part = find_part(target.part)
    return HardwareReport(
        stage=CostStage.RTL_SYNTH,
        tool="yosys",
        tool_version=cells.yosys_version,
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        lut=cells.lut,
        ff=cells.ff,
        dsp=cells.dsp,
        bram18=cells.bram18,
        latency_cycles=project.latency_cycles,
        ii=1,
        content_hash=design.content_hash,
        available=Available(part.lut, part.ff, part.dsp, part.bram18, part.uram) if part else None,
        details={
            "note": CLOCK_NOTE,
            "limits": list(LIMITS),
            "made_by": design.made_by,
            "alkaid_version": alkaid_version(),
            "alkaid_cost": float(comb.cost),
            "pipeline_stages": project.stages,
            "register_ranks": project.register_ranks,
            "longest_stage_units": round(project.longest_stage, 3),
            "estimated_period_ns": round(model.delay_model.period_ns(project.longest_stage), 3),
            "estimated_period_note": "estimate by delay_model, whose constants are assumed unless you set them",
            "delay_model": asdict(model.delay_model),
            "yosys_seconds": round(cells.seconds, 3),
        },
    )


def full_option(design: ForeignDesign, cost: HardwareReport, clock_multiple: int) -> FullOption:
    """The design as the full model of a two-stage trigger; ``design.scores`` gives the sample's full scores.

    cost             by ``measure_foreign``
    clock_multiple   clock cycles per bunch crossing

    An adder graph is fully unrolled: there is no reuse factor above 1. Raises as ``FullOption`` does.
    """
    return FullOption(design.name, UNROLLED[0], 1, cost, clock_multiple)
