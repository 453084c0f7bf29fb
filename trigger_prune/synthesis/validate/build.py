"""Writes the hls4ml projects of the validation designs, with what the estimates say about them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trigger_prune.cost.hls.design import HlsDesign
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import ExportError, ReportFormatError
from trigger_prune.synthesis.hls.tools import Backend
from trigger_prune.synthesis.validate.describe import design_from_graph, setting_for
from trigger_prune.synthesis.validate.designs import DESIGNS, PROJECT_NAME, ValidationDesign, quantised_network
from trigger_prune.target import Target

FORMAT = 1
MANIFEST = "validation.json"
DESIGN_FOLDER = "designs"
PROJECT_FOLDER = "project"
MARKER = "finished.txt"
"""Beside a project whose run ended: the steps, separated by commas."""


@dataclass(frozen=True, eq=False)
class BuiltDesign:
    """One design: its quantised network, and hls4ml's model graph, described and as it can be written."""

    design: ValidationDesign
    target: Target
    backend: Backend
    network: Any
    network_hash: str
    hls: HlsDesign
    graph: Any

    @property
    def content_hash(self) -> str:
        """Identifies what is synthesised: the network's integers, or the whole design where a softmax follows them."""
        from trigger_prune.cost.hls.model import design_hash

        return design_hash(self.hls) if self.design.softmax else self.network_hash


@dataclass(frozen=True)
class Entry:
    """A design of a validation folder, as its manifest states it.

    network_hash   content hash of the network's integers (without the softmax)
    sources_hash   SHA-256 of the C++ and script files of its project
    prediction     the estimate made when the folder was written, None when no model was able to make one
    """

    name: str
    summary: str
    network_hash: str
    sources_hash: str
    prediction: HardwareReport | None


@dataclass(frozen=True)
class ValidationFolder:
    """A written folder: one hls4ml project per design under ``designs/NAME/project``.

    ``left_out`` names the designs that could not be written on this machine, and why.
    """

    folder: Path
    backend: Backend
    part: str
    clock_period_ns: float
    entries: tuple[Entry, ...]
    left_out: dict[str, str]

    def project(self, name: str) -> Path:
        """Folder of a design's hls4ml project."""
        return self.folder / DESIGN_FOLDER / name / PROJECT_FOLDER

    def marker(self, name: str) -> Path:
        """File that says which steps of a design have ended."""
        return self.folder / DESIGN_FOLDER / name / MARKER


def missing_packages(design: ValidationDesign) -> str | None:
    """Why hls4ml cannot write this design here, or None."""
    if design.needs is None or find_spec(design.needs) is not None:
        return None
    return f"needs the package {design.needs}: pip install 'trigger_prune[da]'"


def build_design(
    design: ValidationDesign,
    backend: Backend,
    part: str,
    clock_period_ns: float,
    release: str = "",
    out_dir: Path | None = None,
) -> BuiltDesign:
    """Convert one design with hls4ml; nothing is written.

    ``release`` of the tool that the estimate is for; ``out_dir`` is where ``graph.write()`` would write.

    Raises ExportError, with hls4ml's own message, when it cannot take the design.
    """
    from trigger_prune.export import hls4ml_project
    from trigger_prune.export.hls4ml_repairs import repaired_hls4ml
    from trigger_prune.export.qonnx_model import to_qonnx
    from trigger_prune.export.quiet import quiet
    from trigger_prune.export.support import layouts
    from trigger_prune.quantize.describe import describe_network

    target = design.target(part, clock_period_ns)
    network = quantised_network(design)
    model = to_qonnx(network)
    if design.softmax:
        _append_softmax(model)
    try:
        with quiet(), repaired_hls4ml():
            graph = hls4ml_project._convert(
                network, model, out_dir or Path(PROJECT_FOLDER), target, PROJECT_NAME, backend, False
            )
            hls4ml_project._require_layout(graph, layouts(network, target))
    except ExportError:
        raise
    except Exception as error:
        # hls4ml raises plain Exception, AssertionError, KeyError and others for what it cannot convert.
        raise ExportError(f"hls4ml cannot convert {design.name}: {type(error).__name__}: {error}") from error
    setting = setting_for(backend, part, clock_period_ns, design.io_type, release)
    network_hash = describe_network(network).content_hash()
    return BuiltDesign(design, target, backend, network, network_hash, design_from_graph(graph, setting), graph)


def predict(built: BuiltDesign) -> HardwareReport:
    """The estimate of what csynth will report."""
    from trigger_prune.cost.hls.from_spec import design_from_spec
    from trigger_prune.cost.hls.model import HlsAnalyticCost
    from trigger_prune.quantize.describe import describe_network

    if built.design.strategy == "distributed_arithmetic":
        # its adders follow from the integer weights, which hls4ml's graph does not hold as integers
        design = design_from_spec(describe_network(built.network), built.target)
        return HlsAnalyticCost().estimate_design(replace(design, setting=built.hls.setting))
    return HlsAnalyticCost().estimate_design(built.hls)


def write_validation_folder(
    folder: Path,
    backend: Backend,
    part: str,
    clock_period_ns: float,
    *,
    designs: Iterable[ValidationDesign] = DESIGNS,
    release: str = "",
    say: Callable[[str], None] = print,
) -> ValidationFolder:
    """Write every design's project and the manifest into ``folder``, or go on with a folder that was begun.

    Projects that are there already, for the same backend, part and clock, are kept with whatever they hold. Raises
    ExportError when the folder belongs to another backend, part or clock.
    """
    if (folder / MANIFEST).is_file():
        known = read_validation_folder(folder)
        if (known.backend, known.part, known.clock_period_ns) != (backend, part, clock_period_ns):
            raise ExportError(
                f"{folder} holds designs for {known.backend}, {known.part}, {known.clock_period_ns:g} ns",
                hint="choose another folder, or give the same --backend, --part and --clock",
            )
        kept = {entry.name: entry for entry in known.entries}
    else:
        kept = {}
    folder.mkdir(parents=True, exist_ok=True)
    entries, left_out = [], {}
    for design in designs:
        reason = missing_packages(design)
        if reason is not None and design.name not in kept:
            left_out[design.name] = reason
            say(f"{design.name}: left out, {reason}")
            continue
        entry = kept.get(design.name)
        if entry is None or not (folder / DESIGN_FOLDER / design.name / PROJECT_FOLDER).is_dir():
            entry = _write_one(folder, design, backend, part, clock_period_ns, release)
            say(f"{design.name}: written ({design.summary})")
        entries.append(entry)
        _write_manifest(ValidationFolder(folder, backend, part, clock_period_ns, tuple(entries), left_out))
    return ValidationFolder(folder, backend, part, clock_period_ns, tuple(entries), left_out)


def read_validation_folder(folder: Path) -> ValidationFolder:
    """The manifest of a folder. Raises ReportFormatError when it is missing or damaged."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text())
        if raw["format"] != FORMAT:
            raise ReportFormatError(f"{path} has format {raw['format']}, not {FORMAT}")
        entries = tuple(
            Entry(
                item["name"],
                item["summary"],
                item["network_hash"],
                item["sources_hash"],
                None if item["prediction"] is None else HardwareReport.from_json(json.dumps(item["prediction"])),
            )
            for item in raw["designs"]
        )
        left_out = {str(name): str(why) for name, why in raw["left_out"].items()}
        if raw["backend"] not in ("Vitis", "Vivado"):
            raise ReportFormatError(f"{path}: no backend named {raw['backend']!r}")
        return ValidationFolder(
            folder, raw["backend"], str(raw["part"]), float(raw["clock_period_ns"]), entries, left_out
        )
    except OSError as error:
        raise ReportFormatError(
            f"{folder} is no validation folder: {error}", hint="write one with trigger-prune validate --package"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportFormatError(f"{path} is damaged: {error}") from None


def sources_hash(project: Path) -> str:
    """SHA-256 over the files of a project that decide its synthesis: firmware, constraints, scripts, test bench."""
    digest = hashlib.sha256()
    files = [project / name for name in ("project.tcl", "build_prj.tcl", "vivado_synth.tcl")]
    files += [path for path in (project / "firmware").rglob("*") if "ap_types" not in path.parts]
    files += project.glob("*_test.cpp")
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(project).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _write_one(
    folder: Path,
    design: ValidationDesign,
    backend: Backend,
    part: str,
    clock_period_ns: float,
    release: str,
) -> Entry:
    from trigger_prune.export import hls4ml_project
    from trigger_prune.export.quiet import quiet

    home = folder / DESIGN_FOLDER / design.name
    home.mkdir(parents=True, exist_ok=True)
    scratch = home / f".{PROJECT_FOLDER}.{os.getpid()}.new"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        built = build_design(design, backend, part, clock_period_ns, release, scratch)
        with quiet():
            built.graph.write()
        hls4ml_project._tidy(scratch, built.network_hash[:8])
        shutil.rmtree(home / PROJECT_FOLDER, ignore_errors=True)
        scratch.rename(home / PROJECT_FOLDER)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Entry(
        design.name,
        design.summary,
        built.network_hash,
        sources_hash(home / PROJECT_FOLDER),
        predict(built),
    )


def _write_manifest(validation: ValidationFolder) -> None:
    raw = {
        "format": FORMAT,
        "backend": validation.backend,
        "part": validation.part,
        "clock_period_ns": validation.clock_period_ns,
        "left_out": validation.left_out,
        "designs": [
            {
                "name": entry.name,
                "summary": entry.summary,
                "network_hash": entry.network_hash,
                "sources_hash": entry.sources_hash,
                "prediction": None if entry.prediction is None else json.loads(entry.prediction.to_json()),
            }
            for entry in validation.entries
        ],
    }
    scratch = validation.folder / f".{MANIFEST}.{os.getpid()}.new"
    scratch.write_text(json.dumps(raw, indent=1))
    scratch.replace(validation.folder / MANIFEST)


def _append_softmax(model: Any) -> None:
    """Put a softmax behind the output of an ONNX model."""
    from onnx import helper

    output = model.graph.output[0]
    logits, output.name = output.name, "probabilities"
    model.graph.node.append(helper.make_node("Softmax", [logits], [output.name], name="softmax", axis=-1))
