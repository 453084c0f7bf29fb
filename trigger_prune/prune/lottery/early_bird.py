"""Early-bird tickets: the mask is drawn as soon as it no longer changes, long before training ends.

H. You et al., arXiv:1909.11957, algorithm 1: after every epoch of dense training the mask of the target sparsity is
drawn, and its distance to that of the epoch before goes into a first-in-first-out queue; the search ends when the
largest distance in a full queue is below 0.1. The ticket starts from the weights that the network has then.

The paper counts the weights whose mask differs as a fraction of all weights. At high sparsity that says little: two
masks of 95 % sparsity that share nothing differ in no more than 10 % of the weights. Here the distance is divided by
the largest one that masks of this density can have where that is smaller, so 0.1 means at most a tenth of the kept
weights; at 50 % sparsity and below it is the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.prune.lottery.masks import Masks, full_masks, magnitude_masks
from trigger_prune.prune.lottery.ticket import Ticket
from trigger_prune.prune.lottery.training import network_state, train_steps
from trigger_prune.structure.masks import Scope
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings


def hamming_distance(first: Masks, second: Masks) -> float:
    """Weights that one mask keeps and the other does not, as a fraction of all weights: the paper's distance.

    Raises ModelError for masks of different layers or shapes.
    """
    differing = sum(int(torch.count_nonzero(a != b)) for a, b in _pairs(first, second))
    return differing / sum(mask.numel() for mask in first.values())


def mask_distance(first: Masks, second: Masks) -> float:
    """Weights that one mask keeps and the other does not, divided by all weights or, where that is less, by the weights
    that the two keep together: 0 .. 1. Masks that share nothing have distance 1 whatever their sparsity above 50 %.
    """
    pairs = _pairs(first, second)
    differing = sum(int(torch.count_nonzero(a != b)) for a, b in pairs)
    kept = sum(int(torch.count_nonzero(a)) + int(torch.count_nonzero(b)) for a, b in pairs)
    size = sum(mask.numel() for mask in first.values())
    return differing / min(size, kept) if kept else 0.0


def _pairs(first: Masks, second: Masks) -> list[tuple[Tensor, Tensor]]:
    if list(first) != list(second) or any(first[name].shape != second[name].shape for name in first):
        raise ModelError("masks of different networks have no distance")
    return [(first[name], second[name]) for name in first]


@dataclass
class EarlyBirdSearch:
    """Looks at a dense training epoch by epoch.

    threshold, window   the last ``window`` distances must all be below ``threshold``
    distances           from the second epoch on
    masks               of the last epoch seen; None before the first

    Raises ConfigError for a threshold outside 0..1 or a window below 1.
    """

    sparsity: float
    scope: Scope = "global"
    threshold: float = 0.1
    window: int = 5
    distances: list[float] = field(default_factory=list)
    masks: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0 or self.window < 1:
            raise ConfigError(
                f"early-bird distance {self.threshold} or window {self.window} makes no sense",
                hint="the paper takes 0.1 and 5 epochs",
            )

    @property
    def settled(self) -> bool:
        """Whether the search is at its end."""
        return len(self.distances) >= self.window and max(self.distances[-self.window :]) < self.threshold

    def see(self, network: nn.Module) -> bool:
        """Take in the network after one more epoch; True at the end of the search."""
        masks = magnitude_masks(network, full_masks(network), self.sparsity, self.scope)
        if self.masks is not None:
            self.distances.append(mask_distance(self.masks, masks))
        self.masks = masks
        return self.settled


@dataclass(frozen=True, eq=False)
class EarlyBird:
    """The ticket, and how it was found.

    settled     whether the search ended by itself; else the ticket is that of the last epoch
    epochs      of dense training that were run
    distances   between the masks of successive epochs
    """

    ticket: Ticket
    settled: bool
    epochs: int
    distances: tuple[float, ...]
    seconds: float


def find_early_bird(
    network: nn.Module,
    train: Batches,
    settings: FitSettings,
    search: EarlyBirdSearch,
    *,
    start_step: int = 0,
    on_epoch: Callable[[float], None] | None = None,
) -> EarlyBird:
    """Train ``network``, in place, until ``search`` ends or the training does.

    start_step   step of the schedule that the ticket's own training will begin at
    on_epoch     told the training loss after every epoch
    """

    def look(seen: nn.Module, _epoch: int, loss: float) -> bool:
        if on_epoch is not None:
            on_epoch(loss)
        return search.see(seen)

    run = train_steps(network, train, settings, on_epoch=look)
    masks = search.masks
    if masks is None:
        raise ModelError("the early-bird search has seen no epoch")
    ticket = Ticket("early_bird", masks, network_state(network), start_step, run.steps, settings.seed)
    return EarlyBird(ticket, search.settled, len(search.distances) + 1, tuple(search.distances), run.seconds)
