"""What other tools reach on the jet tagger, each in an environment of its own, all through one flow.

    python benchmarks/peers.py [--data builtin:jets16] [--data FILE.npz] [--peer hgq2 ...] [--seeds 1 2 3]
                               [--length 1.0] [--quick] [--table]

Peers: HGQ2 (one long ramp of beta), PQuantML (PDP), torch-pruning with quantisation-aware training, and long magnitude
pruning; beside them the toolkit itself with learned bit widths. Same events, same split, same network 16-64-32-32-5,
same flow to LUTs; networks are chosen on validation and quoted on test events. Every point states its optimiser steps
and its CPU seconds of training and of measuring the cost: training length matters more than the method.

A training that was done is never repeated, nor is a measured network: the run can be stopped at any time. Environments
and trainings are kept in $TRIGGER_PRUNE_PEERS (default: benchmarks/peers/.cache); finished trainings also stand in
``benchmarks/results/peers.json``, from where they are taken on another machine. ``--table`` only prints what is there.
``--length`` multiplies all epochs. A seed counts as finished when every training of the peer is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _result import RESULTS, write_result

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from peer_environments import PeerUnavailableError, cache_folder
from peer_events import EventFile, export_events
from peer_flow import FLOW
from peer_front import Point, cell, front
from peer_jobs import PeerJob, TrainingFailedError, run_job
from peer_menu import PEERS, length_for, trainings

BUDGETS = (2000, 5000, 10_000, 20_000)
Record = dict[str, Any]


def main() -> None:
    """Run what is missing, print the table, write the result file after every training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", help="builtin:jets16 (default) or a file with x and y; repeatable")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only this peer; repeatable")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--length", type=float, default=1.0, help="factor on all epochs")
    parser.add_argument("--quick", action="store_true", help="a few epochs and one point a peer: says nothing")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table of the result file")
    arguments = parser.parse_args()
    name = "peers_quick" if arguments.quick else "peers"
    stored = _stored(name)
    if arguments.table:
        print(table(list(stored["jobs"].values()), stored["wanted"]))
        return
    events = [export_events(source, cache_folder() / "events") for source in arguments.data or ["builtin:jets16"]]
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    for file in events:
        stored["events"][file.name] = file.facts
        for seed in seeds:
            for peer in arguments.peer or PEERS:
                _run_peer(peer, seed, file, arguments, stored, name)
    print(table(list(stored["jobs"].values()), stored["wanted"]))


def _run_peer(
    peer: str, seed: int, events: EventFile, arguments: argparse.Namespace, stored: Record, name: str
) -> None:
    n_train = events.facts["events"]["train"]  # type: ignore[index]
    length = length_for(n_train, arguments.length, arguments.quick)
    jobs = [PeerJob(peer, seed, settings, events) for settings in trainings(peer, length, arguments.quick)]
    stored["wanted"].setdefault(events.name, {}).setdefault(peer, {})[str(seed)] = [job.key for job in jobs]
    for job in jobs:
        if job.key not in stored["jobs"]:
            try:
                stored["jobs"][job.key] = run_job(job)
            except PeerUnavailableError as error:
                stored["failed"][f"{events.name} {peer} seed {seed}"] = str(error)
                print(error, flush=True)
                _store(name, stored)
                return
            except TrainingFailedError as error:
                stored["failed"][job.label] = str(error)
                print(error, flush=True)
                _store(name, stored)
                continue
            for label in (job.label, f"{events.name} {peer} seed {seed}"):
                stored["failed"].pop(label, None)
        _store(name, stored)


def _stored(name: str) -> Record:
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return {
        "jobs": {job["key"]: job for job in found.get("jobs", [])},
        "wanted": found.get("wanted", {}),
        "events": found.get("events", {}),
        "failed": found.get("failed", {}),
    }


def _store(name: str, stored: Record) -> None:
    _take_over(_stored(name), stored)
    jobs = sorted(stored["jobs"].values(), key=lambda job: (job["data"], job["peer"], job["seed"], job["key"]))
    finished = finished_seeds(jobs, stored["wanted"])
    write_result(
        name,
        figures(jobs, stored["wanted"]),
        ("trigger_prune", "alkaid", "pyosys", "torch"),
        flow=FLOW,
        events=stored["events"],
        finished_seeds={data: {peer: list(seeds) for peer, seeds in row.items()} for data, row in finished.items()},
        failed=stored["failed"],
        fronts={
            data: {
                peer: {str(seed): [vars(point) for point in front(points)] for seed, points in seeds.items()}
                for peer, seeds in row.items()
            }
            for data, row in finished.items()
        },
        wanted=stored["wanted"],
        jobs=jobs,
    )


def _take_over(there: Record, stored: Record) -> None:
    """Add to ``stored`` what another run has left in the result file meanwhile."""
    stored["jobs"] = there["jobs"] | stored["jobs"]
    stored["events"] = there["events"] | stored["events"]
    for data, peers in there["wanted"].items():
        for peer, seeds in peers.items():
            known = stored["wanted"].setdefault(data, {})
            known[peer] = seeds | known.get(peer, {})


def finished_seeds(jobs: list[Record], wanted: Record) -> dict[str, dict[str, dict[int, list[Point]]]]:
    """Points by data, peer and seed, of the seeds whose every training is done."""
    by_key = {job["key"]: job for job in jobs}
    found: dict[str, dict[str, dict[int, list[Point]]]] = {}
    for data, peers in wanted.items():
        for peer, seeds in peers.items():
            for seed, keys in seeds.items():
                if all(key in by_key for key in keys):
                    points = [_point(point) for key in keys for point in by_key[key]["points"]]
                    found.setdefault(data, {}).setdefault(peer, {})[int(seed)] = points
    return found


def _point(point: Record) -> Point:
    validation, test = point["validation"], point["test"]
    return Point(
        point["name"],
        point["lut"],
        validation["auc"],
        test["auc"],
        validation["accuracy"],
        test["accuracy"],
    )


def peer_jobs_of(jobs: list[Record], wanted_of_peer: Record, seeds: Iterable[int]) -> list[Record]:
    """The trainings of a peer that belong to these seeds."""
    keys = {key for seed in seeds for key in wanted_of_peer[str(seed)]}
    return [job for job in jobs if job["key"] in keys]


def effort(jobs: list[Record], n_seeds: int) -> tuple[float, float]:
    """Optimiser steps and CPU seconds of training behind the front of one seed, mean over seeds."""
    return sum(job["optimiser_steps"] for job in jobs) / n_seeds, sum(job["train_cpu_s"] for job in jobs) / n_seeds


def figures(jobs: list[Record], wanted: Record) -> dict[str, float]:
    """Flat figures: accuracy, AUC and LUT on test events within each LUT budget, mean over the finished seeds."""
    found: dict[str, float] = {}
    for data, peers in finished_seeds(jobs, wanted).items():
        for peer, seeds in peers.items():
            found[f"{data}.{peer}.seeds"] = len(seeds)
            steps, cpu_s = effort(peer_jobs_of(jobs, wanted[data][peer], seeds), len(seeds))
            found[f"{data}.{peer}.optimiser_steps"] = round(steps)
            found[f"{data}.{peer}.train_cpu_s"] = round(cpu_s, 1)
            points = [point for job in peer_jobs_of(jobs, wanted[data][peer], seeds) for point in job["points"]]
            found[f"{data}.{peer}.cost_cpu_s"] = round(sum(point["cost_cpu_s"] for point in points) / len(seeds), 1)
            for budget in BUDGETS:
                reached = cell(seeds, budget)
                if reached is not None:
                    prefix = f"{data}.{peer}.lut{budget}"
                    found[f"{prefix}.auc"] = round(reached.test_auc, 5)
                    found[f"{prefix}.accuracy"] = round(reached.test_accuracy, 5)
                    found[f"{prefix}.lut"] = round(reached.lut, 1)
    return found


def table(jobs: list[Record], wanted: Record) -> str:
    """Markdown: accuracy / AUC @ LUT on test events, for every peer and LUT budget."""
    lines: list[str] = []
    by_key = {job["key"]: job for job in jobs}
    for data, peers in finished_seeds(jobs, wanted).items():
        head = " | ".join(f"<= {budget} LUT" for budget in BUDGETS)
        lines += [f"\n{data}: accuracy / AUC @ LUT, test events, chosen on validation", ""]
        lines += [f"| peer | seeds | steps, CPU s of a front | {head} |", "|" + "---|" * (3 + len(BUDGETS))]
        for peer, seeds in peers.items():
            steps, cpu_s = effort(peer_jobs_of(jobs, wanted[data][peer], seeds), len(seeds))
            cells = [_cell_text(seeds, budget) for budget in BUDGETS]
            listed = ", ".join(map(str, sorted(seeds)))
            lines.append(f"| {peer} | {listed} | {steps / 1000:.0f}k, {cpu_s:.0f} s | {' | '.join(cells)} |")
    unfinished = [
        f"{data} {peer} seed {seed} ({sum(key in by_key for key in keys)} of {len(keys)} trainings)"
        for data, peers in wanted.items()
        for peer, seeds in peers.items()
        for seed, keys in seeds.items()
        if not all(key in by_key for key in keys)
    ]
    if unfinished:
        lines += ["", "unfinished, not in the table: " + "; ".join(unfinished)]
    return "\n".join(lines)


def _cell_text(seeds: dict[int, list[Point]], budget: int) -> str:
    reached = cell(seeds, budget)
    if reached is None:
        return "-"
    spread = f" ± {reached.test_auc_sd:.4f}" if reached.test_auc_sd is not None else ""
    return f"{reached.test_accuracy:.4f} / {reached.test_auc:.4f}{spread} @{reached.lut:.0f}"


if __name__ == "__main__":
    main()
