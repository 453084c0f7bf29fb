"""The toolkit itself: one training with learned bit widths, down in cost; at every level a finished, refined network.

Settings: float_epochs, quantised_epochs (from float to widths that can be trained), levels (expected adder bits),
epochs (of the way to every level), anneal_epochs (of every level), learning_rate, batch_size; of the refinement
refine_rounds (of every level; 0: none), refine_epochs (fine-tuning of a round), refine_saving (of the cost, a round),
refine_every (rounds between two networks that are measured and kept).
"""

from __future__ import annotations

from typing import Any

import torch
from deliver import deliver
from in_peer import Job, Networks, cpu_s, read_job
from quantised import batches, quantize, train_float, train_quantised
from torch import fx

from trigger_prune.config.project import LearnConfig, PruneConfig
from trigger_prune.models.mlp import Mlp
from trigger_prune.prune.learned.run import LearnedRun
from trigger_prune.prune.measured import LoopInputs
from trigger_prune.prune.refine.codes import Codes, codes_of, write_codes
from trigger_prune.prune.refine.refine import refine_network
from trigger_prune.prune.refine.settings import RefineSettings
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.learned.ranges import fit_ranges
from trigger_prune.target import Budget, Target
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.objective import Objective


def main() -> None:
    """Train, and trace the network of every level."""
    torch.set_num_threads(1)
    job = read_job()
    settings = job.settings
    torch.manual_seed(job.seed)
    model = Mlp(job.events.x["train"].shape[1:], job.classes, settings["hidden"])
    start = cpu_s()
    steps = train_float(model, job, settings["float_epochs"])
    network = quantize(model, job)
    steps += train_quantised(network, job, settings["quantised_epochs"], 0.0)
    run = LearnedRun.begin(network, _inputs(job), LearnConfig(learning_rate=settings["learning_rate"]))
    stages = [
        (level, down, rounds)
        for level, down, rounds in zip(settings["levels"], settings["epochs"], settings["refine_rounds"], strict=True)
        if level < run.charge
    ]
    per_epoch = -(-len(job.events.y["train"]) // settings["batch_size"])
    networks = Networks(job)
    spent = cpu_s() - start
    for level, down, rounds in stages:
        begun = cpu_s()
        run.descend(level, down, "down", None)
        spent += cpu_s() - begun
        begun = cpu_s()
        finished, *_ = run.annealed(level, settings["anneal_epochs"], f"level {level:g}", None)
        found = [(0, codes_of(describe_network(finished)))] if rounds == 0 else _refined(finished, run, job, rounds)
        spent += cpu_s() - begun
        steps += (down + settings["anneal_epochs"] + rounds * settings["refine_epochs"]) * per_epoch
        for number, codes in found:
            write_codes(finished, codes)
            fit_ranges(finished, run.inputs.train.features)
            deliver(
                networks,
                f"charge{level:g}_round{number}",
                finished,
                {"charge": level, "round": number},
                optimiser_steps=steps,
                train_cpu_s=round(spent, 2),
            )
    networks.write(optimiser_steps=steps, train_cpu_s=round(spent, 2))


def _refined(finished: fx.GraphModule, run: LearnedRun, job: Job, rounds: int) -> list[tuple[int, Codes]]:
    """Number and codes of the networks that are kept."""
    settings = job.settings
    chosen = RefineSettings(
        saving_per_round=settings["refine_saving"],
        rounds=rounds,
        fine_tune_epochs=settings["refine_epochs"],
        learning_rate=1e-3,
        batch_size=settings["batch_size"],
        largest_merit_loss=0.02,
        measure_every=settings["refine_every"],
        seed=job.seed,
    )
    result = refine_network(finished, run.inputs.train, run.inputs.validation, chosen, objective=Objective("auc"))
    return [(point.round, point.codes) for point in result.points]


def _inputs(job: Job) -> LoopInputs:
    nothing: Any = None  # this script measures nothing: the driver does, the same way for all
    return LoopInputs(
        train=batches(job, "train"),
        validation=batches(job, "validation"),
        settings=FitSettings("learned", 1, job.settings["batch_size"], job.settings["learning_rate"], job.seed),
        config=PruneConfig(scope="learned"),
        budget=Budget(),
        target=Target(),
        cost_model=nothing,
    )


if __name__ == "__main__":
    main()
