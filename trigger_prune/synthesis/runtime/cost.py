"""``ProcessorCost``: how fast the exported model runs on a CPU or GPU, for triggers that are farms of computers."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import nn

from trigger_prune.cost.report import CostStage, HardwareReport, RuntimeCost
from trigger_prune.errors import CostError, ToolError
from trigger_prune.synthesis.process import log_tail, run_limited
from trigger_prune.synthesis.runtime.timed_model import TimedModel, timed_model
from trigger_prune.synthesis.runtime.timing import Plan
from trigger_prune.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMED = (
    "one call of ONNX Runtime on inputs and outputs that are in memory already (on CUDA: both copies included); "
    "reading events and the caller's own work are not"
)
SPARSITY = (
    "zero weights are multiplied like all others, so unstructured sparsity makes nothing faster; only whole neurons, "
    "filters and attention heads without effect are removed before the measurement"
)

DISTURBED = 1.25
"""Largest over smallest median of a round from which something else ran at the same time."""

_PROBE_EVENTS = 256
_ONE_AT_A_TIME = threading.Lock()
"""Two measurements at once would measure each other."""


@dataclass(frozen=True)
class ProcessorCost:
    """A ``CostModel`` of stage ``runtime``: the exported ONNX model, timed by ONNX Runtime in a process of its own.

    provider           ``cpu`` or ``cuda`` (needs onnxruntime-gpu)
    threads            intra-op threads, kept on as many processor cores
    batch_sizes        events per call; the smallest gives the budgeted latency, the fastest the time per event
    plan               rounds, seconds and warm-up
    timeout_s          wall-clock limit of the process
    memory_limit_mib   its memory limit

    Part, clock and layout of the target do not apply. Before it is timed the model is compared with the torch network
    on random inputs: bit by bit, or within FLOAT_TOLERANCE where only the weights are quantised (see
    quantize.weights_only).
    """

    provider: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    batch_sizes: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    plan: Plan = field(default_factory=Plan)
    timeout_s: float = 900.0
    memory_limit_mib: float = 8192.0
    name = "runtime"
    stage = CostStage.RUNTIME

    def __post_init__(self) -> None:
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)) or self.batch_sizes[0] < 1:
            raise CostError(f"batch sizes {list(self.batch_sizes)} are not ascending numbers of events, 1 or more")
        if self.threads < 1:
            raise CostError(f"{self.threads} threads cannot run anything")

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Run time of a quantised network.

        Raises CostError (no quantised network, provider not there, more threads than processors), ExportError,
        VerificationError (the exported model computes something else) and ToolError (the process failed or broke a
        limit).
        """
        # The export is inside, too: torch exports one model at a time.
        with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(prefix="trigger_prune_runtime_") as scratch:
            folder = Path(scratch)
            timed = timed_model(network)
            events = _probes(network, timed.double)
            _write(timed, folder, events)
            settings = {
                "provider": self.provider,
                "threads": self.threads,
                "batch_sizes": self.batch_sizes,
                "plan": asdict(self.plan),
            }
            (folder / "settings.json").write_text(json.dumps(settings))
            result = _run_worker(folder, self.timeout_s, self.memory_limit_mib)
            timed.require_same_outputs(events, np.load(folder / "outputs.npy"))
        return self._report(result, timed)

    def _report(self, result: dict[str, Any], timed: TimedModel) -> HardwareReport:
        times = [result["times"][str(batch)] for batch in self.batch_sizes]
        disturbed = [
            batch
            for batch, each in zip(self.batch_sizes, times, strict=True)
            if each["p50_high_us"] > DISTURBED * each["p50_low_us"]
        ]
        if disturbed:
            warnings.warn(
                f"the machine was busy while run times were measured: the medians of the rounds differ by more than "
                f"{DISTURBED:g} times at batch size {', '.join(map(str, disturbed))}: measure again on an idle machine",
                stacklevel=3,
            )
        runtime = RuntimeCost(
            device=result["device"],
            provider=result["provider"],
            threads=self.threads,
            batch_sizes=self.batch_sizes,
            latency_p50_us=tuple(each["p50_us"] for each in times),
            latency_p99_us=tuple(each["p99_us"] for each in times),
            throughput_hz=tuple(
                1e6 * batch / each["mean_us"] for batch, each in zip(self.batch_sizes, times, strict=True)
            ),
        )
        return HardwareReport(
            stage=self.stage,
            tool="onnxruntime",
            tool_version=result["version"],
            part=result["device"],
            clock_period_ns=None,
            lut=None,
            ff=None,
            dsp=None,
            bram18=None,
            latency_cycles=None,
            ii=None,
            content_hash=timed.content_hash,
            runtime=runtime,
            details={
                "timed": TIMED,
                "sparsity_note": SPARSITY,
                "zero_weights": timed.zero_weights,
                "neurons_removed": {name: len(indices) for name, indices in timed.shrunk.removed.items()},
                "neurons_remark": "; ".join(timed.shrunk.remarks),
                "float_type": "float64" if timed.double else "float32",
                "outputs": "within a tolerance, not bit-exact" if timed.tolerance else "bit-exact",
                "empty_call_p50_us": result["times"]["nothing"]["p50_us"],
                "p50_over_rounds_us": [[each["p50_low_us"], each["p50_high_us"]] for each in times],
                "disturbed_batch_sizes": disturbed,
                "calls": [each["calls"] for each in times],
                "rounds": self.plan.rounds,
                "pinned": result["pinned"],
                "load_average_before": result["load_average"],
                "events_compared": _PROBE_EVENTS,
            },
        )


def _probes(network: nn.Module, double: bool) -> NDArray[Any]:
    """Random inputs over the whole range of the input type, ``(events, *input_shape)``; always the same."""
    from trigger_prune.quantize.convert import input_shape_of, input_type_of

    fixed = input_type_of(network)
    rng = np.random.default_rng(0)
    codes = rng.integers(fixed.min_code, fixed.max_code, (_PROBE_EVENTS, *input_shape_of(network)), endpoint=True)
    return (codes * fixed.lsb).astype(np.float64 if double else np.float32)


def _write(timed: TimedModel, folder: Path, events: NDArray[Any]) -> None:
    import onnx
    from onnx import TensorProto, helper

    model = timed.to_onnx()
    onnx.save(model, str(folder / "model.onnx"))
    kind = TensorProto.DOUBLE if timed.double else TensorProto.FLOAT
    wires = [helper.make_tensor_value_info(name, kind, ["batch", *events[:1, :1].shape[1:]]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "nothing", wires[:1], wires[1:])
    empty = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    onnx.save(empty, str(folder / "nothing.onnx"))
    np.save(folder / "events.npy", events)


def _run_worker(folder: Path, timeout_s: float, memory_limit_mib: float) -> dict[str, Any]:
    log, result_file = folder / "worker.log", folder / "result.json"
    root = str(Path(__file__).parents[3])
    search_path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    status, _ = run_limited(
        [sys.executable, "-m", "trigger_prune.synthesis.runtime._worker", folder],
        tool="ONNX Runtime",
        cwd=folder,
        log=log,
        timeout_s=timeout_s,
        memory_limit_mib=memory_limit_mib,
        env={"PYTHONPATH": search_path},
    )
    if status or not result_file.is_file():
        raise ToolError(
            f"ONNX Runtime failed with exit status {status}:\n{log_tail(log)}",
            hint="a negative status is the signal that ended it; -9 may be the system running out of memory",
        )
    result: dict[str, Any] = json.loads(result_file.read_text())
    if "error" in result:
        raise CostError(result["error"], hint=result["hint"])
    return result
