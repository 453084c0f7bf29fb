"""Two-stage design -> folder of HLS C++: two hls4ml projects, a generated top, test bench, golden vectors, README.

Time is counted as in ``firmware.cycle_model``, with one number instead of a list of start times: the work in cycles
until the engine could start one more object. k objects wait when it exceeds k intervals of the engine, and an object
is lost when it exceeds as many intervals as the FIFO has places.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.errors import ConfigError, ExportError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.target import Target
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.hls.render import write_sources
from trigger_prune.two_stage.firmware.hls.sources import FULL, LIGHT, Stage, function_name, namespace_name, stage_of
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors, save_vectors, write_text_vectors
from trigger_prune.units import BUNCH_CROSSING_NS

VECTORS = "tb_data"
_NPZ = "vectors.npz"

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_CLOCK_TOLERANCE = 5e-3


@dataclass(frozen=True)
class HlsFirmware:
    """What was written: the folder, its two hls4ml projects, its vectors (text for the test bench, and all of it)."""

    folder: Path
    light_project: Path
    full_project: Path
    vectors_folder: Path
    vectors: Path
    readme: Path


def write_hls_firmware(
    folder: Path, design: FirmwareDesign, vectors: FirmwareVectors, light_target: Target, full_target: Target
) -> HlsFirmware:
    """Write the new folder ``folder`` and return its paths.

    light_target, full_target   strategy, reuse factor, part and clock of each network; both of the engine's clock

    Raises ConfigError for targets that contradict the design (clock, reuse factor beyond the interval, streams as
    interface), and ExportError where hls4ml cannot take a network or the folder exists.
    """
    _check(design, light_target, full_target)
    if folder.exists():
        raise ExportError(
            f"{folder} exists already", hint="choose a new folder; an existing project is never overwritten"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(scratch / "two_stage", design, vectors, light_target, full_target)
        (scratch / "two_stage").rename(folder)
    except OSError as error:
        raise ExportError(f"the two-stage firmware {folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return firmware_in(folder)


def firmware_in(folder: Path) -> HlsFirmware:
    """Paths of a folder that ``write_hls_firmware`` made. Raises ExportError when parts of it are missing."""
    paths = HlsFirmware(
        folder,
        folder / LIGHT,
        folder / FULL,
        folder / VECTORS,
        folder / VECTORS / _NPZ,
        folder / "README.md",
    )
    missing = [path.name for path in vars(paths).values() if not path.exists()]
    if missing:
        raise ExportError(f"{folder} is no two-stage firmware: there is no {missing[0]}")
    return paths


def _check(design: FirmwareDesign, light_target: Target, full_target: Target) -> None:
    engine = design.engine
    if not _NAME.fullmatch(design.name):
        raise ConfigError(f"{design.name!r} cannot name a project", hint="use letters, digits and underscores")
    wanted_ns = BUNCH_CROSSING_NS / engine.clock_multiple
    for role, target, limit, of in (
        (LIGHT, light_target, engine.clock_multiple, "cycles per crossing"),
        (FULL, full_target, engine.ii_cycles, "cycles of the engine's interval"),
    ):
        if abs(target.clock_period_ns / wanted_ns - 1) > _CLOCK_TOLERANCE:
            raise ConfigError(
                f"the {role} network has a clock of {target.clock_period_ns:g} ns, the engine of {wanted_ns:.4g} ns",
                hint=f"{engine.clock_multiple} cycles per crossing are {wanted_ns:.4f} ns each",
            )
        if role == LIGHT and target.strategy.lower() == "resource":
            raise ConfigError(
                "the light network has strategy Resource, a chain of processes in hls4ml; the front is one pipeline",
                hint="give the light network strategy Latency: it is small and judges every crossing",
            )
        reuse = max([target.reuse_factor, *(layer.reuse_factor for layer in target.layers)])
        if reuse > limit:
            raise ConfigError(f"the {role} network has reuse factor {reuse}, but only {limit} {of}")
        if target.io_type != "io_parallel":
            raise ConfigError(f"the {role} network has {target.io_type}; the two-stage firmware takes io_parallel")
    if light_target.part != full_target.part:
        raise ConfigError(f"the light network is for {light_target.part}, the full one for {full_target.part}")


def _write(
    folder: Path, design: FirmwareDesign, vectors: FirmwareVectors, light_target: Target, full_target: Target
) -> None:
    folder.mkdir()
    stages: dict[str, Stage] = {}
    for role, model, target in ((LIGHT, design.light, light_target), (FULL, design.full, full_target)):
        project = write_hls4ml_project(
            model.network, folder / role, target, function_name(role), namespace=namespace_name(role)
        )
        stages[role] = stage_of(design, role, project)
    write_sources(folder, design, stages, full_target, vectors)
    write_text_vectors(vectors, folder / VECTORS)
    save_vectors(vectors, folder / VECTORS / _NPZ)
