"""The two-stage firmware of a real project, simulated against the cycle model: decisions, cycles, occupancy.

    python benchmarks/two_stage_firmware.py [--out FOLDER] [--crossings 20000] [--busy 20000]

FOLDER is the output folder of ``trigger-prune two-stage PROJECT --firmware`` (default: that of the jet tagger's first
seed in ``benchmarks/two_stage.py``, run with ``--firmware``). Objects are the test events of its golden vectors, drawn
anew; crossings follow the filling scheme of the project. A second part of the same stream has half of its objects above
t_reject, far more than the design is made for, so that the FIFO overflows. The generated HLS C++ is compiled with g++,
the generated Verilog with Verilator; both compute every score themselves.

What must be equal: C++: decision, FIFO contents by the scheduler and in the stream, per crossing. Verilog: decision,
its cycle and the FIFO contents per crossing; fate, light score, cycle of the start, cycle of the score and full score
per object. Both: all counters. Prints a table, writes ``benchmarks/results/two_stage_firmware.json``, fails where
anything differs.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from _result import write_result

from trigger_prune.pipeline.stages.two_stage_costs import firmware_timing
from trigger_prune.two_stage.figures import findings_from_dict
from trigger_prune.two_stage.findings import BestDesign
from trigger_prune.two_stage.firmware.cycle_model import (
    LOST,
    CrossingStream,
    FirmwareTiming,
    IntegerThresholds,
    simulate_firmware,
)
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.hls.compare import compare_with_model as compare_hls
from trigger_prune.two_stage.firmware.hls.run import build_bench, play
from trigger_prune.two_stage.firmware.vectors import (
    FirmwareVectors,
    load_vectors,
    objects_in_crossings,
    write_text_vectors,
)
from trigger_prune.two_stage.firmware.verilog.compare import compare_with_model as compare_verilog
from trigger_prune.two_stage.firmware.verilog.cores import DECIDE_CYCLES
from trigger_prune.two_stage.firmware.verilog.run import simulate_verilog_firmware
from trigger_prune.two_stage.traffic import Engine

DEFAULT = Path(__file__).parents[1] / "hls_projects" / "jet_tagger" / "build" / "two_stage_benchmark" / "seed1"
BUSY_SHARE = 0.5
_CONFIG = re.compile(r"static const (?:int|long long|bool) (\w+) = (-?\w+?)(?:LL)?;")
_TOP = re.compile(r"localparam (?:signed \[\d+:0\] )?(\w+) = (-?)(?:\d+'sd)?(\d+);")


@dataclass(frozen=True)
class Project:
    """What was generated, by the findings of the study and by the constants in the code."""

    folder: Path
    best: BestDesign
    filled: np.ndarray
    thresholds: IntegerThresholds
    engine: Engine
    hls_timing: FirmwareTiming
    verilog_timing: FirmwareTiming
    golden: FirmwareVectors


def read_project(out: Path) -> Project:
    """The findings, and the timing of the Verilog. Fails where the code has other constants than the findings."""
    folder = out / "two_stage"
    findings = findings_from_dict(json.loads((folder / "two_stage.json").read_text()))
    best = findings.best
    assert best is not None, "no design was a solution"
    integers, engine = best.integer_thresholds, best.point.engine
    assert integers["t_reject"] is not None
    thresholds = IntegerThresholds(
        integers["t_reject"], integers["t_accept"], integers["t_full"], integers["t_overflow"]
    )
    config = dict(_CONFIG.findall((folder / "firmware" / "hls" / "two_stage_config.h").read_text()))
    source = (folder / "firmware" / "verilog" / "src" / "two_stage_top.v").read_text()
    top = {name: int(sign + value) for name, sign, value in _TOP.findall(source)}
    for name, value in vars(thresholds).items():
        stated = int(config[name.upper()]) if config[f"HAS_{name[2:].upper()}"] == "true" else None
        assert (stated, top.get(name.upper())) == (value, value), f"{name}: {value}, C++ {stated}, Verilog {top}"
    wanted = (engine.ii_cycles, engine.clock_multiple, engine.fifo_depth)
    assert tuple(int(config[name]) for name in ("II_CYCLES", "CLOCK_MULTIPLE", "FIFO_DEPTH")) == wanted
    timing = firmware_timing(best.point.latency.light_cycles, best.point.latency.full_cycles)
    light = top["LIGHT_CYCLES"] + top["SLOTS"] - 1
    in_verilog = FirmwareTiming(light, top["ARRIVAL"] - light, top["FULL_CYCLES"], DECIDE_CYCLES)
    decides = top["OUTPUT_CYCLES"]
    assert in_verilog.output_cycles(engine) == decides, f"the Verilog decides after {decides} cycles"
    golden = load_vectors(folder / "firmware" / "hls" / "tb_data" / "vectors.npz")
    return Project(folder, best, np.asarray(findings.filled), thresholds, engine, timing, in_verilog, golden)


def make_stream(project: Project, crossings: int, busy: int, seed: int = 1) -> tuple[np.ndarray, CrossingStream]:
    """Features and stream: ``crossings`` as in the experiment, then ``busy`` with many objects for the full network."""
    golden, generator = project.golden, np.random.default_rng(seed)
    counts = golden.stream.objects[np.resize(project.filled, golden.crossings)]
    shares = (np.bincount(counts) / len(counts)).tolist()
    objects = objects_in_crossings(project.filled, crossings + busy, shares, seed)
    first, second = int(objects[:crossings].sum()), int(objects[crossings:].sum())
    everything = np.arange(len(golden.stream.light))
    hard = np.flatnonzero(golden.stream.light >= project.thresholds.t_reject)
    chosen = generator.choice(everything, first + second)
    escalate = np.arange(first + second) >= first
    escalate &= generator.random(first + second) < BUSY_SHARE
    chosen[escalate] = generator.choice(hard, int(escalate.sum()))
    return golden.features[chosen], CrossingStream(objects, golden.stream.light[chosen], golden.stream.full[chosen])


def traced(project: Project, features: np.ndarray, stream: CrossingStream, timing: FirmwareTiming) -> FirmwareVectors:
    """Vectors of one of the two designs."""
    return FirmwareVectors(features, stream, simulate_firmware(stream, project.thresholds, project.engine, timing))


def run_hls(project: Project, vectors: FirmwareVectors, work: Path) -> tuple[dict[str, float], str]:
    """Compile, play, compare."""
    start = time.monotonic()
    bench = build_bench(project.folder / "firmware" / "hls", work / "build")
    built = time.monotonic() - start
    write_text_vectors(vectors, work / "vectors")
    run = play(bench, work / "vectors")
    verdict = compare_hls(_design(project), vectors.trace, run)
    figures = {
        "decision_differences": verdict.decisions,
        "occupancy_differences": verdict.waiting + verdict.stream,
        "counter_differences": len(verdict.counters),
        "build_s": round(built, 1),
        "run_s": round(run.seconds, 1),
    }
    return figures, str(verdict)


def run_verilog(project: Project, vectors: FirmwareVectors) -> tuple[dict[str, float], str]:
    """The same in Verilator, clock by clock."""
    run = simulate_verilog_firmware(project.folder / "firmware" / "verilog", vectors, timeout_s=1800)
    verdict = compare_verilog(_design(project), vectors, run)
    wrong = verdict.differences
    figures = {
        "decision_differences": wrong["decision"],
        "cycle_differences": wrong["output cycle"] + wrong["start cycle"] + wrong["score cycle"],
        "occupancy_differences": wrong["waiting"] + wrong["fate"],
        "score_differences": wrong["light score"] + wrong["full score"],
        "counter_differences": len(verdict.counters) + verdict.surplus,
        "build_s": round(run.build_seconds, 1),
        "run_s": round(run.run_seconds, 1),
    }
    return figures, str(verdict)


def _design(project: Project) -> FirmwareDesign:
    """The comparisons ask a design for its engine and nothing else."""
    return cast(FirmwareDesign, SimpleNamespace(engine=project.engine))


def parts_of(vectors: FirmwareVectors, crossings: int) -> dict[str, dict[str, int]]:
    """What happened in either part of the stream, by the cycle model."""
    of_object = np.repeat(np.arange(vectors.crossings), vectors.stream.objects)
    trace, found = vectors.trace, {}
    for name, chosen in (("experiment", of_object < crossings), ("busy", of_object >= crossings)):
        mine = slice(0, crossings) if name == "experiment" else slice(crossings, None)
        found[name] = {
            "crossings": len(trace.accepted[mine]),
            "objects": int(chosen.sum()),
            "escalated": int((chosen & (trace.fate >= 2)).sum()),
            "lost": int((chosen & (trace.fate == LOST)).sum()),
            "accepted_crossings": int(trace.accepted[mine].sum()),
            "most_waiting": int(trace.waiting[mine].max()),
        }
    return found


def main() -> int:
    """Run, print, write the result file; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--crossings", type=int, default=20_000)
    parser.add_argument("--busy", type=int, default=20_000)
    options = parser.parse_args()
    start = time.monotonic()
    project = read_project(options.out)
    features, stream = make_stream(project, options.crossings, options.busy)
    again = simulate_firmware(project.golden.stream, project.thresholds, project.engine, project.hls_timing)
    assert again.counters == project.golden.trace.counters, "the golden vectors are of another design"
    hls, verilog = (
        traced(project, features, stream, timing) for timing in (project.hls_timing, project.verilog_timing)
    )
    parts = parts_of(hls, options.crossings)
    for name, counts in parts.items():
        print(f"{name}: {counts}", flush=True)
    with tempfile.TemporaryDirectory(prefix="two_stage_firmware_") as scratch:
        found: dict[str, Any] = {"hls": run_hls(project, hls, Path(scratch))}
        print(f"C++: {found['hls'][1]}", flush=True)
        found["verilog"] = run_verilog(project, verilog)
        print(f"Verilog: {found['verilog'][1]}", flush=True)
    figures = {f"{kind}.{name}": value for kind, (values, _) in found.items() for name, value in values.items()}
    figures |= {f"{part}.{name}": float(value) for part, counts in parts.items() for name, value in counts.items()}
    figures |= {
        "crossings": hls.crossings,
        "hls.output_cycles": hls.trace.output_cycles,
        "verilog.output_cycles": verilog.trace.output_cycles,
        "total_s": round(time.monotonic() - start, 1),
    }
    differences = sum(value for name, value in figures.items() if name.endswith("_differences"))
    figures["differences"] = differences
    design = project.best.point
    write_result(
        "two_stage_firmware",
        figures,
        ("trigger_prune", "hls4ml", "alkaid"),
        design=f"{design.light_name}, then {design.full_name} at reuse factor {design.reuse_factor}, FIFO of "
        f"{design.engine.fifo_depth}, {design.engine.clock_multiple} cycles per crossing",
        verdicts={kind: text for kind, (_, text) in found.items()},
    )
    return int(differences > 0)


if __name__ == "__main__":
    raise SystemExit(main())
