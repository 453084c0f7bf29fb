"""What a foreign design costs as Verilog: the ``rtl`` flow from its adder graph on."""

from __future__ import annotations

from trigger_prune.cost.report import HardwareReport
from trigger_prune.entry.foreign import ForeignDesign
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.target import Target
from trigger_prune.two_stage.options import UNROLLED, FullOption


def measure_foreign(design: ForeignDesign, model: RtlCost, target: Target) -> HardwareReport:
    """Cost of a foreign design, comparable with that of a network measured by the same ``model``.

    There is no split by layers. Raises ToolError and CostError as ``RtlCost.measure`` does.
    """
    report = model.measure_comb(design.comb, target, design.content_hash)
    return report.with_details(made_by=design.made_by)


def full_option(design: ForeignDesign, cost: HardwareReport, clock_multiple: int) -> FullOption:
    """The design as the full model of a two-stage trigger; ``design.scores`` gives the sample's full scores.

    cost             by ``measure_foreign``
    clock_multiple   clock cycles per bunch crossing

    An adder graph is fully unrolled: there is no reuse factor above 1. Raises as ``FullOption`` does.
    """
    return FullOption(design.name, UNROLLED[0], 1, cost, clock_multiple)
