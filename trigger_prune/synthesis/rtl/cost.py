"""``RtlCost``: what a network costs as its own Verilog, measured without vendor tools."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from torch import fx, nn

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.trace import HARD_DC, alkaid_version, check_trace, trace_network
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.synthesis.rtl.yosys import FAMILY, synthesize
from trigger_prune.target import Target

CLOCK_NOTE = "no place and route was run: that the clock period is reached is not proven"


@dataclass(frozen=True)
class RtlCost:
    """A ``CostModel``: network -> alkaid -> Verilog (initiation interval 1) -> Yosys cells.

    adders_per_stage   see ``write_verilog``
    timeout_s          wall-clock limit of Yosys
    memory_limit_mib   memory limit of Yosys and abc together

    Reuse factor, strategy and io_type of the target do not apply to this Verilog and are ignored: it is always fully
    parallel. A measurement is one child process, so several can run at once.
    """

    adders_per_stage: float = 5.0
    timeout_s: float = 900.0
    memory_limit_mib: float = 8192.0
    name = "rtl"
    stage = CostStage.RTL_SYNTH

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
        """Cost of a network of plain layers whose weights are on their grids (see ``trace_network``)."""
        start = time.monotonic()
        comb = trace_network(frozen, input_type, input_shape)
        traced = time.monotonic()
        probes = check_trace(comb, frozen, input_type, input_shape)
        with tempfile.TemporaryDirectory(prefix="trigger_prune_rtl_") as scratch:
            project = write_verilog(comb, Path(scratch), adders_per_stage=self.adders_per_stage, target=target)
            cells = synthesize(
                project.sources, project.top, timeout_s=self.timeout_s, memory_limit_mib=self.memory_limit_mib
            )
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
            details={
                "note": CLOCK_NOTE,
                "alkaid_version": alkaid_version(),
                "alkaid_cost": float(comb.cost),
                "hard_dc": HARD_DC,
                "adders_per_stage": self.adders_per_stage,
                "pipeline_stages": project.stages,
                "register_ranks": project.register_ranks,
                "carry4": cells.carry4,
                "cells": cells.cells,
                "yosys_family": FAMILY,
                "yosys_script": cells.script,
                "probe_events_compared": probes,
                "trace_seconds": round(traced - start, 3),
                "yosys_seconds": round(cells.seconds, 3),
            },
        )
