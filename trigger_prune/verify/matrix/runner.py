"""Runs a network in any cells: refused by the table, or exported, compiled, simulated and compared."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import ExportError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.export.support import Refusal, find_refusal
from trigger_prune.target import Target
from trigger_prune.verify.matrix.cells import Cell, cell_target
from trigger_prune.verify.representations import verify_network, write_lowered
from trigger_prune.verify.runs import Exported
from trigger_prune.verify.verdict import PairVerdict, Verdict

State = Literal["agrees", "differs", "failed", "refused"]
_CSIM = "hls4ml_csim"
_OTHERS = ("torch_float32", "qonnx", "onnxruntime", "alkaid")


@dataclass(frozen=True)
class CellResult:
    """What became of a cell. ``pair`` is its C simulation, ``refusal`` why there is none."""

    cell: Cell
    pair: PairVerdict | None = None
    refusal: Refusal | None = None

    @property
    def state(self) -> State:
        """``failed`` is a cell that the table lets through and that could not be built or run."""
        if self.refusal is not None:
            return "refused"
        if self.pair is None or self.pair.mismatches is None:
            return "failed"
        return "differs" if self.pair.mismatches else "agrees"

    @property
    def ok(self) -> bool:
        """True for the two honest outcomes: no mismatch, or refused before hls4ml was called."""
        return self.state in ("agrees", "refused")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self.cell),
            "state": self.state,
            "events": self.pair.events if self.pair else 0,
            "mismatches": self.pair.mismatches if self.pair else None,
            "failure": self.pair.failure if self.pair else None,
            "refusal": asdict(self.refusal) if self.refusal else None,
        }


def verify_others(network: fx.GraphModule, features: NDArray[np.float32], qonnx_events: int = 200) -> Verdict:
    """The representations that are the same in every cell: torch in float32, qonnx, ONNX runtime, alkaid."""
    with tempfile.TemporaryDirectory(prefix="trigger_prune_matrix_") as name:
        exported = _save_onnx(network, Path(name))
        return verify_network(network, exported, features, qonnx_events=qonnx_events, only=_OTHERS)


def verify_cells(
    network: fx.GraphModule,
    features: NDArray[np.float32],
    cells: Iterable[Cell],
    *,
    base: Target | None = None,
    reuse: int | None = None,
    cache: Path | None = None,
    progress: Callable[[Cell], None] | None = None,
) -> list[CellResult]:
    """The C simulation of every cell against the fixed-point torch network on ``features`` ``(events, ...)``.

    base, reuse   part, clock and reuse factor (``cell_target``)
    cache         folder of agreements found before, by the bytes of project and events; None: always simulate
    """
    results = []
    for cell in cells:
        if progress is not None:
            progress(cell)
        target = cell_target(network, cell, base, reuse)
        refusal = find_refusal(network, target, cell.backend)
        pair = None if refusal is not None else _simulate(network, features, cell, target, cache)
        results.append(CellResult(cell, pair, refusal))
    return results


def _simulate(
    network: fx.GraphModule, features: NDArray[np.float32], cell: Cell, target: Target, cache: Path | None
) -> PairVerdict:
    with tempfile.TemporaryDirectory(prefix="trigger_prune_matrix_") as name:
        folder = Path(name)
        try:
            project = write_hls4ml_project(network, folder / "project", target, "network", backend=cell.backend)
        except ExportError as error:
            return PairVerdict(_CSIM, 0, None, None, error.message)
        key = _key(project, features)
        if cache is not None and (cache / key).is_file():
            return PairVerdict(**json.loads((cache / key).read_text()))
        exported = Exported(folder / "model.onnx", folder / "lowered.onnx", project)
        [pair] = verify_network(network, exported, features, qonnx_events=1, only=(_CSIM,)).pairs
    if cache is not None and pair.ok:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = cache / f".{key}"
        temporary.write_text(json.dumps(asdict(pair)))
        temporary.rename(cache / key)
    return pair


def _key(project: Path, features: NDArray[np.float32]) -> str:
    """SHA-256 of everything that the simulation computes with: every file of the project, the events, hls4ml."""
    digest = hashlib.sha256(f"{version('hls4ml')} {features.shape} {features.dtype}".encode())
    for path in sorted(path for path in project.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(project)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(np.ascontiguousarray(features).tobytes())
    return digest.hexdigest()


def _save_onnx(network: fx.GraphModule, folder: Path) -> Exported:
    model = to_qonnx(network)
    onnx.save(model, str(folder / "model.onnx"))
    onnx.save(write_lowered(model, network), str(folder / "lowered.onnx"))
    return Exported(folder / "model.onnx", folder / "lowered.onnx", folder / "project")
