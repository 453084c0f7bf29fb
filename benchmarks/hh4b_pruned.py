"""HH -> 4b at 100 kHz: what pruning alone loses, and the pruned network beside a hand-made small one at equal LUTs.

    python benchmarks/hh4b_pruned.py [--seeds 1 2 3]
    python benchmarks/hh4b_pruned.py --equal-only --seeds 1 2 3 4 5 6 7 8 9     # more seeds of the pair at equal LUTs

Of every seed: the project ``hh4b_trigger`` as it stands (57-64-32-32-1, pruned to its budget) against its own float and
its own dense 8-bit network; and the same trained network pruned to the measured LUTs of 57-8-1, which has the bits of
the project and, all phases together, as many quantised epochs. Once by the ranking of the project (``equal``), once
with learned bit widths (``learned``), whose training is longer. Test events, both networks of a pair at exactly 100 kHz
on the same events; errors by a bootstrap over generated collisions. LUTs by the ``rtl`` backend. Finished stages are
kept in ``hls_projects/hh4b_trigger/build/hh4b_pruned``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from _result import write_result

from trigger_prune.config.load import load_project
from trigger_prune.models.build import build_model
from trigger_prune.physics.equal_rate import paired_efficiency_difference
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.pipeline.stages.trigger import network_scores
from trigger_prune.synthesis.rtl.cost import RtlCost

PROJECT = Path(__file__).parents[1] / "hls_projects" / "hh4b_trigger"
RATE_KHZ, SIGNAL = 100.0, "HH4b"
HAND_MADE = ["model.args.hidden=[8]", "quantize.epochs=60"]
"""Ten quantised epochs of the project, ten of the ramp and forty at the end, all for the hand-made network."""

LEARNED = ["prune.scope=learned", "learn.epochs=200", "learn.anneal_epochs=60", "learn.checkpoints=2"]


PAIRS = (("float", "pruned"), ("dense", "pruned"), ("hand", "equal"), ("hand", "learned"))
"""Reference and candidate of every comparison."""


def scored(sample: Any, scores: Any) -> ScoredEvents:
    """Test events with one network's scores."""
    names = tuple(sample.class_names)
    signal = np.where(sample.labels == names.index(SIGNAL), 0, BACKGROUND).astype(np.int64)
    return ScoredEvents(scores, signal, sample.weights, sample.groups, (SIGNAL,))


def run_seed(seed: int, equal_only: bool) -> dict[str, float]:
    """Figures of one seed; ``equal_only``: those of 57-8-1 and of the network pruned to its LUTs by the ranking."""
    base = PROJECT / "build" / "hh4b_pruned"
    score = Score("head")
    own = load_project(PROJECT, [], seed)
    whole = run_pipeline(own, STAGES, base / f"seed{seed}", "sensitivity" if equal_only else "prune")
    events = whole.result("load")
    test, shape = events.test, events.train.event_shape

    def model(project: Any) -> Any:
        return build_model(project.config.model, shape, 1, project.project_dir)

    trained = model(own)
    trained.load_state_dict(whole.result("train").state)
    networks = {
        "float": network_scores(trained.eval(), test, score, None),
        "dense": network_scores(whole.result("baseline").network(model(own)), test, score, None),
    }
    luts, nonzeros = {}, {}

    def add_pruned(name: str, pruned: Any) -> None:
        chosen = next(trial for trial in pruned.trials if trial.chosen)
        luts[name], nonzeros[name] = int(chosen.cost.lut), int(chosen.nonzeros)
        networks[name] = network_scores(pruned.network(model(own)), test, score, pruned.kept_inputs)

    if not equal_only:
        add_pruned("pruned", whole.result("prune"))
    small = load_project(PROJECT, HAND_MADE, seed)
    hand = run_pipeline(small, STAGES, base / f"hand_seed{seed}", "quantize").result("quantize").network(model(small))
    luts["hand"] = int(RtlCost().measure(hand, small.config.make_target()).lut or 0)
    networks["hand"] = network_scores(hand, test, score, None)
    variants: dict[str, list[str]] = {"equal": []} if equal_only else {"equal": [], "learned": LEARNED}
    for name, settings in variants.items():
        folder = base / f"{name}_seed{seed}"
        if not folder.exists():
            shutil.copytree(base / f"seed{seed}", folder)
        chosen = load_project(PROJECT, [f"budget.lut={luts['hand']}", *settings], seed)
        add_pruned(name, run_pipeline(chosen, STAGES, folder, "prune").result("prune"))
    multiplications = sum(p.numel() for name, p in trained.named_parameters() if name.endswith("weight") and p.ndim > 1)
    found: dict[str, float] = {f"{name}_lut": value for name, value in luts.items()}
    if not equal_only:
        found["multiplications_removed"] = 1 - nonzeros["pruned"] / multiplications
    for reference, candidate in (pair for pair in PAIRS if pair[1] in networks):
        pair = paired_efficiency_difference(
            scored(test, networks[reference]), scored(test, networks[candidate]), RATE_KHZ, SIGNAL
        )
        key = f"{candidate}_vs_{reference}"
        found |= {
            f"{key}_reference": pair.reference,
            f"{key}_candidate": pair.candidate,
            f"{key}_relative_loss": pair.relative_loss.value,
            f"{key}_relative_loss_error": pair.relative_loss.error,
            f"{key}_relative_loss_limit90": pair.relative_loss_limit90,
        }
    print(f"seed {seed}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()), flush=True)
    return found


def main() -> None:
    """Run, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--equal-only", action="store_true", help="57-8-1 and the network pruned to its LUTs, no others"
    )
    options = parser.parse_args()
    per_seed = {seed: run_seed(seed, options.equal_only) for seed in options.seeds}
    figures = {f"{key}.seed{seed}": value for seed, found in per_seed.items() for key, value in found.items()}
    for key in next(iter(per_seed.values())):
        values = [found[key] for found in per_seed.values()]
        figures[f"{key}.mean"] = statistics.fmean(values)
        figures[f"{key}.error"] = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        print(f"{key:45s} {figures[f'{key}.mean']:.5g} +- {figures[f'{key}.error']:.2g} between seeds")
    name = "hh4b_equal" if options.equal_only else "hh4b_pruned"
    write_result(name, figures, ("trigger_prune", "torch", "alkaid", "pyosys"), seeds=options.seeds)


if __name__ == "__main__":
    main()
