"""Turns a network of the toolkit into what every peer delivers: an adder graph whose bits were compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from in_peer import Networks
from torch import fx

from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.train.evaluate import predict


def deliver(networks: Networks, name: str, network: fx.GraphModule, settings: dict[str, Any], **facts: Any) -> None:
    """Add ``network`` to the job's networks."""
    import torch

    spec = describe_network(network)
    exact = freeze(network, double=True)
    networks.add(
        name,
        freeze(network),
        "torch",
        lambda x: np.asarray(predict(exact, torch.from_numpy(x))),
        settings={**settings, "zero_weights": round(1 - spec.nonzeros / spec.n_weights, 4)},
        **facts,
    )
