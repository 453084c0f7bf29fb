"""The two networks as alkaid Verilog that can stand in one design: fully parallel, an object every cycle."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.errors import ConfigError
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.ports import PortType
from trigger_prune.synthesis.rtl.trace import check_trace, trace_network
from trigger_prune.synthesis.rtl.verilog import RtlProject, write_verilog
from trigger_prune.target import Target
from trigger_prune.two_stage.firmware.cycle_model import FirmwareTiming
from trigger_prune.two_stage.firmware.design import FirmwareModel
from trigger_prune.two_stage.traffic import Engine

LIGHT, FULL = "light", "full"

ADDERS_PER_STAGE = 5.0
"""Longest piece of logic between two registers of a core, as in ``write_verilog``."""

ENQUEUE_CYCLES = 1
"""Comparators and the registers that collect the objects of a crossing."""

DECIDE_CYCLES = 2
"""Register behind the last comparator, register at the output."""

_MODULE = re.compile(r"^\s*module\s+(\w+)", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class Core:
    """One network.

    module          name of its top module, with the ports clk, model_inp and model_out
    sources         file name: Verilog; every module but those of alkaid's library has a name of its own
    library         file name: Verilog of that library, the same for all cores
    core_cycles     clock edges from model_inp to model_out
    inputs, outputs   fixed-point types on the two ports, lowest bits first
    """

    module: str
    model: FirmwareModel
    sources: Mapping[str, str]
    library: Mapping[str, str]
    core_cycles: int
    inputs: tuple[PortType, ...]
    outputs: tuple[PortType, ...]

    @property
    def score_register(self) -> bool:
        """A difference of outputs gets a register; a single output comes out of one already."""
        return self.model.score.kind == "difference"

    @property
    def score_cycles(self) -> int:
        """Clock edges from the features to the score."""
        return self.core_cycles + int(self.score_register)


@dataclass(frozen=True, eq=False)
class Cores:
    """Both networks."""

    light: Core
    full: Core


def make_cores(
    light: FirmwareModel, full: FirmwareModel, target: Target, adders_per_stage: float = ADDERS_PER_STAGE
) -> Cores:
    """Trace both networks and write their Verilog, cut into stages of ``adders_per_stage`` (see ``write_verilog``).

    Raises UnsupportedLayerError, CostError, VerificationError and ToolError as ``trace_network``, ``check_trace`` and
    ``write_verilog`` do.
    """
    return Cores(
        _make_core(f"{LIGHT}_core", light, target, adders_per_stage),
        _make_core(f"{FULL}_core", full, target, adders_per_stage),
    )


def least_copies(engine: Engine, objects_per_crossing: int) -> int:
    """Copies of the light core that judge all objects of a crossing before the next one comes."""
    return -(-objects_per_crossing // engine.clock_multiple)


def timing_of(
    cores: Cores,
    engine: Engine,
    objects_per_crossing: int,
    *,
    full_cycles: int | None = None,
    light_copies: int | None = None,
) -> FirmwareTiming:
    """Cycles of the generated design.

    full_cycles    latency of the shared full network, which a delay line makes of the core's own (None: the core's)
    light_copies   copies of the light core, each of which takes an object per cycle (None: as few as are enough)

    Raises ConfigError for a shared network that would be faster than the core, and for copies that are too few or have
    nothing to do.
    """
    copies = checked_copies(engine, objects_per_crossing, light_copies)
    slots = -(-objects_per_crossing // copies)
    own = cores.full.score_cycles
    if full_cycles is not None and full_cycles < own:
        raise ConfigError(
            f"the shared full network is to take {full_cycles} cycles, its stand-in in Verilog takes {own}",
            hint="allow more adders between two registers, or state the latency that it has at its reuse factor",
        )
    return FirmwareTiming(
        light_cycles=slots - 1 + cores.light.score_cycles,
        enqueue_cycles=ENQUEUE_CYCLES,
        full_cycles=own if full_cycles is None else full_cycles,
        decide_cycles=DECIDE_CYCLES,
    )


def checked_copies(engine: Engine, objects_per_crossing: int, light_copies: int | None) -> int:
    """Copies of the light core. Raises ConfigError as ``timing_of``."""
    least = least_copies(engine, objects_per_crossing)
    if light_copies is None:
        return least
    if not least <= light_copies <= objects_per_crossing:
        raise ConfigError(
            f"{light_copies} copies of the light network for {objects_per_crossing} objects in "
            f"{engine.clock_multiple} cycles: {least} to {objects_per_crossing} make sense"
        )
    return light_copies


def _make_core(module: str, model: FirmwareModel, target: Target, adders_per_stage: float) -> Core:
    frozen, shape = freeze(model.network), input_shape_of(model.network)
    comb = trace_network(frozen, model.input_type, shape)
    check_trace(comb, frozen, model.input_type, shape)
    with tempfile.TemporaryDirectory(prefix="trigger_prune_core_") as scratch:
        project = write_verilog(comb, Path(scratch), adders_per_stage=adders_per_stage, target=target, top=module)
        sources, library = _sources(project)
    return Core(module, model, sources, library, project.latency_cycles, project.inputs, project.outputs)


def _sources(project: RtlProject) -> tuple[dict[str, str], dict[str, str]]:
    """The network's own files, their modules renamed, and those of the library. alkaid calls all stages logicN."""
    texts = {path.name: path.read_text() for path in project.sources if path.parent.name != "static"}
    library = {path.name: path.read_text() for path in project.sources if path.parent.name == "static"}
    modules = {name for text in texts.values() for name in _MODULE.findall(text)} - {project.top}
    names = re.compile(rf"\b({'|'.join(sorted(map(re.escape, modules), key=len, reverse=True))})\b")
    renamed = {}
    for name, text in texts.items():
        own = text if not modules else names.sub(lambda found: f"{project.top}_{found[1]}", text)
        renamed[name if name.startswith(project.top) else f"{project.top}_{name}"] = own
    return renamed, library
