"""The adder graph as a Verilog project, cut into pipeline stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trigger_prune.errors import CostError
from trigger_prune.target import Target

TOP_MODULE = "model"


@dataclass(frozen=True)
class VerilogProject:
    """Written Verilog of one network.

    sources          files of the design, without alkaid's simulation wrapper
    stages           pipeline stages: pieces of logic with registers on both sides (0 for combinational logic)
    register_ranks   ranks of registers between input port and output port: one at the input, one behind every stage
    latency_cycles   clock edges from an event at the input port to its result at the output port = register_ranks.
                     The design takes a new event every cycle (initiation interval 1).
    register_bits    bits of those registers before synthesis removes any
    """

    folder: Path
    top: str
    sources: tuple[Path, ...]
    stages: int
    register_ranks: int
    register_bits: int

    @property
    def latency_cycles(self) -> int:
        return self.register_ranks


def write_verilog(
    comb: Any, folder: Path, *, adders_per_stage: float | None, target: Target, top: str = TOP_MODULE
) -> VerilogProject:
    """Write the Verilog of a traced network (``trace_network``) into ``folder``.

    ``adders_per_stage`` is the longest delay of a stage in alkaid's units, in which an adder of ``w`` bits takes
    1.07 + 0.025 w; the stages are balanced. None gives combinational logic without a clock.

    Raises CostError for a network without inputs or outputs that vary, or a delay that is not positive.
    """
    if adders_per_stage is not None and not adders_per_stage > 0:
        raise CostError(f"adders_per_stage {adders_per_stage} is not positive")
    if int(comb.inp_kifs.sum()) == 0 or int(comb.out_kifs.sum()) == 0:
        raise CostError(
            "the network's outputs do not depend on its inputs: there is no logic to build",
            hint="it was pruned too far; lower the sparsity",
        )
    from alkaid.codegen import RTLModel

    project = RTLModel(
        comb,
        folder,
        top,
        flavor="verilog",
        latency_cutoff=-1 if adders_per_stage is None else adders_per_stage,
        print_latency=False,
        part_name=target.part,
        clock_period=target.clock_period_ns,
        # Yosys has no mapping for ternary adders: they would cost 1.6 times more LUTs than two plain ones.
        ternary_fuse=False,
    )
    project.write()
    ranks = sum(signal.reg for signal in project.fsm.signals.values())
    sources = [p for p in sorted((folder / "src").glob("*.v")) if p.stem != f"{top}_wrapper"]
    sources += sorted((folder / "src" / "static").glob("*.v"))
    return VerilogProject(folder, top, tuple(sources), max(ranks - 1, 0), ranks, int(project.reg_bits))
