"""Second half of the torch-pruning peer, in the project's environment: the pruned float network is quantised.

Settings beside those of ``train_torch_pruning.py``: epochs (of quantisation-aware training), weight_bits,
activation_bits.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from deliver import deliver
from in_peer import Networks, cpu_s, read_job
from quantised import quantize, train_quantised

from trigger_prune.models.mlp import Mlp


def main() -> None:
    """Quantise, train on, trace."""
    torch.set_num_threads(1)
    job = read_job()
    settings = job.settings
    pruned = json.loads((job.folder / "pruned.json").read_text())
    model = Mlp(job.events.x["train"].shape[1:], job.classes, pruned["hidden"])
    with np.load(job.folder / "pruned.npz") as arrays:
        # both sides define the same layers in the same order
        state = dict(zip(model.state_dict(), (torch.from_numpy(arrays[name]) for name in arrays.files), strict=True))
    model.load_state_dict(state)
    start = cpu_s()
    network = quantize(model, job)
    steps = pruned["optimiser_steps"] + train_quantised(network, job, settings["epochs"], 0.0)
    train_cpu_s = round(pruned["train_cpu_s"] + cpu_s() - start, 2)
    networks = Networks(job)
    found = {"hidden": pruned["hidden"]}
    deliver(networks, f"ratio{settings['ratio']:g}", network, found, optimiser_steps=steps, train_cpu_s=train_cpu_s)
    networks.write(optimiser_steps=steps, train_cpu_s=train_cpu_s)


if __name__ == "__main__":
    main()
