"""``RtlCost``: what a network costs as its own Verilog, measured without vendor tools."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import fx, nn

from trigger_prune.cost.report import Available, CostStage, HardwareReport
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.parts import find_part
from trigger_prune.synthesis.rtl import layers
from trigger_prune.synthesis.rtl.ecp5 import Ecp5Timing, place_and_route_ecp5
from trigger_prune.synthesis.rtl.pipeline import DelayModel, adder_depth, stages_for_clock
from trigger_prune.synthesis.rtl.trace import HARD_DC, alkaid_version, check_trace, trace_layers
from trigger_prune.synthesis.rtl.verilog import Language, RtlProject, write_verilog, write_vhdl
from trigger_prune.synthesis.rtl.yosys import FAMILY, CellCounts, synthesize
from trigger_prune.target import Target

CLOCK_NOTE = "timing not closed: no place and route was run, the clock period comes from a stated delay model"

LIMITS = (
    "fully unrolled, a new event every clock (II = 1): reuse factor, strategy and io_type do not apply",
    "pairs of small LUTs are not packed into LUT6_2, inverters count as a LUT: Vivado needs fewer",
    "carry chains are CARRY4 as in a 7-series device; an UltraScale+ CARRY8 replaces two",
    "no UltraScale+ timing: delays are estimates by the stated delay model",
)
"""What holds of every report of this stage."""


@dataclass(frozen=True)
class RtlCost:
    """A ``CostModel``: network -> alkaid -> Verilog (initiation interval 1) -> Yosys cells.

    adders_per_stage    see ``write_verilog``; used when neither of the next two is set
    timeout_s           wall-clock limit of Yosys, and of each place and route run
    memory_limit_mib    memory limit of Yosys and abc together, and of place and route
    pipeline_stages     number of pipeline stages
    pipeline_for_clock  as many stages as ``delay_model`` needs for the target's clock period: an estimate
    delay_model         also gives the estimated period in the report's details
    ecp5_seeds          place and route on an ECP5 with seeds 1..n (minutes each); 0 = not at all

    Reuse factor, strategy and io_type of the target do not apply to this Verilog and are ignored: it is always fully
    parallel. A measurement is one child process at a time, so several can run at once.

    Raises CostError when two ways of cutting the pipeline are set, or one makes no sense.
    """

    adders_per_stage: float = 5.0
    timeout_s: float = 900.0
    memory_limit_mib: float = 8192.0
    pipeline_stages: int | None = None
    pipeline_for_clock: bool = False
    delay_model: DelayModel = field(default_factory=DelayModel)
    ecp5_seeds: int = 0
    name = "rtl"
    stage = CostStage.RTL_SYNTH

    def __post_init__(self) -> None:
        if self.pipeline_stages is not None and self.pipeline_for_clock:
            raise CostError("pipeline_stages and pipeline_for_clock both say where to cut", hint="set one of them")
        if self.pipeline_stages is not None and self.pipeline_stages < 1:
            raise CostError(f"{self.pipeline_stages} pipeline stages: at least 1 is needed")
        if self.ecp5_seeds < 0:
            raise CostError(f"ecp5_seeds {self.ecp5_seeds} is negative")

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Cost of a quantised network.

        Raises CostError, UnsupportedLayerError, VerificationError (the adder graph is compared with the network
        first) and ToolError (Yosys missing, failed, or over its limits).
        """
        from trigger_prune.quantize.describe import describe_network
        from trigger_prune.quantize.freeze import freeze

        if not isinstance(network, fx.GraphModule):
            raise CostError(f"{type(network).__name__} is not a quantised network", hint="call quantize_model first")
        spec = describe_network(network)
        return self.measure_frozen(freeze(network), spec.input_type, spec.input_shape, target, spec.content_hash())

    def measure_frozen(
        self,
        frozen: nn.Module,
        input_type: FixedPoint,
        input_shape: tuple[int, ...],
        target: Target,
        content_hash: str = "",
    ) -> HardwareReport:
        """Cost of a network of plain layers whose weights are on their grids (see ``trace_network``).

        ``layers`` of the report shares the measured LUTs out by alkaid's cost: an attribution, not a measurement.
        """
        start = time.monotonic()
        comb, layer_costs = trace_layers(frozen, input_type, input_shape)
        traced = time.monotonic()
        probes = check_trace(comb, frozen, input_type, input_shape)
        report = self.measure_comb(comb, target, content_hash)
        return replace(
            report,
            layers=layers.share_out(report.lut or 0, layer_costs),
            details=report.details
            | {
                "layers_note": layers.NOTE,
                "hard_dc": HARD_DC,
                "probe_events_compared": probes,
                "trace_seconds": round(traced - start, 3),
            },
        )

    def measure_comb(self, comb: Any, target: Target, content_hash: str = "") -> HardwareReport:
        """Cost of an adder graph of alkaid, whoever made it; no layer is told from another."""
        with tempfile.TemporaryDirectory(prefix="trigger_prune_rtl_") as scratch:
            project = self.write(comb, Path(scratch), target)
            cells = synthesize(
                project.sources, project.top, timeout_s=self.timeout_s, memory_limit_mib=self.memory_limit_mib
            )
            ecp5 = self._place_and_route(project, target)
        part = find_part(target.part)
        return HardwareReport(
            stage=self.stage,
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
            content_hash=content_hash,
            available=Available(part.lut, part.ff, part.dsp, part.bram18, part.uram) if part else None,
            details={
                "note": CLOCK_NOTE,
                "limits": list(LIMITS),
                "alkaid_version": alkaid_version(),
                "alkaid_cost": float(comb.cost),
                **self._pipeline_details(comb, project),
                **_cell_details(cells),
                **_ecp5_details(ecp5),
            },
        )

    def write(self, comb: Any, folder: Path, target: Target, *, language: Language = "verilog") -> RtlProject:
        """The Verilog or VHDL of a traced network, cut as this cost model cuts it."""
        stages = self.pipeline_stages
        if self.pipeline_for_clock:
            stages = stages_for_clock(comb, target.clock_period_ns, self.delay_model)
        adders = self.adders_per_stage if stages is None else None
        write = write_verilog if language == "verilog" else write_vhdl
        return write(comb, folder, adders_per_stage=adders, pipeline_stages=stages, target=target)

    def _place_and_route(self, project: RtlProject, target: Target) -> Ecp5Timing | None:
        if not self.ecp5_seeds:
            return None
        return place_and_route_ecp5(
            project,
            seeds=range(1, self.ecp5_seeds + 1),
            clock_period_ns=target.clock_period_ns,
            timeout_s=self.timeout_s,
            memory_limit_mib=self.memory_limit_mib,
        )

    def _pipeline_details(self, comb: Any, project: RtlProject) -> dict[str, Any]:
        chosen = self.pipeline_stages is not None or self.pipeline_for_clock
        return {
            "adders_per_stage": None if chosen else self.adders_per_stage,
            "pipeline_for_clock": self.pipeline_for_clock,
            "pipeline_stages": project.stages,
            "register_ranks": project.register_ranks,
            "register_bits": project.register_bits,
            "adder_depth": adder_depth(comb),
            "longest_stage_units": round(project.longest_stage, 3),
            "estimated_period_ns": round(self.delay_model.period_ns(project.longest_stage), 3),
            "estimated_period_note": "estimate by delay_model, whose constants are assumed unless you set them",
            "delay_model": asdict(self.delay_model),
        }


def _cell_details(cells: CellCounts) -> dict[str, Any]:
    return {
        "lut_by_type": cells.lut_by_type,
        "ff_by_type": cells.ff_by_type,
        "carry4": cells.carry4,
        "logic_depth_cells": cells.logic_depth,
        "cells": cells.cells,
        "yosys_family": FAMILY,
        "yosys_script": cells.script,
        "yosys_seconds": round(cells.seconds, 3),
        "yosys_cpu_seconds": round(cells.cpu_seconds, 3),
        "yosys_peak_mib": round(cells.peak_mib, 1),
    }


def _ecp5_details(timing: Ecp5Timing | None) -> dict[str, Any]:
    if timing is None:
        return {}
    return {
        "ecp5": {
            **asdict(timing),
            "fmax_mhz": list(timing.fmax_mhz),
            "seeds": list(timing.seeds),
            "median_fmax_mhz": timing.median_fmax_mhz,
            "note": "another FPGA family: not a clock of the target part",
        }
    }
