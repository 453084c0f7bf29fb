"""The adder graph as a Verilog or VHDL project, cut into pipeline stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trigger_prune.errors import CostError
from trigger_prune.synthesis.rtl.pipeline import longest_stage
from trigger_prune.synthesis.rtl.ports import PortType, port_types
from trigger_prune.target import Target

TOP_MODULE = "model"

Language = Literal["verilog", "vhdl"]


@dataclass(frozen=True)
class RtlProject:
    """Written hardware description of one network.

    sources          files of the design in an order in which they can be compiled, without alkaid's simulation wrapper
    stages           pipeline stages: pieces of logic with registers on both sides (0 for combinational logic)
    register_ranks   ranks of registers between input port and output port: one at the input, one behind every stage
    latency_cycles   clock edges from an event at the input port to its result at the output port = register_ranks.
                     The design takes a new event every cycle (initiation interval 1).
    register_bits    bits of those registers before synthesis removes any
    longest_stage    delay of the slowest stage in alkaid's units (about one per adder)
    inputs, outputs  fixed-point types on the ports ``model_inp`` and ``model_out``, lowest bits first
    """

    folder: Path
    top: str
    sources: tuple[Path, ...]
    stages: int
    register_ranks: int
    register_bits: int
    longest_stage: float
    inputs: tuple[PortType, ...]
    outputs: tuple[PortType, ...]
    language: Language

    @property
    def latency_cycles(self) -> int:
        return self.register_ranks


def write_verilog(
    comb: Any,
    folder: Path,
    *,
    adders_per_stage: float | None = None,
    pipeline_stages: int | None = None,
    target: Target,
    top: str = TOP_MODULE,
) -> RtlProject:
    """Write the Verilog of a traced network (``trace_network``) into ``folder``.

    ``pipeline_stages`` is the number of stages. ``adders_per_stage`` chooses it instead: as many as cut the longest
    path into equal pieces of at most that delay, in alkaid's units, in which an adder of ``w`` bits takes
    1.07 + 0.025 w. An adder is never cut, so a stage may be longer by up to one adder (``longest_stage``). Neither of
    them: combinational logic without a clock.

    Raises CostError for a network without inputs or outputs that vary, and for a cut that makes no sense.
    """
    return _write(comb, folder, adders_per_stage, pipeline_stages, target, top, "verilog")


def write_vhdl(
    comb: Any,
    folder: Path,
    *,
    adders_per_stage: float | None = None,
    pipeline_stages: int | None = None,
    target: Target,
    top: str = TOP_MODULE,
) -> RtlProject:
    """The same design in VHDL-2008 (compile into library ``work``); arguments and errors as ``write_verilog``."""
    return _write(comb, folder, adders_per_stage, pipeline_stages, target, top, "vhdl")


def _write(
    comb: Any,
    folder: Path,
    adders_per_stage: float | None,
    pipeline_stages: int | None,
    target: Target,
    top: str,
    language: Language,
) -> RtlProject:
    if adders_per_stage is not None and pipeline_stages is not None:
        raise CostError("adders_per_stage and pipeline_stages both say where to cut", hint="give one of them")
    if adders_per_stage is not None and not adders_per_stage > 0:
        raise CostError(f"adders_per_stage {adders_per_stage} is not positive")
    if pipeline_stages is not None and pipeline_stages < 1:
        raise CostError(f"{pipeline_stages} pipeline stages: at least 1 is needed")
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
        flavor=language,
        n_stages=-1 if pipeline_stages is None else pipeline_stages,
        latency_cutoff=-1 if adders_per_stage is None else adders_per_stage,
        print_latency=False,
        part_name=target.part,
        clock_period=target.clock_period_ns,
        # Yosys has no mapping for ternary adders: they would cost 1.6 times more LUTs than two plain ones.
        ternary_fuse=False,
    )
    project.write()
    ranks = sum(signal.reg for signal in project.fsm.signals.values())
    inputs, outputs = port_types(comb)
    return RtlProject(
        folder=folder,
        top=top,
        sources=_sources(folder / "src", top, language),
        stages=max(ranks - 1, 0),
        register_ranks=ranks,
        register_bits=int(project.reg_bits),
        longest_stage=longest_stage(project.fsm.logic.values()),
        inputs=inputs,
        outputs=outputs,
        language=language,
    )


def _sources(folder: Path, top: str, language: Language) -> tuple[Path, ...]:
    suffix = "v" if language == "verilog" else "vhd"
    library = sorted((folder / "static").glob(f"*.{suffix}"))
    design = sorted(path for path in folder.glob(f"*.{suffix}") if path.stem != f"{top}_wrapper")
    if language == "verilog":
        return (*design, *library)
    # VHDL units are compiled after those that they use: library, tables, logic, top.
    rank = {f"{top}_tables": 0, top: 2}
    return (*library, *sorted(design, key=lambda path: (rank.get(path.stem, 1), path.name)))
