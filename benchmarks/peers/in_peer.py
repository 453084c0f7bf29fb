"""What every training script of a peer shares. It runs in the peer's own environment: numpy and alkaid, nothing else.

A script is called as ``python train_PEER.py JOB.json``. The job names the events, the seed, the settings and the folder
for the results; the script leaves there one adder graph (alkaid's JSON) per network and, last of all,
``networks.json``, which lists them.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HARD_DC = 2
"""Largest extra adder depth that alkaid may spend on sharing, as in ``trigger_prune.synthesis.rtl.trace``."""


@dataclass(frozen=True)
class Events:
    """``x`` float32 ``(n, features)`` on the input grid, ``y`` int64 ``(n,)``, by part (train, validation, test)."""

    x: dict[str, NDArray[np.float32]]
    y: dict[str, NDArray[np.int64]]
    width: int
    integer: int

    @property
    def kif(self) -> tuple[int, int, int]:
        """Type of an input: sign bit, integer bits without sign, fraction bits."""
        return 1, self.integer - 1, self.width - self.integer


@dataclass(frozen=True)
class Job:
    """One training: peer, seed and settings as the driver chose them; results go to ``folder``."""

    peer: str
    seed: int
    settings: dict[str, Any]
    folder: Path
    events: Events

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.events.y["train"].max()) + 1


def read_job() -> Job:
    """The job named on the command line."""
    path = Path(sys.argv[1])
    raw = json.loads(path.read_text())
    with np.load(raw["events"]) as file:
        parts = ("train", "validation", "test")
        events = Events(
            {part: file[f"x_{part}"] for part in parts},
            {part: file[f"y_{part}"] for part in parts},
            int(file["width"]),
            int(file["integer"]),
        )
    return Job(raw["peer"], raw["seed"], raw["settings"], path.parent, events)


def cpu_s() -> float:
    """Processor seconds of this process and its ended children, all threads."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def mean_auc(outputs: NDArray[np.floating[Any]], y: NDArray[np.int64]) -> float:
    """Mean one-versus-rest AUC, ties counting half, of ``outputs`` ``(n, classes)``.

    The score of a class is its output minus the largest of the others, as everywhere in the project: fixed-point
    outputs give it exactly.
    """
    others = [np.delete(outputs, c, axis=1).max(axis=1) for c in range(outputs.shape[1])]
    return float(np.mean([_auc(outputs[:, c] - other, y == c) for c, other in enumerate(others)]))


def _auc(score: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> float:
    _, position = np.unique(score, return_inverse=True)
    n_positive = np.bincount(position, positive)
    n_negative = np.bincount(position, ~positive)
    below = np.cumsum(n_negative) - n_negative / 2
    return float((n_positive * below).sum() / n_positive.sum() / n_negative.sum())


def trace(model: Any, events: Events, framework: str) -> Any:
    """alkaid's adder graph of ``model`` with inputs of the events' type.

    ``canonicalize_msb_wraps`` of alkaid 0.8.2 reads the wrong bit behind a one-bit activation: it is replaced by the
    identity, which changes no cost. Inputs that are constants or a lone sign bit are multiplied directly, because
    alkaid's sharing algorithm stops or errs on them.
    """
    import alkaid.trace as tracing
    from alkaid.converter import trace_model
    from alkaid.trace.passes import canon

    if "canonicalize_msb_wraps" not in canon.canonicalize.__code__.co_names:
        raise SystemExit("this alkaid has no pass canonicalize_msb_wraps: 0.8.2 is needed")
    canon.canonicalize_msb_wraps = lambda comb: comb
    n_inputs = events.x["train"].shape[1]
    # torch models are traced with a batch axis, keras models without
    shape = (1, n_inputs) if framework == "torch" else (n_inputs,)
    hardware = tracing.HWConfig(1, -1, -1)
    options = {"hard_dc": HARD_DC, "offload_fn": _weights_to_multiply_directly}
    bits = [np.full(shape, value, dtype=np.int8) for value in events.kif]
    inputs = tracing.FVArray.from_kif(*bits, hardware, 0, options)
    first, last = trace_model(model, hardware, options, inputs=(inputs,), framework=framework)
    return tracing.trace(first, last)


def _weights_to_multiply_directly(weights: NDArray[Any], inputs: Any) -> NDArray[np.bool_]:
    direct = np.array([v.low == v.high or (v.low < 0 and sum(v.kif) == 1) for v in np.asarray(inputs).ravel()])
    return np.broadcast_to(direct[:, None], weights.shape) & (weights != 0)


class Networks:
    """Collects the networks of a job and writes ``networks.json`` when the job is done."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.listed: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        model: Any,
        framework: str,
        predict: Callable[[NDArray[np.float32]], NDArray[Any]],
        **facts: Any,
    ) -> None:
        """Trace ``model``, compare bits with ``predict`` on validation and test events, write the adder graph.

        ``facts`` are what is known of the network beside: settings, optimiser_steps, train_cpu_s, ...
        """
        start = time.process_time()
        comb = trace(model, self.job.events, framework)
        trace_cpu_s = time.process_time() - start
        different = events = 0
        for part in ("validation", "test"):
            x = self.job.events.x[part]
            expected = np.asarray(predict(x), dtype=np.float64).reshape(len(x), -1)
            got = np.asarray(comb.predict(x.astype(np.float64), n_threads=1)).reshape(len(x), -1)
            different += int((got != expected).any(axis=1).sum())
            events += len(x)
        comb.save(self.job.folder / f"{name}.comb.json.gz")
        self.listed.append(
            {
                "name": name,
                "file": f"{name}.comb.json.gz",
                "trace_cpu_s": round(trace_cpu_s, 3),
                "events_compared": events,
                "events_different": different,
                **facts,
            }
        )
        print(f"{self.job.peer} seed {self.job.seed} {name}: alkaid cost {comb.cost:.0f}, {different} events differ")

    def write(self, **facts: Any) -> None:
        """``networks.json``: its presence says that the training is complete."""
        path = self.job.folder / "networks.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"networks": self.listed, **facts}, indent=2))
        temporary.rename(path)
