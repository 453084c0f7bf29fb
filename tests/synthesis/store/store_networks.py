"""A small quantised network and cost models that count how often they are asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.synthesis.store.claim import Patience
from trigger_prune.synthesis.store.cost import StoredCost
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target

BITS = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
QUICK = Patience(heartbeat_s=0.1, stale_s=5.0, poll_s=0.02)


def network(seed: int = 0, model: nn.Module | None = None, shape: tuple[int, ...] = (6,)) -> fx.GraphModule:
    torch.manual_seed(seed)
    model = model or nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    events = torch.from_numpy(np.random.default_rng(1).normal(size=(200, *shape)).astype(np.float32))
    return quantize_model(model, events, FixedPoint(8, 3), BITS)


@dataclass(frozen=True)
class Counting:
    """A backend whose LUT count is the number of weights that are not zero; writes a line for every call."""

    calls: Path = field(metadata={"limit": True})
    effort: int = 1
    timeout_s: float = field(default=10.0)
    memory_limit_mib: float = 100.0
    seconds: float = field(default=0.0, metadata={"limit": True})
    version: str = field(default="1.5", metadata={"limit": True})
    error: Exception | None = field(default=None, metadata={"limit": True})
    name = "rtl"
    stage = CostStage.RTL_SYNTH

    def identity(self) -> Mapping[str, str] | None:
        return {"tool": "counter", "version": self.version}

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        with self.calls.open("a") as stream:
            stream.write("called\n")
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        spec = describe_network(network)
        return HardwareReport(
            self.stage, "counter", f"{self.version}.2", target.part, target.clock_period_ns, spec.nonzeros, None, 0, 0,
            3, 1, spec.content_hash(), details={"log": "/tmp/x/y/counter.log"},
        )  # fmt: skip


def calls(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def stored(model: Any, folder: Path) -> StoredCost:
    return StoredCost(model, ReportStore(folder), QUICK)


if __name__ == "__main__":
    report = stored(Counting(Path(sys.argv[2]), seconds=float(sys.argv[3])), Path(sys.argv[1])).measure(
        network(), Target()
    )
    print(report.lut)
