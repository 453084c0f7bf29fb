"""Networks with their exported files, and what the terminal sees."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import small_networks
from torch import fx

from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import Target
from trigger_prune.verify.representations import Exported, verify_network, write_lowered
from trigger_prune.verify.verdict import PairVerdict, Verdict


@dataclass(frozen=True)
class Case:
    """A network, its files, events, and outputs computed with integers."""

    network: fx.GraphModule
    exported: Exported
    features: np.ndarray
    expected: np.ndarray

    def verify(self, qonnx_events: int = 100, **files: Path) -> Verdict:
        exported = replace(self.exported, **files)
        return verify_network(self.network, exported, self.features, qonnx_events=qonnx_events)

    def pair(self, name: str, **files: Path) -> PairVerdict:
        return next(pair for pair in self.verify(**files).pairs if pair.name == name)

    def copy_project(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.exported.hls4ml_project, folder))


def export(network: fx.GraphModule, folder: Path, target: Target | None = None) -> Exported:
    qonnx_model = to_qonnx(network)
    onnx.save(qonnx_model, str(folder / "model.onnx"))
    onnx.save(write_lowered(qonnx_model, network), str(folder / "lowered.onnx"))
    project = write_hls4ml_project(network, folder / "project", target or Target(), "net")
    return Exported(folder / "model.onnx", folder / "lowered.onnx", project)


def make_case(network: fx.GraphModule, folder: Path, n: int = 300, target: Target | None = None) -> Case:
    spec = describe_network(network)
    features = small_networks.events(spec.input_type, n, *spec.input_shape)
    return Case(network, export(network, folder, target), features, small_networks.integer_outputs(spec, features))


@contextmanager
def captured_terminal() -> Iterator[list[str]]:
    """What arrives at the process's own stdout and stderr, from Python or from C."""
    text: list[str] = []
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
            file.seek(0)
            text.append(file.read().decode())


@dataclass(frozen=True)
class Verified:
    case: Case
    verdict: Verdict
    terminal: str


def verified(network: fx.GraphModule, folder: Path) -> Verified:
    with captured_terminal() as terminal:
        case = make_case(network, folder)
        # what a user's own builds leave behind must neither be used nor copied
        (case.exported.hls4ml_project / "firmware" / "net-0badf00d.so").write_bytes(b"not a library")
        (case.exported.hls4ml_project / "net_prj").mkdir()
        verdict = case.verify()
    return Verified(case, verdict, terminal[0])
