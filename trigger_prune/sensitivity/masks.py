"""Masks of single weights, and the promise to put the network back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def lowest_scores_mask(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """``mask`` with more zeros: exactly ``round(sparsity * size)`` of them, at the lowest scores that were still kept.

    scores, mask   same shape; ties go to the lower flat index
    Zeros of ``mask`` stay zero, so a mask already sparser than ``sparsity`` comes back unchanged.
    """
    kept = mask.flatten() != 0
    n_more = round(sparsity * kept.numel()) - int((~kept).sum())
    result = mask.clone().flatten()
    if n_more > 0:
        candidates = kept.nonzero().flatten()
        order = torch.argsort(scores.flatten()[candidates], stable=True)
        result[candidates[order[:n_more]]] = 0
    return result.reshape(mask.shape)


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """Parameters, buffers and training modes are put back bit for bit on the way out, also after an exception."""
    tensors = [*network.parameters(), *network.buffers()]
    copies = [tensor.detach().clone() for tensor in tensors]
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)
        for module, mode in modes.items():
            module.training = mode
