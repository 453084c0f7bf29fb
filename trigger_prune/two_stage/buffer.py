"""FIFO and control between the two models: what stands beside them in the firmware, counted part by part.

No report of such a design is public: every number is a count of primitives, of stage ``analytic``, under a tool name of
its own, so that nobody adds it to the cost of a model unnoticed. A shift register of up to 32 bits is one LUT (SRL32,
UG574), a block RAM of 18 Kbit holds 512 words of 36 bits; comparators and adders count as csynth does from 2023
(``cost/hls/comparison.py``), the handshake of a FIFO likewise (``cost/hls/fifo.py``).

* FIFO: K words of an object. Up to 32 deep in shift registers, deeper in block RAM. The objects of a crossing are
  written one after the other, in as many lanes as that takes within a crossing: the first can start at once and the
  engine never takes two in a cycle, so this is as quick as writing them together.
* delay line: the objects' features, until the light score of their crossing is there; one crossing a step.
* selection: holds the objects of a crossing and brings the escalated ones to the FIFO; nothing for a single object.
* comparators: t_reject, t_accept, t_overflow for every object, t_full once.
* scheduler: cycles of work ahead of a new object, in cycles, which says who finds room; the crossing of every object
  on its way through FIFO and engine.
* output: one bit for each crossing that is still to be decided, with its decoder.
* counters: the ten monitoring counters of the firmware.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trigger_prune.cost.hls.comparison import adder_lut, compare_lut
from trigger_prune.cost.hls.design import HlsSetting
from trigger_prune.cost.hls.from_spec import HLS_VERSION
from trigger_prune.cost.report import CostStage, HardwareReport, LayerCost
from trigger_prune.errors import ConfigError
from trigger_prune.two_stage.findings import DesignPart
from trigger_prune.two_stage.options import BufferCost
from trigger_prune.two_stage.traffic import MAX_BATCH, Engine
from trigger_prune.units import BUNCH_CROSSING_NS

TOOL = "trigger_prune count of primitives"
TOOL_VERSION = "1"
"""Changes with every change of the counts."""

SRL_DEPTH = 32
BRAM_ROWS, BRAM_BITS = 512, 36
FIFO_LUT, FIFO_FF = 12, 5
"""Handshake and address of a FIFO."""

BRAM_LUT, ADDRESS_FF, BRAM_FF = 17, 3, 3
"""What block RAM adds: control, and an address that counts on both sides; the output word is registered too."""

MUX_INPUTS = 4
"""One LUT selects one bit of four; wider multiplexers combine them in dedicated ones (MUXF7, MUXF8), which are free."""

SUM_COUNTERS = 9
"""Counters of objects and crossings; the tenth keeps the longest queue seen."""


@dataclass(frozen=True)
class BufferShape:
    """What passes between the two models.

    word_bits             an object, as the full model reads it
    light_score_bits, full_score_bits
    objects_per_crossing  most objects of a crossing, all of which arrive at once
    light_cycles          from a crossing's inputs to its light scores; of several light models the slowest
    output_crossings      crossings that are still to be decided at any time: the latency of the decision
    part                  full part number
    counter_bits          of a monitoring counter

    Raises ConfigError for values that make no sense.
    """

    word_bits: int
    light_score_bits: int
    full_score_bits: int
    objects_per_crossing: int
    light_cycles: int
    output_crossings: int
    part: str
    counter_bits: int = 48

    def __post_init__(self) -> None:
        sizes = (self.word_bits, self.light_score_bits, self.full_score_bits, self.output_crossings, self.counter_bits)
        if min(sizes) < 1 or self.light_cycles < 0 or not 1 <= self.objects_per_crossing <= MAX_BATCH:
            raise ConfigError(f"a buffer of this shape makes no sense: {self}")


def buffer_cost(shape: BufferShape) -> BufferCost:
    """Cost of everything beside the models, for any engine; ``buffer_parts`` shows its lines."""

    def cost(engine: Engine) -> HardwareReport:
        return _report(engine, shape.part, (_fifo(engine, shape.word_bits), *_control(engine, shape)))

    return cost


def fifo_cost(engine: Engine, word_bits: int, part: str) -> HardwareReport:
    """The FIFO alone. Nothing at depth 0."""
    return _report(engine, part, (_fifo(engine, word_bits),))


def control_cost(engine: Engine, shape: BufferShape) -> HardwareReport:
    """Everything but the FIFO."""
    return _report(engine, shape.part, _control(engine, shape))


def buffer_parts(report: HardwareReport) -> tuple[DesignPart, ...]:
    """One part for every line of ``report``; each is a report of the same source."""
    return tuple(
        DesignPart(
            line.name,
            replace(
                report,
                lut=line.lut,
                ff=line.ff,
                dsp=line.dsp,
                bram18=line.bram18,
                layers=(line,),
                content_hash=f"{line.name} of {report.content_hash}",
            ),
        )
        for line in report.layers
    )


def shift_register_lut(bits: int, depth: int) -> int:
    """LUTs of ``bits`` shift registers of ``depth`` steps."""
    return bits * math.ceil(depth / SRL_DEPTH)


def memory_bram18(depth: int, bits: int) -> int:
    """18K block RAMs of a memory with one port to write and one to read: 512 x 36 bits each."""
    return math.ceil(depth / BRAM_ROWS) * math.ceil(bits / BRAM_BITS)


def _fifo(engine: Engine, word_bits: int) -> LayerCost:
    depth = engine.fifo_depth
    if depth == 0:
        return _line("FIFO of depth 0")
    if depth <= SRL_DEPTH:
        lut = FIFO_LUT + shift_register_lut(word_bits, depth)
        return _line(f"FIFO, {depth} x {word_bits} bits in shift registers", lut, FIFO_FF)
    ff = word_bits + ADDRESS_FF * math.ceil(math.log2(depth)) + BRAM_FF
    name = f"FIFO, {depth} x {word_bits} bits in block RAM"
    return _line(name, FIFO_LUT + word_bits + BRAM_LUT, ff, memory_bram18(depth, word_bits))


def _control(engine: Engine, shape: BufferShape) -> tuple[LayerCost, ...]:
    return (
        _delay_line(engine, shape),
        *([_selection(engine, shape)] if shape.objects_per_crossing > 1 else []),
        _comparators(shape),
        _scheduler(engine, shape),
        _output(shape),
        _counters(engine, shape),
    )


def _delay_line(engine: Engine, shape: BufferShape) -> LayerCost:
    steps = math.ceil(shape.light_cycles / engine.clock_multiple)
    bits = shape.objects_per_crossing * shape.word_bits
    name = f"delay of the features, {steps} x {bits} bits, one step per crossing"
    return _line(name, shift_register_lut(bits, steps))


def _selection(engine: Engine, shape: BufferShape) -> LayerCost:
    objects = shape.objects_per_crossing
    lanes = math.ceil(objects / engine.clock_multiple)
    lut = lanes * shape.word_bits * math.ceil(objects / MUX_INPUTS)
    return _line(f"selection of objects, 1 of {objects}", lut, objects * shape.word_bits)


def _comparators(shape: BufferShape) -> LayerCost:
    setting = _setting(shape.part)
    objects = shape.objects_per_crossing
    lut = 3 * objects * compare_lut(shape.light_score_bits, setting) + compare_lut(shape.full_score_bits, setting)
    # the result of each is registered
    return _line("comparators", lut, 3 * objects + 1)


def _scheduler(engine: Engine, shape: BufferShape) -> LayerCost:
    setting = _setting(shape.part)
    work_bits = _bits(engine.drain_bound_cycles)
    owner_bits = _bits(shape.output_crossings)
    objects = shape.objects_per_crossing
    # each object in turn: is there room, and the work with it; once per crossing a crossing's cycles are taken off
    lut = objects * (compare_lut(work_bits, setting) + adder_lut(work_bits, setting)) + adder_lut(work_bits, setting)
    # the engine's own interval, and the crossing that is counted
    interval_bits = _bits(engine.ii_cycles)
    lut += adder_lut(interval_bits, setting) + adder_lut(owner_bits, setting)
    under_way = 1 + shape.output_crossings * engine.clock_multiple // engine.ii_cycles
    lut += FIFO_LUT + shift_register_lut(owner_bits, under_way)
    return _line("scheduler", lut, work_bits + interval_bits + owner_bits + FIFO_FF)


def _output(shape: BufferShape) -> LayerCost:
    crossings = shape.output_crossings
    # a bit is cleared, set by the light model, or set by the full one; one in four is read per LUT
    lut = crossings + math.ceil(crossings / MUX_INPUTS)
    return _line(f"output, {crossings} crossings", lut, crossings + 2)


def _counters(engine: Engine, shape: BufferShape) -> LayerCost:
    setting = _setting(shape.part)
    most_bits = _bits(engine.fifo_depth)
    lut = SUM_COUNTERS * adder_lut(shape.counter_bits, setting) + compare_lut(most_bits, setting)
    return _line("monitoring counters", lut, SUM_COUNTERS * shape.counter_bits + most_bits)


def _bits(largest: int) -> int:
    return max(1, largest.bit_length())


def _line(name: str, lut: float = 0, ff: int = 0, bram18: int = 0) -> LayerCost:
    return LayerCost(name, lut=round(lut), ff=ff, dsp=0, bram18=bram18, uram=0)


def _setting(part: str) -> HlsSetting:
    return HlsSetting("vitis_hls", HLS_VERSION, part, "", 1.0)


def _report(engine: Engine, part: str, lines: Sequence[LayerCost]) -> HardwareReport:
    def total(name: str) -> int:
        return sum(getattr(line, name) or 0 for line in lines)

    return HardwareReport(
        stage=CostStage.ANALYTIC,
        tool=TOOL,
        tool_version=TOOL_VERSION,
        part=part,
        clock_period_ns=BUNCH_CROSSING_NS / engine.clock_multiple,
        lut=total("lut"),
        ff=total("ff"),
        dsp=0,
        bram18=total("bram18"),
        latency_cycles=None,
        ii=None,
        content_hash=f"K {engine.fifo_depth}, II {engine.ii_cycles}, {engine.clock_multiple} cycles; "
        + "; ".join(line.name for line in lines),
        layers=tuple(lines),
        details={"note": "count of primitives; no tool was run, and no report of such a design is public"},
        uram=0,
    )
