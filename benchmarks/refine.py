"""What does refinement save after training, at equal AUC?

    python benchmarks/refine.py [--quick] [--data builtin:jets16 or FILE] [--seeds 1 2] [--sparsities 0.8 0.92]

Starts are the magnitude-pruned networks of ``benchmarks/peers`` (16-64-32-32-5, 6 bits, 80 float and 400 quantised
epochs on a small sample, a third on a large one). Each is refined with and without fine-tuning. ``control`` gives the
start as many further epochs as the refinement had, at its learning rate and without a move. All choices are made on
training and validation events. Points of the front go through the peers' flow (alkaid, Verilog, a register
every 5 adders, Yosys); AUC is the mean one-versus-rest AUC of the adder graph on test events.

Trained starts are kept in ``benchmarks/build/refine``. Prints a table and writes ``benchmarks/results/refine.json``.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _result import write_result
from torch import fx

PEERS = Path(__file__).parent / "peers"
sys.path.insert(0, str(PEERS))

from in_peer import Events, Job  # noqa: E402
from peer_events import export_events  # noqa: E402
from peer_flow import measure  # noqa: E402
from peer_menu import HIDDEN, length_for  # noqa: E402
from quantised import batches, quantize, train_float, train_quantised  # noqa: E402

from trigger_prune.models.mlp import Mlp  # noqa: E402
from trigger_prune.prune.refine import FrontPoint, RefineSettings, refine_network  # noqa: E402
from trigger_prune.prune.refine.codes import write_codes  # noqa: E402
from trigger_prune.quantize.checkpoint import load_network, save_network  # noqa: E402
from trigger_prune.quantize.convert import input_shape_of, input_type_of  # noqa: E402
from trigger_prune.quantize.freeze import freeze  # noqa: E402
from trigger_prune.synthesis.rtl.trace import trace_network  # noqa: E402
from trigger_prune.train.evaluate import evaluate  # noqa: E402
from trigger_prune.train.fit import FitSettings, fit  # noqa: E402
from trigger_prune.train.objective import Objective  # noqa: E402

BUILD = Path(__file__).parent / "build" / "refine"
FALLS = (0.0, 0.001, 0.002, 0.004, 0.008, 0.012)
"""Losses of validation AUC at which the cheapest point is measured."""

CONTROL = -1
"""Round of the network that was trained on instead of refined."""


def job_of(data: str, seed: int) -> tuple[Job, Path, str]:
    """Events and settings as the peers have them."""
    file = export_events(data, BUILD)
    with np.load(file.path) as arrays:
        parts = ("train", "validation", "test")
        events = Events(
            {part: arrays[f"x_{part}"] for part in parts},
            {part: arrays[f"y_{part}"] for part in parts},
            int(arrays["width"]),
            int(arrays["integer"]),
        )
    settings = {"weight_bits": 6, "activation_bits": 6, "batch_size": 1024, "learning_rate": 4e-3}
    return Job("magnitude", seed, settings, BUILD, events), file.path, f"{file.name}-{file.digest[:8]}"


def start(job: Job, name: str, sparsity: float, quick: bool) -> tuple[fx.GraphModule, float]:
    """A trained network and the CPU seconds of its training (0 when it was kept)."""
    epochs = length_for(len(job.events.y["train"]), 1.0, quick).point
    floating = max(1, epochs // 6)
    model = Mlp(job.events.x["train"].shape[1:], job.classes, HIDDEN)
    path = BUILD / f"{name}-s{sparsity:g}-e{epochs}-seed{job.seed}.pt"
    if path.exists():
        return load_network(path, model).eval(), 0.0
    before = time.process_time()
    torch.manual_seed(job.seed)
    model = Mlp(job.events.x["train"].shape[1:], job.classes, HIDDEN)
    train_float(model, job, floating)
    network = quantize(model, job)
    train_quantised(network, job, epochs - floating, sparsity)
    save_network(network, path)
    return network.eval(), time.process_time() - before


def synthesised(network: fx.GraphModule, events: Path) -> dict[str, Any] | None:
    """LUTs and scores by the peers' flow."""
    comb = trace_network(freeze(network), input_type_of(network), input_shape_of(network))
    file = BUILD / "measured.comb.json.gz"
    comb.save(file)
    return measure(file, events)


def chosen(points: tuple[FrontPoint, ...]) -> dict[float, FrontPoint]:
    """By loss of validation AUC, the cheapest measured point."""
    first = points[0].validation_merit
    return {
        fall: min((p for p in points if p.validation_merit >= first - fall), key=lambda p: (p.cost, p.round))
        for fall in FALLS
    }


def control(job: Job, network: fx.GraphModule, rounds: int, settings: RefineSettings) -> fx.GraphModule:
    """The start after as many rounds of fine-tuning as the refinement had, none of which moves a weight to another
    number of digits by choice: the network of the round with the best AUC on validation."""
    train, validation = batches(job, "train"), batches(job, "validation")
    best, best_auc = copy.deepcopy(network), evaluate(network, validation, "classify", Objective("auc")).merit
    for number in range(1, rounds + 1):
        fit_settings = FitSettings(
            f"control {number}",
            settings.fine_tune_epochs,
            settings.batch_size,
            settings.learning_rate,
            settings.seed + 1000 * number,
            weight_decay=settings.weight_decay,
            select="last",
        )
        fit(network, train, validation, fit_settings)
        auc = evaluate(network, validation, "classify", Objective("auc")).merit
        if auc > best_auc:
            best, best_auc = copy.deepcopy(network), auc
    return best.eval()


def run(data: str, seed: int, sparsity: float, quick: bool) -> list[dict[str, Any]]:
    """One start, refined in two ways; a row per synthesised network."""
    job, events, name = job_of(data, seed)
    rows: list[dict[str, Any]] = []
    for epochs in (15, 0):
        network, train_cpu_s = start(job, name, sparsity, quick)
        settings = RefineSettings(
            fine_tune_epochs=min(epochs, 2) if quick else epochs,
            rounds=4 if quick else 80,
            largest_merit_loss=max(FALLS),
            measure_every=2,
            seed=seed,
        )
        before = time.process_time()
        result = refine_network(
            network, batches(job, "train"), batches(job, "validation"), settings, objective=Objective("auc")
        )
        cpu_s = time.process_time() - before
        measured: dict[int, dict[str, Any] | None] = {}
        wanted: list[tuple[float | str | None, FrontPoint]] = [(None, result.points[0])]
        wanted += chosen(result.points).items()
        if settings.fine_tune_epochs:
            longer, _ = start(job, name, sparsity, quick)
            measured[CONTROL] = synthesised(control(job, longer, result.points[-1].round, settings), events)
            wanted.append(("control", replace(result.points[0], round=CONTROL)))
        for fall, point in wanted:
            if point.round not in measured:
                write_codes(network, point.codes)
                measured[point.round] = synthesised(network, events)
            found = measured[point.round]
            if found is None:
                continue
            row = {
                "seed": seed,
                "sparsity": sparsity,
                "fine_tune_epochs": settings.fine_tune_epochs,
                "fall": fall,
                "round": point.round,
                "alkaid_cost": point.cost,
                "lut": found["lut"],
                "validation_auc": found["validation"]["auc"],
                "test_auc": found["test"]["auc"],
                "test_accuracy": found["test"]["accuracy"],
                "train_cpu_s": round(train_cpu_s, 1),
                "refine_cpu_s": round(cpu_s, 1),
            }
            rows.append(row)
            what = "start" if fall is None else fall if isinstance(fall, str) else f"-{fall:g}"
            print(
                f"seed {seed} {sparsity:.0%} {settings.fine_tune_epochs:>2} epochs {what:>7}: {row['lut']:>6} LUT, "
                f"AUC {row['validation_auc']:.4f} / {row['test_auc']:.4f}, {cpu_s:.0f} s",
                flush=True,
            )
    return rows


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """LUTs after / before and AUC after - before, averaged over seeds, for every start and fall."""
    found: dict[str, float] = {}
    for sparsity in sorted({row["sparsity"] for row in rows}):
        for epochs in sorted({row["fine_tune_epochs"] for row in rows}):
            mine = [row for row in rows if (row["sparsity"], row["fine_tune_epochs"]) == (sparsity, epochs)]
            first = {row["seed"]: row for row in mine if row["fall"] is None}
            for fall in (None, *FALLS, "control"):
                pairs = [(row, first[row["seed"]]) for row in mine if row["fall"] == fall and row["seed"] in first]
                if pairs:
                    name = "start" if fall is None else fall if isinstance(fall, str) else f"fall{fall:g}"
                    key = f"sparsity{sparsity:g}.epochs{epochs}.{name}"
                    found[f"{key}.lut"] = float(np.mean([row["lut"] for row, _ in pairs]))
                    found[f"{key}.lut_ratio"] = float(np.mean([row["lut"] / old["lut"] for row, old in pairs]))
                    found[f"{key}.test_auc"] = float(np.mean([row["test_auc"] for row, _ in pairs]))
                    found[f"{key}.test_auc_change"] = float(
                        np.mean([row["test_auc"] - old["test_auc"] for row, old in pairs])
                    )
    return found


def main() -> None:
    """Run, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few epochs and rounds, one seed, one sparsity")
    parser.add_argument("--data", default="builtin:jets16")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.8, 0.92])
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, sparsities = ([1], [0.9]) if options.quick else (options.seeds, options.sparsities)
    BUILD.mkdir(parents=True, exist_ok=True)
    rows = [
        row for sparsity in sparsities for seed in seeds for row in run(options.data, seed, sparsity, options.quick)
    ]
    name = "refine_quick" if options.quick else "refine"
    write_result(name, figures(rows), ("trigger_prune", "alkaid", "pyosys", "torch"), rows=rows)


if __name__ == "__main__":
    main()
