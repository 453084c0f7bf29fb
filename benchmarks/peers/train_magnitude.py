"""Long magnitude pruning: weights removed by size under quantisation-aware training; one network per job.

Settings: float_epochs, epochs (of the quantised network; the first half raises the sparsity), sparsity, weight_bits,
activation_bits, learning_rate, batch_size.
"""

from __future__ import annotations

import torch
from deliver import deliver
from in_peer import Networks, cpu_s, read_job
from quantised import quantize, train_float, train_quantised

from trigger_prune.models.mlp import Mlp


def main() -> None:
    """Train, prune, trace."""
    torch.set_num_threads(1)
    job = read_job()
    settings = job.settings
    torch.manual_seed(job.seed)
    model = Mlp(job.events.x["train"].shape[1:], job.classes, settings["hidden"])
    start = cpu_s()
    steps = train_float(model, job, settings["float_epochs"])
    network = quantize(model, job)
    steps += train_quantised(network, job, settings["epochs"], settings["sparsity"])
    train_cpu_s = round(cpu_s() - start, 2)
    networks = Networks(job)
    name = f"sparsity{settings['sparsity']:g}"
    deliver(networks, name, network, {}, optimiser_steps=steps, train_cpu_s=train_cpu_s)
    networks.write(optimiser_steps=steps, train_cpu_s=train_cpu_s)


if __name__ == "__main__":
    main()
