"""Made-up runs, and worker processes that write them, for the tests of the report store. No torch."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ArtefactError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.store.entry import StoredRun
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target

PART = Target().part


def spec(seed: int = 0) -> NetworkSpec:
    """Two layers with integer weights of their own for every seed."""
    rng = np.random.default_rng(seed)
    fixed, bias = FixedPoint(6, 2), FixedPoint(12, 4)
    first = WeightLayer(
        "fc1", "dense", rng.integers(-32, 32, (5, 4)), fixed, rng.integers(-9, 9, 5), bias, FixedPoint(8, 3),
        FixedPoint(7, 3, False), True, 1,
    )  # fmt: skip
    last = WeightLayer(
        "conv", "conv2d", rng.integers(-3, 3, (3, 5, 2, 2)), fixed, np.zeros(3, np.int64), bias,
        FixedPoint(7, 3, False), None, False, 6,
    )  # fmt: skip
    return NetworkSpec((first, last), FixedPoint(8, 3), (4,), 3)


def report(network: NetworkSpec, lut: int, stage: CostStage = CostStage.CSYNTH, **more: Any) -> HardwareReport:
    values: dict[str, Any] = {"tool": "Vitis HLS", "tool_version": "2023.2", "ff": 2 * lut, **more}
    return HardwareReport(
        stage=stage, part=PART, clock_period_ns=5.0, lut=lut, dsp=0, bram18=None, latency_cycles=7, ii=1,
        content_hash=network.content_hash(), **values,
    )  # fmt: skip


def run(seed: int = 0, lut: int | None = None, created: str = "2026-01-02T03:04:05+00:00", **more: Any) -> StoredRun:
    """A run whose LUT count follows from the seed unless given."""
    network = spec(seed)
    parts = {
        "format": 1,
        "flow": "hls",
        "network": f"digest {seed}",
        "content_hash": network.content_hash(),
        "options": {"steps": ["csynth"]},
        "target": Target().to_dict(),
        "tool": {"tool": "vitis_hls", "version": "2023.2"},
    }
    reports = {CostStage.CSYNTH: report(network, 1000 + seed if lut is None else lut)}
    values: dict[str, Any] = {"log": f"synthesis of {seed}\n" * 20, "raw": {"top_csynth.xml": "<a>\n</a>\n"}, **more}
    return StoredRun(parts, values.pop("reports", reports), created, network=network, **values)


def big_run(seed: int, writer: int) -> StoredRun:
    """A run of many files, each of which tells who wrote it; a mixture of two writers would show."""
    return run(
        seed,
        lut=100_000 + writer,
        log=f"writer {writer}\n" * 2000,
        raw={f"file{n}.rpt": f"writer {writer} file {n}\n" * 200 for n in range(6)},
    )


def write_forever(folder: str, writer: str) -> None:
    """Write five keys again and again, removing them now and then; until killed."""
    store, number = ReportStore(Path(folder)), 0
    while True:
        number += 1
        store.put(big_run(number % 5, int(writer)), replace_existing=number % 3 == 0)
        if number % 17 == 0:
            store.discard(run(number % 5).key)


def write_own_and_shared(folder: str, writer: str) -> None:
    """30 keys that all writers write, and 10 of its own."""
    store = ReportStore(Path(folder))
    for seed in range(30):
        kept = store.put(big_run(seed, int(writer)))
        assert kept.log == f"writer {kept.reports[CostStage.CSYNTH].lut - 100_000}\n" * 2000
    for seed in range(10):
        store.put(big_run(1000 + 10 * int(writer) + seed, int(writer)))


def read_for(folder: str, seconds: str) -> None:
    """Read everything again and again; every entry must be the work of one writer. Prints how many were read."""
    store, read = ReportStore(Path(folder)), 0
    end = time.monotonic() + float(seconds)
    damaged: list[ArtefactError] = []
    while time.monotonic() < end:
        for found in store.runs(lambda _key, error: damaged.append(error)):
            writer = found.reports[CostStage.CSYNTH].lut - 100_000
            assert found.log == f"writer {writer}\n" * 2000
            assert len(found.raw) == 6
            for n in range(6):
                assert found.raw[f"file{n}.rpt"] == f"writer {writer} file {n}\n" * 200
            read += 1
    assert not damaged, damaged[0]
    print(read)


def with_lut(old: StoredRun, lut: int) -> StoredRun:
    """The same key with another figure."""
    reports = {stage: replace(found, lut=lut) for stage, found in old.reports.items()}
    return replace(old, reports=reports)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
