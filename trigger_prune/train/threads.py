"""How many CPU threads a network deserves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_SMALL_NETWORK_WEIGHTS = 100_000


@contextmanager
def suitable_threads(network: nn.Module) -> Iterator[None]:
    """One CPU thread for a small network, as many as torch has for a large one; restored afterwards.

    Below the limit a step is a row of sub-millisecond operations: a second thread gains 15 % on an idle machine and
    loses a factor of several on a busy one, and the order of sums would depend on the number of cores.
    """
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in network.parameters()) < _SMALL_NETWORK_WEIGHTS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
