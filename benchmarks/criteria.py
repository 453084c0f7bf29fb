"""All importance criteria side by side, with and without fine-tuning, on an MLP and on a convolutional network.

    python benchmarks/criteria.py [--quick] [--fresh] [--seeds 1 2 3] [--criteria NAME ...]

Single weights of the trained, quantised network are masked in one shot, lowest scores of the whole network first, to
50, 80, 90 and 95 %; then the network is fine-tuned for EPOCHS epochs with the mask fixed. Figures are of the test part.

* ``jets``: hls_projects/jet_tagger, accuracy over five classes;
* ``calorimeter``: a small Conv2d network on the 18 x 14 regions of hls_projects/calo_cnn, here taught to tell signal
  (HH4b, VBF H to bb, ttbar) from minimum bias, area under the ROC curve.

A seed decides the split of events, the training, and the 2048 training events that data criteria see. Differences are
paired with the unpruned network of the same seed; an interval is that of 95 % by Student's t over the seeds.

Networks and every finished (model, seed, criterion) are kept in ``benchmarks/build``, so that a run that was stopped
goes on from there; ``--fresh`` measures again (after a change of the package, say). ``--quick`` takes two seeds, two
sparsities and a few epochs, and writes no page. Prints tables and writes ``benchmarks/results/criteria.json`` and
``docs/criteria.md``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _criteria_page import page, print_tables
from _prunable import BUILD, ROOT, Trained, trained
from _result import write_json, write_result
from scipy.stats import t as student
from torch import Tensor, fx

from trigger_prune.importance import BatchNormScale, CriterionData, Movement, criterion_by_name, prune_with_obs
from trigger_prune.prune.fine_tune import polish
from trigger_prune.structure.masks import prunable_layers, raise_sparsity, restored
from trigger_prune.train.evaluate import Evaluation, evaluate
from trigger_prune.train.fit import fit

EVENTS = 2048
UPDATE = "obs with update"
CRITERIA = (
    "random",
    "magnitude_l1",
    "magnitude_l1 by layer",
    "lamp",
    "batchnorm_scale",
    "movement",
    "attention",
    "gradient",
    "taylor",
    "taylor_fisher",
    "obd",
    "obd_hessian",
    "wanda",
    "wanda by layer",
    "apoz",
    "activation",
    "activation_variance",
    "taylor_fisher + magnitude_l1",
    "taylor_fisher * wanda",
    "obs",
    UPDATE,
    "obs_gauss_newton",
)
"""Left out, as they rank single weights like another one: magnitude_l2, snip (taylor), obd_fisher (taylor_fisher)."""


@dataclass(frozen=True)
class Model:
    """A project, what is set in it, and the name of the merit that it is judged by."""

    project: str
    overrides: tuple[str, ...]
    merit: str


MODELS = {
    "jets": Model("jet_tagger", (), "accuracy"),
    "calorimeter": Model(
        "calo_cnn",
        (
            "task=binary",
            "objective=auc",
            "train.classes=null",
            "model.args={channels: [6, 8], kernel: 2, stride: 2, pool: 1, hidden: [16]}",
            "train.epochs=20",
            "quantize.epochs=10",
        ),
        "AUC",
    ),
}


@dataclass(frozen=True)
class Plan:
    """What one run measures."""

    seeds: tuple[int, ...]
    sparsities: tuple[float, ...]
    epochs: int
    overrides: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Where its networks and finished parts are kept."""
        return "pruning_quick" if self.overrides else "pruning"


FULL = Plan((1, 2, 3), (0.5, 0.8, 0.9, 0.95), 5)
QUICK = Plan((1, 2), (0.5, 0.9), 1, ("train.epochs=3", "quantize.epochs=2"))


def criterion_scores(name: str, case: Trained, data: CriterionData) -> dict[str, Tensor]:
    """Score of every prunable weight."""
    layers = list(prunable_layers(case.network))
    if name == "batchnorm_scale":
        return BatchNormScale(case.float_model).score(case.network, layers)
    if name == "movement":
        # it needs to see training: one epoch of fine-tuning, which is then taken back
        copied = copy.deepcopy(case.network)
        with Movement(copied) as movement:
            fit(copied, case.train, case.validation, case.fit_settings("movement", 1))
        return movement.score(case.network, layers)
    return criterion_by_name(name, with_data=True).score(case.network, layers, data)


def figures_of(result: Evaluation) -> dict[str, float]:
    """Loss and merit."""
    return {"loss": result.loss, "merit": result.merit}


def measure(case: Trained, name: str, data: CriterionData, plan: Plan) -> dict[str, Any]:
    """Figures of the pruned network by percent of sparsity, before and after fine-tuning."""
    network: fx.GraphModule = case.network
    start = time.process_time()
    scores = None if name == UPDATE else criterion_scores(name, case, data)
    found: dict[str, Any] = {"score_seconds": time.process_time() - start}
    for sparsity in plan.sparsities:
        with restored(network):
            if scores is None:
                prune_with_obs(network, data, sparsity)
            else:
                raise_sparsity(network, scores, sparsity, "global")
            before = evaluate(network, case.test, case.task, case.objective)
            polish(network, case.train, case.validation, case.fit_settings("fine-tuning", plan.epochs))
            after = evaluate(network, case.test, case.task, case.objective)
        found[f"{100 * sparsity:g}"] = {"pruned": figures_of(before), "fine_tuned": figures_of(after)}
    return found


def measured(key: str, model: Model, plan: Plan, criteria: tuple[str, ...], fresh: bool) -> dict[str, Any]:
    """``{criterion: {seed: figures}}`` of one model, from disk where there; ``unpruned`` is one of them."""
    rows: dict[str, Any] = {name: {} for name in ("unpruned", *criteria)}
    for seed in plan.seeds:
        folder = BUILD / plan.folder / "criteria" / key / f"seed{seed}"
        settings = {
            "sparsities": plan.sparsities,
            "epochs": plan.epochs,
            "overrides": [*model.overrides, *plan.overrides],
        }
        case = None
        for name in rows:
            path = folder / f"{name.replace(' ', '_').replace('*', 'times').replace('+', 'plus')}.json"
            stored = None if fresh else _read(path, settings)
            if stored is None:
                if case is None:
                    case = trained(model.project, seed, (*model.overrides, *plan.overrides), plan.folder)
                    data = _criterion_events(case, seed)
                stored = _unpruned(case) if name == "unpruned" else measure(case, name, data, plan)
                write_json(path, {"settings": json.loads(json.dumps(settings)), "figures": stored})
                print(f"{key}, seed {seed}: {name}", flush=True)
            rows[name][seed] = stored
    return rows


def _unpruned(case: Trained) -> dict[str, Any]:
    weights = sum(layer.weight.numel() for layer in prunable_layers(case.network).values())
    return {**figures_of(evaluate(case.network, case.test, case.task, case.objective)), "weights": weights}


def _criterion_events(case: Trained, seed: int) -> CriterionData:
    used = case.train.take(case.train.weights > 0)
    rows = torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))[:EVENTS]
    return CriterionData(used.take(rows), case.task)


def _read(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    return stored["figures"] if stored["settings"] == json.loads(json.dumps(settings)) else None


def interval(values: list[float]) -> float:
    """Half width of the 95 % interval of the mean."""
    factor = float(student.ppf(0.975, len(values) - 1))
    return factor * statistics.stdev(values) / math.sqrt(len(values))


def summary(key: str, rows: dict[str, Any], plan: Plan) -> dict[str, float]:
    """Flat figures: means and intervals of the change against the unpruned network of the same seed."""
    unpruned = rows["unpruned"]
    figures = {
        f"{key}.unpruned.{what}": statistics.mean(run[what] for run in unpruned.values())
        for what in ("loss", "merit", "weights")
    }
    for name, runs in rows.items():
        if name == "unpruned":
            continue
        figures[f"{key}.{name}.score_seconds"] = statistics.median(run["score_seconds"] for run in runs.values())
        for sparsity in plan.sparsities:
            percent = f"{100 * sparsity:g}"
            for state in ("pruned", "fine_tuned"):
                for what in ("loss", "merit"):
                    changes = [run[percent][state][what] - unpruned[seed][what] for seed, run in runs.items()]
                    stem = f"{key}.{name}.{percent}.{state}.{what}"
                    figures[stem] = statistics.mean(changes)
                    figures[f"{stem}_interval"] = interval(changes)
    return figures


def main() -> None:
    """Measure what is missing, print tables, write the result file and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, two sparsities, a few epochs; no page")
    parser.add_argument("--fresh", action="store_true", help="measure again what is stored")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 1 2 3")
    parser.add_argument("--criteria", nargs="+", help="only these; prints, but writes nothing")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    seeds = tuple(options.seeds or plan.seeds)
    if len(seeds) < 2:
        parser.error("an interval needs two seeds or more")
    plan = Plan(seeds, plan.sparsities, plan.epochs, plan.overrides)
    criteria = tuple(options.criteria or CRITERIA)
    figures: dict[str, float] = {"seeds": float(len(seeds)), "fine_tuning_epochs": float(plan.epochs)}
    per_seed = {}
    for key, model in MODELS.items():
        rows = measured(key, model, plan, criteria, options.fresh)
        figures |= summary(key, rows, plan)
        per_seed[key] = rows
    merits = {key: model.merit for key, model in MODELS.items()}
    percents = [f"{100 * sparsity:g}" for sparsity in plan.sparsities]
    print_tables(figures, criteria, merits, percents)
    if options.criteria:
        return
    write_result(
        "criteria_quick" if options.quick else "criteria",
        figures,
        ("trigger_prune", "torch", "numpy"),
        seeds=list(seeds),
        criteria=list(criteria),
        sparsities_percent=percents,
        per_seed=per_seed,
    )
    if not options.quick:
        path = ROOT / "docs" / "criteria.md"
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(page(figures, criteria, merits, percents, seeds), encoding="utf-8")
        temporary.rename(path)


if __name__ == "__main__":
    main()
