"""How many LUTs the toolkit needs at the AUC that its peers reach.

    python benchmarks/peers_compare.py [--data jets5_VL] [--bootstraps 400] [--metric auc|auc_softmax]

Reads what ``benchmarks/peers.py`` has measured (``results/peers.json`` and the trainings in its cache). Every side has
one front per seed, of the networks that no other beats on validation events; the peers' is that of all peers together.
On a grid of AUC (test events, mean one-versus-rest) the LUTs of a front are interpolated: its AUC is made to rise with
the LUTs by isotonic regression, and log LUT is linear between points. An AUC below that of a front's smallest network
counts with the LUTs of that network, which can only be unfavourable to the front. Quoted is the ratio of the geometric
means over seeds, with a 90 % interval from a bootstrap over test events (the same for all networks) and over the seeds
of each side. "below" is said only where the whole interval is below 1. Writes
``benchmarks/results/peers_compare.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _result import RESULTS, write_result
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from peer_environments import cache_folder
from peer_front import Point, front
from peers import finished_seeds

from trigger_prune.physics.scores import class_score
from trigger_prune.synthesis.rtl.trace import predict

OWN = "trigger_prune"
STEP = 0.002
Floats = NDArray[np.float64]


class Ranked:
    """Scores of one network on all test events, sorted once: its AUC for any event weights takes microseconds."""

    def __init__(self, outputs: Floats, labels: NDArray[np.int64], metric: str) -> None:
        exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
        self.parts = []
        for c in range(outputs.shape[1]):
            score = softmax[:, c] if metric == "auc_softmax" else class_score(outputs, c)
            self.parts.append((np.unique(score, return_inverse=True)[1], labels == c))

    def auc(self, weights: Floats) -> float:
        """Mean one-versus-rest AUC, ties counting half."""
        found = []
        for place, positive in self.parts:
            n_positive = np.bincount(place, weights * positive)
            n_negative = np.bincount(place, weights * ~positive)
            below = np.cumsum(n_negative) - n_negative / 2
            found.append((n_positive * below).sum() / n_positive.sum() / n_negative.sum())
        return float(np.mean(found))


def log_lut_at(log_lut: Floats, auc: Floats, targets: Floats) -> Floats:
    """Log LUT of a front at each AUC; infinite above its best, and that of its smallest network below its worst."""
    rising = isotonic_regression(auc).x
    first = np.concatenate([[True], np.diff(rising) > 0])
    steps, places = rising[first], log_lut[first]
    found: Floats = np.interp(targets, steps, places)
    found[targets > steps[-1]] = np.inf
    return found


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", help="as named in the table of peers.py; repeatable; default: all")
    parser.add_argument("--bootstraps", type=int, default=400)
    parser.add_argument("--metric", choices=("auc", "auc_softmax"), default="auc")
    arguments = parser.parse_args()
    stored = json.loads((RESULTS / "peers.json").read_text())
    fronts = finished_seeds(stored["jobs"], stored["wanted"])
    figures: dict[str, float] = {}
    tables: dict[str, Any] = {}
    for data in arguments.data or list(fronts):
        if OWN not in fronts[data]:
            continue
        rows, facts = compare(data, fronts[data], stored, arguments.bootstraps, arguments.metric)
        tables[data] = {"rows": rows, **facts}
        print(f"\n{data}: {facts['peers']}; {OWN} seeds {facts['own_seeds']}; metric {arguments.metric}")
        print(f"{'AUC':>7}{'peers LUT':>11}{'own LUT':>9}{'ratio':>7}  90 % interval")
        for row in rows:
            verdict = "below" if row["high"] < 1 else "above" if row["low"] > 1 else ""
            print(
                f"{row['auc']:7.4f}{row['peers_lut']:11.0f}{row['own_lut']:9.0f}{row['ratio']:7.2f}"
                f"  {row['low']:.2f} .. {row['high']:.2f} {verdict}"
            )
            figures[f"{data}.auc{row['auc']:.3f}.ratio"] = round(row["ratio"], 4)
            figures[f"{data}.auc{row['auc']:.3f}.high"] = round(row["high"], 4)
    write_result("peers_compare", figures, ("trigger_prune", "alkaid"), metric=arguments.metric, tables=tables)


def compare(
    data: str, fronts: dict[str, dict[int, list[Point]]], stored: dict[str, Any], bootstraps: int, metric: str
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """One row per AUC that every seed of the peers' joint front reaches."""
    events = next(iter((cache_folder() / "events").glob(f"{data}-*.npz")))
    with np.load(events) as file:
        x, labels = file["x_test"], file["y_test"]
    peers = {name: seeds for name, seeds in fronts.items() if name != OWN}
    peer_seeds = sorted({seed for seeds in peers.values() for seed in seeds})
    joint = [front(p for name in peers for p in peers[name].get(seed, ())) for seed in peer_seeds]
    own = [front(points) for points in fronts[OWN].values()]
    files = _files(data, stored)
    sides = [[_side(points, files, x, labels, metric) for points in seeds] for seeds in (joint, own)]
    ones = np.ones(len(labels))
    best = min(max(ranked.auc(ones) for ranked in networks) for _, networks in sides[0])
    worst = max(min(ranked.auc(ones) for ranked in networks) for _, networks in sides[0])
    targets = np.arange(np.ceil(worst / STEP), np.floor(best / STEP) + 1) * STEP
    rng = np.random.default_rng(0)
    central = [_mean_log_lut(side, ones, targets, range(len(side))) for side in sides]
    replicas = []
    for _ in range(bootstraps):
        weights = np.bincount(rng.integers(0, len(labels), len(labels)), minlength=len(labels)).astype(float)
        draws = [_mean_log_lut(side, weights, targets, rng.integers(0, len(side), len(side))) for side in sides]
        with np.errstate(invalid="ignore"):
            replicas.append(np.nan_to_num(draws[1] - draws[0], nan=np.inf, posinf=np.inf, neginf=-np.inf))
    low, high = np.quantile(np.array(replicas), (0.05, 0.95), axis=0, method="nearest")
    rows = [
        {
            "auc": round(float(target), 4),
            "peers_lut": float(np.exp(central[0][i])),
            "own_lut": float(np.exp(central[1][i])),
            "ratio": float(np.exp(central[1][i] - central[0][i])),
            "low": float(np.exp(low[i])),
            "high": float(np.exp(high[i])),
        }
        for i, target in enumerate(targets)
        if np.isfinite(central[0][i])
    ]
    names = ", ".join(f"{name} seeds {sorted(seeds)}" for name, seeds in peers.items())
    return rows, {"peers": names, "own_seeds": sorted(fronts[OWN]), "bootstraps": bootstraps}


def _files(data: str, stored: dict[str, Any]) -> dict[tuple[int, float, float], Path]:
    """The adder graph of every measured network, by LUT and the two validation figures that tell networks apart."""
    found = {}
    for job in stored["jobs"]:
        if job["data"] != data:
            continue
        folder = cache_folder() / "jobs" / f"{data}-{job['peer']}-seed{job['seed']}-{job['key']}"
        for point in job["points"]:
            key = (point["lut"], point["validation"]["auc"], point["test"]["auc"])
            found[key] = folder / f"{point['name']}.comb.json.gz"
    return found


def _side(
    points: Sequence[Point], files: dict[tuple[int, float, float], Path], x: Any, labels: Any, metric: str
) -> tuple[Floats, list[Ranked]]:
    from alkaid.types import CombLogic

    networks = []
    for point in points:
        comb = CombLogic.load(files[point.lut, point.validation_auc, point.test_auc])
        networks.append(Ranked(predict(comb, x), labels, metric))
    return np.log([point.lut for point in points]), networks


def _mean_log_lut(side: list[tuple[Floats, list[Ranked]]], weights: Floats, targets: Floats, seeds: Any) -> Floats:
    each = {int(seed): None for seed in seeds}
    found = {}
    for seed in each:
        log_lut, networks = side[seed]
        found[seed] = log_lut_at(log_lut, np.array([ranked.auc(weights) for ranked in networks]), targets)
    mean: Floats = np.mean([found[int(seed)] for seed in seeds], axis=0)
    return mean


if __name__ == "__main__":
    main()
