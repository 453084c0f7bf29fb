"""Pretrained tickets: mask and weights both come from a fully trained network.

T. Chen et al., arXiv:2012.06908: the weights that training starts from are pretrained ones instead of a draw, and the
mask is that of their magnitudes, in one shot.
"""

from __future__ import annotations

from torch import nn

from trigger_prune.prune.lottery.masks import full_masks, magnitude_masks
from trigger_prune.prune.lottery.ticket import Ticket
from trigger_prune.prune.lottery.training import network_state
from trigger_prune.structure.masks import Scope


def pretrained_ticket(
    network: nn.Module, sparsity: float, scope: Scope, *, start_step: int, search_steps: int, seed: int
) -> Ticket:
    """The ticket of a trained ``network``, which is left as it is.

    search_steps   optimiser steps of its pretraining; start_step and seed of the ticket's own training
    """
    masks = magnitude_masks(network, full_masks(network), sparsity, scope)
    return Ticket("pretrained", masks, network_state(network), start_step, search_steps, seed)
