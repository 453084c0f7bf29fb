"""The export of a network that runs on processors only: one ONNX file, and why there is nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import nn

from trigger_prune.errors import UnsupportedLayerError
from trigger_prune.export.float_model import to_float_onnx
from trigger_prune.quantize.graph import prepare

_NOTE = "note.json"


@dataclass(frozen=True)
class FloatExport:
    """``model`` is a float32 ONNX file; ``note`` says why there is no QONNX, no hls4ml project and no Verilog."""

    model: Path
    note: str


@dataclass(frozen=True)
class FloatModel:
    """What is to be written; see ``FloatExport``."""

    model: onnx.ModelProto
    note: str

    def save(self, folder: Path, name: str) -> None:
        """Write the model as ``name``, and the note."""
        onnx.save(self.model, str(folder / name))
        (folder / _NOTE).write_text(json.dumps({"note": self.note}))


def float_model(network: nn.Module, float_network: nn.Module) -> FloatModel:
    """The weights-only ``network``, and why its float model has no fixed-point form."""
    reason = "only its weights are quantised"
    try:
        prepare(float_network)
    except UnsupportedLayerError as refusal:
        reason = refusal.message
    return FloatModel(to_float_onnx(network), f"no QONNX, hls4ml project, Verilog or VHDL: {reason}")


def load_float_export(folder: Path, name: str) -> FloatExport | None:
    """What ``FloatModel.save`` wrote into ``folder``; None when something else is there."""
    if not (folder / _NOTE).is_file():
        return None
    return FloatExport(folder / name, json.loads((folder / _NOTE).read_text())["note"])
