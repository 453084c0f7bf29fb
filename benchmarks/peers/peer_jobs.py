"""One training of a peer with all its networks measured, on disk: whatever is there is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peer_environments import HERE, cache_folder, python_of, version_of
from peer_events import EventFile
from peer_flow import measure
from peer_menu import OWN

_SCRIPTS = {
    "hgq2": (("hgq2", "train_hgq2.py"),),
    "pquantml": (("pquantml", "train_pquantml.py"),),
    "torch_pruning": (("torch_pruning", "train_torch_pruning.py"), (None, "finish_torch_pruning.py")),
    "magnitude": ((None, "train_magnitude.py"),),
    "trigger_prune": ((None, "train_trigger_prune.py"),),
}
"""The scripts of a training, in order, each with the environment it runs in (None: the project's own)."""


class TrainingFailedError(Exception):
    """A training script ended with an error."""


@dataclass(frozen=True)
class PeerJob:
    """One training: everything that decides its result."""

    peer: str
    seed: int
    settings: dict[str, Any]
    events: EventFile

    @property
    def version(self) -> str:
        """``package==version`` of the peer."""
        if self.peer in OWN:
            return f"trigger_prune=={version('trigger_prune')}"
        return version_of(self.peer)

    @property
    def key(self) -> str:
        """Hash of events, peer, seed and settings; of the version too, unless the peer is the project's own."""
        peer = self.peer if self.peer in OWN else self.version
        content = json.dumps([self.events.digest, peer, self.seed, self.settings], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """For people."""
        what = next((f" {k} {self.settings[k]:g}" for k in ("sparsity", "ratio") if k in self.settings), "")
        return f"{self.events.name} {self.peer} seed {self.seed}{what}"

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return cache_folder() / "jobs" / f"{self.events.name}-{self.peer}-seed{self.seed}-{self.key}"


def run_job(job: PeerJob) -> dict[str, Any]:
    """Train unless it was trained, measure the networks that were not, and return the finished record.

    Raises PeerUnavailableError, TrainingFailedError, or what measuring raises.
    """
    finished = job.folder / "result.json"
    if finished.exists():
        record: dict[str, Any] = json.loads(finished.read_text())
        return record
    networks = job.folder / "networks.json"
    if not networks.exists():
        _train(job)
    trained = json.loads(networks.read_text())
    points = []
    for network in trained["networks"]:
        point = _point(job, network)
        if point is not None:
            points.append(point)
    record = {
        "key": job.key,
        "peer": job.peer,
        "version": job.version,
        "data": job.events.name,
        "events_digest": job.events.digest,
        "seed": job.seed,
        "settings": job.settings,
        "optimiser_steps": trained["optimiser_steps"],
        "train_cpu_s": trained["train_cpu_s"],
        "too_large_to_measure": len(trained["networks"]) - len(points),
        "points": points,
    }
    _write(finished, record)
    return record


def _point(job: PeerJob, network: dict[str, Any]) -> dict[str, Any] | None:
    path = job.folder / f"point-{network['name']}.json"
    if path.exists():
        point: dict[str, Any] | None = json.loads(path.read_text())
        return point
    measured = measure(job.folder / network["file"], job.events.path)
    facts = {key: value for key, value in network.items() if key not in ("file", "trace_cpu_s")}
    if measured is not None:
        measured["cost_cpu_s"] = round(measured["cost_cpu_s"] + network["trace_cpu_s"], 2)
        measured = {**facts, **measured}
    _write(path, measured)
    if measured is not None:
        scores = f"{measured['validation']['auc']:.4f} / {measured['test']['auc']:.4f}"
        print(f"{job.label} {network['name']}: {measured['lut']} LUT, AUC {scores}", flush=True)
    return measured


def _train(job: PeerJob) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    description = job.folder / "job.json"
    _write(
        description,
        {"peer": job.peer, "seed": job.seed, "settings": job.settings, "events": str(job.events.path)},
    )
    # one thread each: the CPU seconds of two peers shall mean the same
    threads = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "PYTHONUNBUFFERED": "1",
    }
    for environment, script in _SCRIPTS[job.peer]:
        python = sys.executable if environment is None else str(python_of(environment))
        print(f"{job.label}: {script}", flush=True)
        command = [python, str(HERE / script), str(description)]
        done = subprocess.run(command, env={**os.environ, **threads}, check=False)
        if done.returncode:
            raise TrainingFailedError(f"{job.label}: {script} ended with {done.returncode}")


def _write(path: Path, content: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2))
    temporary.rename(path)
