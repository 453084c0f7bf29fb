"""The steps ``cost``, ``verify`` and ``synth`` for a model that was made elsewhere."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from trigger_prune.config.project import CostConfig
from trigger_prune.cost.report import HardwareReport
from trigger_prune.entry.entered import EnteredNetwork
from trigger_prune.entry.foreign import ForeignDesign
from trigger_prune.entry.foreign_cost import measure_foreign
from trigger_prune.entry.onnx_constants import load_model
from trigger_prune.errors import CostError, ExportError, ModelError, TriggerPruneError
from trigger_prune.export.hls4ml_project import project_identifier, write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.backends import make_cost_model, rtl_pipeline
from trigger_prune.synthesis.rtl.simulate import rtl_outputs
from trigger_prune.synthesis.rtl.trace import check_trace, trace_network
from trigger_prune.synthesis.vivado.scripts import vivado_project_of_rtl
from trigger_prune.target import Target
from trigger_prune.verify.onnx_runs import run_qonnx
from trigger_prune.verify.representations import (
    Exported,
    accumulator_bits,
    torch_outputs,
    verify_network,
    write_lowered,
)
from trigger_prune.verify.runs._base import FLOAT32_BITS
from trigger_prune.verify.verdict import FirstDifference, PairVerdict, Verdict

Entered = EnteredNetwork | ForeignDesign
Run = Callable[[int], NDArray[np.float64]]

QONNX_FILE, LOWERED_FILE, HLS_FOLDER, RTL_FOLDER = "model.onnx", "model_lowered.onnx", "hls4ml_project", "rtl_project"


def cost_of(model: Entered, config: CostConfig, target: Target, project_dir: Path = Path()) -> HardwareReport:
    """What the model costs, by the backend that ``config`` names.

    Raises CostError for another backend than ``rtl`` on a foreign design, and what the backend raises.
    """
    if isinstance(model, EnteredNetwork):
        return make_cost_model(config, project_dir).measure(model.network, target)
    if config.backend != "rtl":
        raise CostError(
            f"cost.backend {config.backend} needs the layers of {model.name}; an adder graph has none",
            hint="use cost.backend rtl",
        )
    limits = {"timeout_s": config.timeout_s, "memory_limit_mib": config.memory_limit_mib}
    return measure_foreign(model, rtl_pipeline(config, **limits), target)


def write_network(model: EnteredNetwork, folder: Path, target: Target) -> tuple[Exported, str | None]:
    """QONNX, lowered ONNX and hls4ml project of the network, in ``folder``; and why there is no project, if so."""
    folder.mkdir(parents=True, exist_ok=True)
    exported = Exported(folder / QONNX_FILE, folder / LOWERED_FILE, folder / HLS_FOLDER)
    qonnx_model = to_qonnx(model.network)
    onnx.save(qonnx_model, str(exported.qonnx_model))
    onnx.save(write_lowered(qonnx_model, model.network), str(exported.lowered_model))
    try:
        write_hls4ml_project(model.network, folder / HLS_FOLDER, target, project_identifier(model.name))
    except ExportError as error:
        return replace(exported, hls4ml_project=None), error.message
    return exported, None


def verify_of(
    model: Entered,
    exported: Exported | None,
    features: NDArray[np.floating[Any]],
    *,
    qonnx_events: int = 1000,
    rtl_events: int = 1000,
    target: Target | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Compare every representation, bit by bit: those of the main job, the file it came from, and the Verilog.

    features   ``(events, *input_shape)`` on the grid of the input type

    For a foreign design the reference is what its own framework computed for the golden events. Raises
    VerificationError when there is nothing to compare.
    """
    target = target or Target()
    if isinstance(model, ForeignDesign):
        inputs, expected = model.golden()
        verdict = Verdict(len(inputs), 0, "float32", ())
        runs: dict[str, tuple[int, Run]] = {"adder graph": (len(inputs), lambda n: model.outputs(inputs[:n]))}
    else:
        if exported is None:
            raise ModelError("a network is verified with its exported files", hint="write_network makes them")
        single = np.asarray(features, np.float32)
        verdict = verify_network(model.network, exported, single, qonnx_events=qonnx_events, progress=progress)
        inputs, expected = single.astype(np.float64), torch_outputs(model.network, single, double=True)
        runs = {}
        if model.kind == "qonnx" and model.exact and model.source is not None:
            runs["source file"] = (qonnx_events, _source_run(model, model.source, single))
    if rtl_events:
        runs["verilog"] = (rtl_events, lambda n: _simulated(comb_of(model), inputs[:n], target))
    pairs = [*verdict.pairs]
    for name, (limit, run) in runs.items():
        if progress is not None:
            progress(name)
        pairs.append(_pair(name, run, min(limit, len(inputs)), expected))
    return Verdict(verdict.events, verdict.accumulator_bits, verdict.float_type, tuple(pairs))


def _source_run(model: EnteredNetwork, source: Path, features: NDArray[np.float32]) -> Run:
    double = accumulator_bits(model.network) > FLOAT32_BITS
    return lambda n: run_qonnx(load_model(source), features[:n], double=double)


def comb_of(model: Entered) -> Any:
    """alkaid's adder graph, compared with the network on probe events. Raises as ``trace_network`` does."""
    if isinstance(model, ForeignDesign):
        return model.comb
    frozen = freeze(model.network)
    comb = trace_network(frozen, model.input_type, model.input_shape)
    check_trace(comb, frozen, model.input_type, model.input_shape)
    return comb


def synth_of(model: Entered, folder: Path, config: CostConfig, target: Target) -> Path:
    """Verilog, VHDL and Vivado scripts, into ``folder/rtl_project``.

    Raises ToolError, CostError, UnsupportedLayerError.
    """
    rtl, comb = rtl_pipeline(config), comb_of(model)
    verilog = rtl.write(comb, folder / RTL_FOLDER / "verilog", target)
    rtl.write(comb, folder / RTL_FOLDER / "vhdl", target, language="vhdl")
    vivado_project_of_rtl(verilog, folder / RTL_FOLDER / "vivado", target)
    return folder / RTL_FOLDER


def _simulated(comb: Any, inputs: NDArray[Any], target: Target) -> NDArray[np.float64]:
    with tempfile.TemporaryDirectory(prefix="trigger_prune_rtl_") as folder:
        project = rtl_pipeline(CostConfig()).write(comb, Path(folder), target)
        return rtl_outputs(project, inputs.reshape(len(inputs), -1)).outputs


def _pair(name: str, run: Run, events: int, expected: NDArray[np.float64]) -> PairVerdict:
    start = time.perf_counter()
    try:
        outputs = run(events)
    except TriggerPruneError as error:
        return PairVerdict(name, 0, None, None, str(error), time.perf_counter() - start)
    except Exception as error:
        # what a foreign program raises is its verdict and must not hide the others'
        return PairVerdict(name, 0, None, None, f"{type(error).__name__}: {error}", time.perf_counter() - start)
    seconds = time.perf_counter() - start
    if outputs.shape != expected[:events].shape:
        failure = f"outputs have shape {outputs.shape}, not {expected[:events].shape}"
        return PairVerdict(name, events, None, None, failure, seconds)
    wrong = np.argwhere(outputs != expected[:events])
    if not len(wrong):
        return PairVerdict(name, events, 0, None, None, seconds)
    event, output = (int(value) for value in wrong[0])
    first = FirstDifference(event, "output", output, float(expected[event, output]), float(outputs[event, output]))
    return PairVerdict(name, events, len(np.unique(wrong[:, 0])), first, None, seconds)
