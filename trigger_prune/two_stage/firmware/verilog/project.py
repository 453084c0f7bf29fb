"""Two-stage design -> folder of Verilog: both networks by alkaid, a generated top, test bench, golden vectors, README.

alkaid's cores are fully parallel. Throttled to one object every II cycles and followed by a delay line, the full one
stands in for a time-shared network: same decisions, same cycles, other resources.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trigger_prune.errors import ConfigError, DataError, ExportError
from trigger_prune.synthesis.vivado.scripts import RTL_CLOCK_PORT, write_vivado_project
from trigger_prune.target import Target
from trigger_prune.two_stage.firmware.cycle_model import simulate_firmware
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors, load_vectors, save_vectors, write_text_vectors
from trigger_prune.two_stage.firmware.verilog.cores import (
    ADDERS_PER_STAGE,
    Cores,
    checked_copies,
    make_cores,
    timing_of,
)
from trigger_prune.two_stage.firmware.verilog.render import SIMULATE, TEST, TOP, write_sources
from trigger_prune.units import BUNCH_CROSSING_NS

VECTORS = "tb_data"
OBJECTS = "objects.dat"
_NPZ = "vectors.npz"
_VIVADO = "vivado"

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)

_CAUTION = """**The resources and the clock of this design are those of a fully parallel full network.** It stands in
for a time-shared one, functionally. Never quote them for the shared design.

"""


@dataclass(frozen=True, eq=False)
class VerilogFirmware:
    """What was written.

    design    with the timing of the generated Verilog
    vectors   the golden ones, traced with that timing
    cores     both networks; their own latencies are in there
    sources   Verilog files of the design
    """

    folder: Path
    design: FirmwareDesign
    vectors: FirmwareVectors
    cores: Cores
    sources: tuple[Path, ...]


def write_verilog_firmware(
    folder: Path,
    design: FirmwareDesign,
    vectors: FirmwareVectors,
    target: Target,
    *,
    cores: Cores | None = None,
    adders_per_stage: float = ADDERS_PER_STAGE,
    light_copies: int | None = None,
) -> VerilogFirmware:
    """Write the new folder ``folder``.

    design         of its timing, ``full_cycles`` counts: the latency declared for the shared full network, which the
                   stand-in is delayed to. The other parts are those of the generated Verilog (``timing_of``), and
                   so is the latency of the decision.
    vectors        a stream for this design; its trace is made anew with the generated design's timing
    target         part and clock for the Vivado scripts; the clock is that of the engine
    cores          from ``make_cores``, if there are any already (``adders_per_stage`` does not count then)
    light_copies   copies of the light network (None: as few as judge a crossing before the next one comes)

    Raises ConfigError for a full network that is declared faster than its stand-in, for cores of other networks, for a
    name that cannot name a project or a number of copies that makes no sense, ExportError for a folder that exists or
    cannot be written, and what ``make_cores`` raises.
    """
    if not _NAME.fullmatch(design.name):
        raise ConfigError(f"{design.name!r} cannot name a project", hint="use letters, digits and underscores")
    if folder.exists():
        raise ExportError(
            f"{folder} exists already", hint="choose a new folder; an existing project is never overwritten"
        )
    cores = cores or make_cores(design.light, design.full, target, adders_per_stage)
    for model, core in ((design.light, cores.light), (design.full, cores.full)):
        if core.model.network is not model.network or core.model.score != model.score:
            raise ConfigError(f"{core.module} is of another network than the design's")
    copies = checked_copies(design.engine, design.objects_per_crossing, light_copies)
    timing = timing_of(
        cores,
        design.engine,
        design.objects_per_crossing,
        full_cycles=design.timing.full_cycles,
        light_copies=copies,
    )
    timed = replace(design, timing=timing)
    traced = replace(vectors, trace=simulate_firmware(vectors.stream, timed.thresholds, timed.engine, timing))
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = scratch / folder.name
        new.mkdir()
        sources = write_sources(new, timed, cores, copies, traced)
        write_vectors(traced, new / VECTORS)
        _write_vivado(new / _VIVADO, sources, replace(target, clock_period_ns=_period_ns(timed)))
        new.rename(folder)
    except OSError as error:
        raise ExportError(f"the two-stage firmware {folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return VerilogFirmware(folder, timed, traced, cores, tuple(folder / "src" / path.name for path in sources))


def write_vectors(vectors: FirmwareVectors, folder: Path) -> None:
    """What the test bench reads: ``inputs.dat``, ``golden.dat``, ``counters.dat`` and ``objects.dat``; and all of it.

    ``objects.dat`` has a line per object: fate (0 rejected, 1 accepted at once, 2 to the full network, 3 lost), light
    score, cycle in which the full network starts, cycle of its score (-1 where it never does), full score.
    """
    write_text_vectors(vectors, folder)
    trace, stream = vectors.trace, vectors.stream
    rows = np.stack([trace.fate, stream.light, trace.start_cycle, trace.score_cycle, stream.full], axis=1)
    temporary = folder / f".{OBJECTS}.part"
    temporary.write_text("".join(f"{' '.join(map(str, row))}\n" for row in rows.tolist()))
    temporary.replace(folder / OBJECTS)
    save_vectors(vectors, folder / _NPZ)


def read_vectors(folder: Path) -> FirmwareVectors:
    """Golden vectors of a folder that ``write_verilog_firmware`` made. Raises DataError where there are none."""
    missing = [name for name in (f"src/{TOP}.v", TEST, SIMULATE) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} is no two-stage firmware in Verilog: there is no {missing[0]}")
    return load_vectors(folder / VECTORS / _NPZ)


def _period_ns(design: FirmwareDesign) -> float:
    return BUNCH_CROSSING_NS / design.engine.clock_multiple


def _write_vivado(folder: Path, sources: tuple[Path, ...], target: Target) -> None:
    write_vivado_project(
        folder, sources, TOP, target.part, target.clock_period_ns, clock_port=RTL_CLOCK_PORT, flow="synth"
    )
    readme = folder / "README.md"
    title, _, rest = readme.read_text().partition("\n\n")
    readme.write_text(f"{title}\n\n{_CAUTION}{rest}")
