"""The generated Verilog, test bench and README of a two-stage firmware, from their templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trigger_prune.synthesis.rtl.verilator_runtime import RUNTIME_SOURCES
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.templates import template_environment
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors
from trigger_prune.two_stage.firmware.verilog.cores import FULL, LIGHT, Core, Cores
from trigger_prune.two_stage.firmware.verilog.wiring import reading, score_circuit
from trigger_prune.units import BUNCH_CROSSING_NS

TOP = "two_stage_top"
TEST = "two_stage_test.cpp"
SIMULATE = "simulate.sh"
BENCH = "two_stage_tb.v"

COUNTER_BITS = 32

VERILATOR_FLAGS = (
    *("--cc", "--prefix", "Vdesign", "--Mdir", "cpp", "--top-module", TOP),
    *("-Wno-fatal", "-Wno-lint", "--no-timing"),
)
# Optimising takes longer than it saves for fewer than some million crossings.
COMPILER_FLAGS = ("-O0", "-std=c++17", "-w", "-pthread")

_VERILOG = (TOP, "two_stage_queue", "delay_line")


def context_of(design: FirmwareDesign, cores: Cores, copies: int) -> dict[str, Any]:
    """Numbers and expressions that the templates need; ``design.timing`` is that of the generated design."""
    engine, timing, thresholds = design.engine, design.timing, design.thresholds
    n, output_cycles = design.objects_per_crossing, timing.output_cycles(engine)
    light, full = score_circuit(cores.light), score_circuit(cores.full)
    full_reading = reading(design, cores.full)
    # a power of two, so that a counter of crossings finds its place; a crossing leaves before its successor comes
    index_bits = _bits(output_cycles // engine.clock_multiple)
    position_bits = _bits(n - 1)
    return {
        "design": design,
        "engine": engine,
        "timing": timing,
        "n": n,
        "lanes": copies,
        "slots": -(-n // copies),
        "slot_bits": _bits(-(-n // copies)),
        "depth": engine.fifo_depth,
        "waiting_bits": _bits(engine.fifo_depth),
        "ones_bits": _bits(n),
        "object_bits": design.words_per_object * design.input_type.width,
        "light": light,
        "full": full,
        "light_core": cores.light,
        "full_core": cores.full,
        "light_reading": reading(design, cores.light),
        "full_reading": full_reading,
        "arrival": timing.light_cycles + timing.enqueue_cycles,
        "output_cycles": output_cycles,
        "output_crossings": output_cycles // engine.clock_multiple,
        "index_bits": index_bits,
        "memory_depth": 1 << index_bits,
        "position_bits": position_bits,
        "tag_bits": index_bits + position_bits,
        "item_bits": index_bits + position_bits + full_reading.bits,
        "thresholds": (
            ("REJECT", thresholds.t_reject),
            ("ACCEPT", thresholds.t_accept),
            ("FULL", thresholds.t_full),
            ("OVERFLOW", thresholds.t_overflow),
        ),
        "t_reject": thresholds.t_reject,
        "t_accept": thresholds.t_accept,
        "t_full": thresholds.t_full,
        "t_overflow": thresholds.t_overflow,
        "threshold_bits": lambda value: abs(value).bit_length() + 1,
        "light_formula": _formula(cores.light),
        "full_formula": _formula(cores.full),
        "clock_mhz": 1e3 * engine.clock_multiple / BUNCH_CROSSING_NS,
        "bits": _bits,
        "counter_bits": COUNTER_BITS,
        "verilator_flags": VERILATOR_FLAGS,
        "compiler_flags": COMPILER_FLAGS,
        "library": RUNTIME_SOURCES,
    }


def write_sources(
    folder: Path, design: FirmwareDesign, cores: Cores, copies: int, vectors: FirmwareVectors
) -> tuple[Path, ...]:
    """Write everything but the vectors into ``folder``; returns the Verilog files in ``folder/src``."""
    context = {**context_of(design, cores, copies), "counters": tuple(vectors.trace.counters), "vectors": vectors}
    environment = template_environment(__package__)

    def render(template: str, **more: Any) -> str:
        return environment.get_template(template).render(context, **more)

    verilog = {f"{name}.v": render(f"{name}.v.j2") for name in _VERILOG}
    for role, core in ((LIGHT, cores.light), (FULL, cores.full)):
        verilog[f"{role}_network.v"] = render(
            "scored_core.v.j2",
            role=role,
            core=core,
            score=context[role],
            reading=context[f"{role}_reading"],
            out_bits=sum(port.width for port in core.outputs),
        )
        assert not set(verilog) & set(core.sources), "two modules have the same file"
        verilog.update(core.sources)
        verilog.update(core.library)
    (folder / "src").mkdir()
    for name, text in verilog.items():
        (folder / "src" / name).write_text(text, encoding="utf-8")
    for name in (TEST, BENCH, SIMULATE, "README.md"):
        (folder / name).write_text(render(f"{name}.j2"), encoding="utf-8")
    (folder / SIMULATE).chmod(0o755)
    return tuple(folder / "src" / name for name in verilog)


def _formula(core: Core) -> str:
    return core.model.score.describe([str(k) for k in range(len(core.outputs))])


def _bits(largest: int) -> int:
    """Bits of a counter up to ``largest``."""
    return max(1, largest.bit_length())
