"""torch-pruning: whole neurons of the float network go, in steps, with fine-tuning in between.

The library has no quantisation: the pruned float network (``pruned.npz``) is quantised and trained on by
``finish_torch_pruning.py`` in the project's environment.

Settings: ratio (of neurons removed, the same in every layer: a global ranking starves thin layers), pruning_steps,
float_epochs (before the first cut), pruning_epochs (shared among the steps), learning_rate, batch_size.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import torch
import torch_pruning
from in_peer import Job, cpu_s, mean_auc, read_job
from torch import nn


def train(model: nn.Module, job: Job, epochs: int, generator: torch.Generator) -> int:
    """Train for ``epochs`` with a cosine from the full learning rate; returns the number of steps.

    The optimiser is new each time: torch-pruning puts new parameters in the place of those it cuts.
    """
    x, y = (torch.from_numpy(part["train"]) for part in (job.events.x, job.events.y))
    size, peak = job.settings["batch_size"], job.settings["learning_rate"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=1e-4)
    per_epoch = len(x) // size
    model.train()
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(x), generator=generator)
            shuffled = x[order], y[order]
        rows = slice(step % per_epoch * size, (step % per_epoch + 1) * size)
        for group in optimizer.param_groups:
            group["lr"] = peak * (0.01 + 0.99 * (1 + math.cos(math.pi * step / (epochs * per_epoch))) / 2)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(shuffled[0][rows]), shuffled[1][rows]).backward()
        optimizer.step()
    return epochs * per_epoch


def main() -> None:
    """Train, prune in steps, leave the float network."""
    torch.set_num_threads(1)
    job = read_job()
    settings = job.settings
    torch.manual_seed(job.seed)
    widths = [job.events.x["train"].shape[1], *settings["hidden"]]
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        modules += [nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ReLU()]
    model = nn.Sequential(*modules, nn.Linear(widths[-1], job.classes))
    generator = torch.Generator().manual_seed(job.seed)
    start = cpu_s()
    steps = train(model, job, settings["float_epochs"], generator)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        torch.from_numpy(job.events.x["train"][:2]),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=settings["ratio"],
        iterative_steps=settings["pruning_steps"],
        global_pruning=False,
        ignored_layers=[model[-1]],
    )
    for _ in range(settings["pruning_steps"]):
        model.eval()
        pruner.step()
        steps += train(model, job, settings["pruning_epochs"] // settings["pruning_steps"], generator)
    train_cpu_s = cpu_s() - start
    model.eval()
    arrays = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    with torch.no_grad():
        outputs = model(torch.from_numpy(job.events.x["validation"])).numpy()
    hidden = [layer.out_features for layer in model if isinstance(layer, nn.Linear)][:-1]
    print(f"torch_pruning seed {job.seed}: {hidden}, float validation AUC", end=" ")
    print(round(mean_auc(outputs, job.events.y["validation"]), 4))
    np.savez(job.folder / "pruned.npz", **arrays)
    facts = {"hidden": hidden, "optimiser_steps": steps, "train_cpu_s": train_cpu_s}
    (job.folder / "pruned.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
