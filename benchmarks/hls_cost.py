"""How far the estimates of the HLS flow are from reports of the vendor's compiler.

    python benchmarks/hls_cost.py --reports DIR [--reports DIR ...] [--rule4ml PYTHON]

DIR holds synthesised hls4ml projects, or the public synthesis tables (wa-hls4ml-search, N-TORC, and tables made from
public repositories). Every figure is of estimates by coefficients fitted without the project, the network or the
configuration in question. The rules behind the coefficients (which constant becomes a multiplier, when an adder tree is
cut) were found with these reports in view: only new reports tell how well they carry over.

--rule4ml  interpreter of an environment with rule4ml 0.2.0 (see benchmarks/peers/rule4ml_predict.py): its estimates of
the same networks are printed beside ours.

The reuse factors of Keb-L+hls4ml-data are read off its reports: that its multipliers agree shows nothing.

Prints tables and writes ``benchmarks/results/hls_cost.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _result import write_result

from trigger_prune.cost.calibration.fit import held_out, network_folds, project_folds, with_intervals
from trigger_prune.cost.calibration.metrics import smape
from trigger_prune.cost.calibration.predictions import Prediction, by_quantity, errors_of
from trigger_prune.cost.calibration.samples import RunSample, Samples
from trigger_prune.cost.hls import feasibility
from trigger_prune.cost.hls.design import DesignSample, HlsLayer
from trigger_prune.cost.hls.network import OTHER_FAMILY
from trigger_prune.synthesis.calibration.collect import collect_samples

GOALS = {"lut": 11, "ff": 23, "dsp": 2, "bram18": 2, "latency_cycles": 14, "ii": 9}
"""SMAPE in %, whole dense networks of strategy latency, one project left out."""
PEER = Path(__file__).parent / "peers" / "rule4ml_predict.py"
PEER_LABELS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram18": "BRAM", "latency_cycles": "CYCLES", "ii": "INTERVAL"}
WA = "wa-hls4ml"


def is_dense_latency(sample: DesignSample) -> bool:
    """io_parallel, dense layers of strategy latency only."""
    weighted = [layer for layer in sample.design.layers if layer.kind in ("dense", "conv1d", "conv2d", "other")]
    parallel = sample.design.setting.io_type == "io_parallel"
    return parallel and all(layer.kind == "dense" and layer.strategy == "latency" for layer in weighted)


def network_table(name: str, predictions: Sequence[Prediction], peers: dict[str, dict[str, float]]) -> dict[str, float]:
    """Print errors of whole networks beside the goal and the peers; return them as flat figures."""
    print(f"\n{name} ({len({p.name for p in predictions})} designs, {len({p.project for p in predictions})} projects)")
    peer_names = list(peers)
    print(
        f"{'':15}{'SMAPE':>7} {'goal':>5} {'median':>7} {'R2 log':>7} {'exact':>6} {'in 90%':>7}  "
        + "  ".join(peer_names)
    )
    figures: dict[str, float] = {}
    for quantity, found in by_quantity(predictions).items():
        e = errors_of(found)
        others = "  ".join(f"{peers[peer].get(quantity, float('nan')):{len(peer)}.0f}" for peer in peer_names)
        print(
            f"{quantity:15}{e.smape:7.1f} {GOALS[quantity]:5} {e.median_relative:7.1f} {e.r2_log:7.3f} {e.exact:6.2f} "
            f"{e.coverage:7.2f}  {others}"
        )
        key = name.replace(" ", "_")
        figures |= {
            f"{key}_{quantity}_smape": e.smape,
            f"{key}_{quantity}_median": e.median_relative,
            f"{key}_{quantity}_r2_log": e.r2_log,
            f"{key}_{quantity}_coverage": e.coverage,
        }
    return figures


def rule4ml_errors(designs: Sequence[DesignSample], python: Path | None) -> tuple[dict[str, dict[str, float]], str]:
    """SMAPE of each set of rule4ml's estimators by quantity, and what happened."""
    if python is None:
        return {}, "not run: no --rule4ml given"
    networks = [as_peer_input(sample) for sample in designs]
    run = subprocess.run(
        [str(python), str(PEER)], input=json.dumps(networks), capture_output=True, text=True, timeout=3600, check=False
    )
    if run.returncode:
        return {}, f"failed: {run.stderr.strip().splitlines()[-1] if run.stderr.strip() else run.returncode}"
    predictions = json.loads(run.stdout.strip().splitlines()[-1])
    result: dict[str, dict[str, float]] = {}
    for name in predictions[0]:
        result[f"rule4ml {name}"] = {}
        for quantity, label in PEER_LABELS.items():
            pairs = [
                (found[name][label], getattr(sample.measured, quantity))
                for found, sample in zip(predictions, designs, strict=True)
                if label in found[name]
            ]
            if pairs:
                result[f"rule4ml {name}"][quantity] = float(smape(*zip(*pairs, strict=True)).mean())
    return result, "rule4ml 0.2.0"


def as_peer_input(sample: DesignSample) -> dict[str, Any]:
    """What rule4ml knows of a network: sizes, one precision, one reuse factor, a board of the same family."""
    dense = [layer for layer in sample.design.layers if layer.kind == "dense"]
    weight_type = dense[0].weight_type
    assert weight_type is not None
    known = ("dense", "batchnorm", "relu", "softmax", "sigmoid", "tanh")
    return {
        "layers": [
            {"kind": layer.kind, "n_in": layer.n_in, "n_out": layer.n_out}
            for layer in sample.design.layers
            if layer.kind in known
        ],
        "bits": weight_type.width,
        "integer": weight_type.integer,
        "reuse_factor": dense[0].reuse_factor,
        "strategy": "Latency",
        "board": "pynq-z2" if sample.design.setting.part.startswith("xc7z") else "alveo-u250",
        "version": ".".join(map(str, sample.design.setting.release)),
    }


def resource_figures(predictions: Iterable[Prediction], samples: Samples) -> dict[str, float]:
    """Dense layers of strategy resource with RF > 1: the shares that the goals name."""
    layers = {o.fingerprint: s.layer for s, o in zip(samples.layers, samples.layer_origins, strict=True)}
    chosen = [p for p in predictions if p.family == "dense_resource" and layers[p.fingerprint].reuse_factor > 1]
    wa = [p for p in chosen if p.project.startswith(WA)]

    def bits(p: Prediction) -> int:
        return bits_of(layers[p.fingerprint])

    def share(found: list[Prediction], within: float) -> float:
        return float(np.mean([abs(round(p.predicted) - p.true) <= within for p in found])) if found else float("nan")

    quantity = {name: [p for p in wa if p.quantity == name] for name in PEER_LABELS}
    dsp = [p for p in chosen if p.quantity == "dsp"]
    six = [p for p in dsp if bits(p) == 6]
    figures = {
        "resource_ii_exact_share (goal 0.97)": share(quantity["ii"], 0),
        "resource_dsp_exact_share_8_to_16_bit (goal 0.97)": share([p for p in dsp if 8 <= bits(p) <= 16], 0),
        "resource_dsp_median_error_6_bit_percent (goal 6)": errors_of(six).median_relative,
        "resource_dsp_exact_share_to_4_bit (goal 1)": share([p for p in dsp if bits(p) <= 4], 0),
        "resource_bram_within_1_share (goal 0.95)": share(quantity["bram18"], 1),
        "resource_latency_within_2_share (goal 0.93)": share(quantity["latency_cycles"], 2),
    }
    for name in ("lut", "ff"):
        figures[f"resource_{name}_smape"] = errors_of(quantity[name]).smape
        others = [p for p in chosen if p.quantity == name and not p.project.startswith(WA)]
        figures[f"resource_{name}_smape_other_projects"] = errors_of(others).smape
    return figures


def bits_of(layer: HlsLayer) -> int:
    """Width of the weights."""
    return layer.weight_type.width if layer.weight_type is not None else layer.input_type.width


def family_table(title: str, family: str, predictions: Sequence[Prediction]) -> dict[str, float]:
    """Print errors of a family that has no goal, project by project, however large; return them as flat figures."""
    of_family = [p for p in predictions if p.family == family]
    figures: dict[str, float] = {}
    for project in sorted({p.project for p in of_family}):
        chosen = [p for p in of_family if p.project == project]
        print(f"\n{family}, {title}: {project} ({len({p.fingerprint for p in chosen})} reports)")
        print(f"{'':15}{'SMAPE':>7} {'median':>7} {'exact':>6} {'in 90%':>7}")
        for quantity, found in by_quantity(chosen).items():
            e = errors_of(found)
            print(f"{quantity:15}{e.smape:7.1f} {e.median_relative:7.1f} {e.exact:6.2f} {e.coverage:7.2f}")
            key = f"{family}_{title}_{project}_{quantity}".replace(" ", "_")
            figures |= {
                f"{key}_smape": e.smape,
                f"{key}_median": e.median_relative,
                f"{key}_exact": e.exact,
                f"{key}_coverage": e.coverage,
            }
    return figures


def feasibility_figures(runs: Sequence[RunSample], folds: int = 10) -> dict[str, float]:
    """Area under the ROC curve of "will csynth finish?", layer sizes held out."""
    sizes = sorted({(run.layer.n_in, run.layer.n_out) for run in runs})
    order = np.random.default_rng(0).permutation(len(sizes))
    fold = {sizes[i]: int(position) % folds for position, i in enumerate(order)}
    scores: list[float] = []
    truth: list[bool] = []
    for chosen in range(folds):
        of_fold = [fold[run.layer.n_in, run.layer.n_out] == chosen for run in runs]
        train = [
            feasibility.FinishSample(run.layer, run.setting, run.finished, run.project)
            for run, test in zip(runs, of_fold, strict=True)
            if not test
        ]
        parameters = feasibility.fit(train, feasibility.DEFAULTS)
        for run, test in zip(runs, of_fold, strict=True):
            if test:
                scores.append(feasibility.finish_probability(run.layer, run.setting, parameters))
                truth.append(run.finished)
    ranks = _ranks(np.array(scores))
    finished = np.array(truth)
    positives, negatives = int(finished.sum()), int((~finished).sum())
    auc = (ranks[finished].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return {"feasibility_auc (goal 0.95)": float(auc), "feasibility_runs": float(len(runs))}


def _ranks(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """1-based ranks, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray[Any, np.dtype[np.float64]] = (last - (counts - 1) / 2)[inverse]
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(description="Error of the HLS estimates on reports, projects held out.")
    parser.add_argument("--reports", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--rule4ml", type=Path, metavar="PYTHON")
    arguments = parser.parse_args()
    samples = collect_samples(arguments.reports)
    designs = [sample for sample in samples.designs if is_dense_latency(sample)]
    names = {sample.name for sample in designs}
    by_network, by_project = held_out(samples, network_folds(samples)), held_out(samples, project_folds(samples))
    predicted = {p.name for p in by_project if p.family == "network"}
    peers, note = rule4ml_errors([sample for sample in designs if sample.name in predicted], arguments.rule4ml)
    figures: dict[str, float] = {"designs": float(len(names & predicted))}
    for title, found in (("one project held out", by_project), ("one network held out", by_network)):
        chosen = with_intervals(found, by_network, by_project)
        networks = [p for p in chosen if p.family == "network" and p.name in names]
        figures |= network_table(title, networks, peers)
        free = {sample.name for sample in designs if sample.design.setting.forced_multiplier is None}
        not_forced = [p for p in networks if p.name in free]
        if not_forced:
            figures |= network_table(f"{title}, no directive on multipliers", not_forced, {})
        for family in ("conv", OTHER_FAMILY):
            figures |= family_table(title, family, chosen)
    print(f"\nrule4ml: {note}")
    more = resource_figures(by_network, samples)
    if samples.runs:
        more |= feasibility_figures(samples.runs)
    figures |= {f"{peer} {quantity} smape": value for peer, table in peers.items() for quantity, value in table.items()}
    figures |= more
    for name, value in more.items():
        print(f"{name:60} {value:10.3f}")
    goals = {f"network_{quantity}_smape": float(goal) for quantity, goal in GOALS.items()}
    goals |= {
        "resource_ii_exact_share": 0.97,
        "resource_dsp_exact_share_8_to_16_bit": 0.97,
        "resource_dsp_median_error_6_bit_percent": 6.0,
        "resource_dsp_exact_share_to_4_bit": 1.0,
        "resource_bram_within_1_share": 0.95,
        "resource_latency_within_2_share": 0.93,
        "feasibility_auc": 0.95,
    }
    rounded = {name: round(value, 4) for name, value in figures.items() if value == value}
    write_result("hls_cost", rounded, ("trigger_prune", "numpy", "scipy"), goals=goals, rule4ml=note)


if __name__ == "__main__":
    main()
