"""One measured network as a folder of its own: checkpoint, QONNX, input transform, cost, hls4ml project."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
from torch import fx

from trigger_prune.data.transform import InputTransform
from trigger_prune.errors import ExportError
from trigger_prune.export.hls4ml_project import project_identifier, write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.prune.laid_out import shrink_laid_out
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.checkpoint import save_network
from trigger_prune.target import Target


def write_model_folder(
    network: fx.GraphModule,
    trial: PruneTrial,
    into: Path,
    *,
    transform: InputTransform,
    kept_inputs: Sequence[int],
    target: Target,
    project: str,
) -> str | None:
    """Write the folder under a temporary name, then rename; returns why there is no hls4ml project, or None.

    network       as trained; neurons and inputs without effect are taken out here
    transform     of all features, of which the network reads ``kept_inputs``
    Raises ExportError when ``into`` exists.
    """
    if into.exists():
        raise ExportError(f"{into} exists already", hint="choose a new folder; nothing is overwritten")
    shrunk, laid_out = shrink_laid_out(network, replace(target, layers=trial.layouts))
    kept = tuple(kept_inputs[index] for index in shrunk.kept_inputs)
    aside = into.with_name(f".{into.name}.{os.getpid()}")
    problem = None
    try:
        aside.mkdir(parents=True)
        save_network(shrunk.network, aside / "network.pt")
        (aside / "input_transform.json").write_text(json.dumps(transform.select(kept).to_dict(), indent=2))
        (aside / "cost.json").write_text(trial.cost.to_json())
        (aside / "trial.json").write_text(json.dumps(trial.to_dict(), indent=1))
        try:
            onnx.save(to_qonnx(shrunk.network), str(aside / "model.onnx"))
            write_hls4ml_project(shrunk.network, aside / "hls4ml_project", laid_out, project_identifier(project))
        except ExportError as error:
            problem = str(error)
        aside.rename(into)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return problem
