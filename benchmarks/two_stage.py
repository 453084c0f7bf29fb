"""Does a second stage pay? Jets (W, Z, t against q, g at 1 % background) and HH -> 4b at 100 kHz, full training.

    python benchmarks/two_stage.py [--seeds 1 2 3] [--projects jets hh4b]

Every row is a design of ``trigger-prune two-stage`` (``hls_projects/jet_tagger`` and ``hh4b_trigger``), on test events
at exactly the target rate, with the relative loss of signal efficiency against the full model alone (paired bootstrap
by generated collision; 90 % of the replicas lose less than the limit). LUTs are estimates of csynth by formula, FIFO
and control included. Finished stages are kept in the projects' build folders.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _result import write_result

from trigger_prune.config.load import load_project
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages.two_stage import TWO_STAGE_STAGES

PROJECTS = Path(__file__).parents[1] / "hls_projects"
RUNS = {
    "jets": ("jet_tagger", ["physics.signal=[W,Z,t]", "objective=efficiency_at_fpr"]),
    "hh4b": ("hh4b_trigger", []),
}


def run(name: str, seed: int) -> dict[str, Any]:
    """Rows, single-stage designs and recommendation of one seed."""
    project, settings = RUNS[name]
    out = PROJECTS / project / "build" / "two_stage_benchmark" / f"seed{seed}"
    findings = run_pipeline(load_project(PROJECTS / project, settings, seed), TWO_STAGE_STAGES, out).result("two_stage")
    rows = []
    for row in findings.rows:
        lut = None if row.cost is None else (row.cost.lut or 0) + (0 if row.buffer is None else row.buffer.lut or 0)
        rows.append(
            {
                "kind": row.kind,
                "name": row.name,
                "efficiency": row.efficiency.value,
                "loss": None if row.loss is None else row.loss.relative_loss.value,
                "loss_error": None if row.loss is None else row.loss.relative_loss.error,
                "loss_limit90": None if row.loss is None else row.loss.relative_loss_limit90,
                "lut": lut,
                "dsp": None if row.cost is None else row.cost.dsp,
                "latency_ns": None if row.latency is None else row.latency.output_ns,
            }
        )
        print(f"{name} seed {seed}: {rows[-1]}", flush=True)
    best = findings.best
    return {
        "rows": rows,
        "singles": [
            {"reuse_factor": s.reuse_factor, "copies": s.copies, s.full_name: s.resource_used, "problems": s.problems}
            for s in findings.singles
        ],
        "verdict": findings.recommendation.verdict,
        "sentences": findings.recommendation.sentences,
        "saving": findings.recommendation.saving,
        "escalated": None if best is None else best.working_point.escalated.value,
        "overflow": None if best is None else best.working_point.queue.overflow_per_object,
        "reuse_factor": None if best is None else best.point.reuse_factor,
        "fifo_depth": None if best is None else best.point.engine.fifo_depth,
        "clock_multiple": None if best is None else best.point.engine.clock_multiple,
        "resource": findings.resource,
        "latency_budget_ns": findings.latency_budget_ns,
    }


def main() -> None:
    """Run, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--projects", nargs="+", choices=list(RUNS), default=list(RUNS))
    options = parser.parse_args()
    found = {name: {str(seed): run(name, seed) for seed in options.seeds} for name in options.projects}
    figures = {
        f"{name}.{key}.seed{seed}": value
        for name, seeds in found.items()
        for seed, result in seeds.items()
        for key, value in result.items()
        if isinstance(value, int | float)
    }
    if set(options.projects) == set(RUNS):
        write_result("two_stage", figures, ("trigger_prune", "torch"), runs=found)


if __name__ == "__main__":
    main()
