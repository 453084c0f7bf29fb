"""Iterative magnitude pruning with rewinding to step k.

J. Frankle and M. Carbin, arXiv:1803.03635 (k = 0); J. Frankle et al., arXiv:1912.05671 (k > 0). Train the dense network
and keep its weights before step k; then, round by round, mask the smallest of the weights left after training, put all
others back to those of step k, and train again from step k to the end. What a round is judged by is the network *after*
that training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import nn

from trigger_prune.errors import ConfigError
from trigger_prune.prune.lottery.masks import Masks, full_masks, kept_weights, magnitude_masks, sparsity_of
from trigger_prune.prune.lottery.rounds import RoundStore, StoredRound
from trigger_prune.prune.lottery.ticket import Ticket
from trigger_prune.prune.lottery.training import (
    State,
    Trained,
    network_state,
    never_ending,
    set_state,
    total_steps,
    train_steps,
)
from trigger_prune.structure.masks import Scope
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings


@dataclass(frozen=True)
class ImpPlan:
    """What is searched for.

    sparsity             of the ticket, reached exactly
    fraction_per_round   largest fraction of the weights left that one round removes
    rewind_step          step k

    Raises ConfigError for a sparsity or fraction outside 0..1 and a negative step.
    """

    sparsity: float
    fraction_per_round: float
    rewind_step: int = 0
    scope: Scope = "global"

    def __post_init__(self) -> None:
        for name in ("sparsity", "fraction_per_round"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"lottery.{name} {getattr(self, name)} is outside 0..1, both excluded")
        if self.rewind_step < 0:
            raise ConfigError(f"lottery.rewind_step {self.rewind_step} is negative")

    @property
    def n_rounds(self) -> int:
        """Rounds of pruning."""
        # the small term: 1 - 0.8^2 asks for two rounds of 0.2, not three
        return max(1, math.ceil(math.log(1.0 - self.sparsity) / math.log(1.0 - self.fraction_per_round) - 1e-9))

    def sparsity_after(self, number: int) -> float:
        """Sparsity after round ``number`` (0 = the dense network): every round removes the same fraction."""
        return self.sparsity if number == self.n_rounds else 1.0 - (1.0 - self.sparsity) ** (number / self.n_rounds)


@dataclass(frozen=True)
class RoundRecord:
    """One trained network: ``round`` 0 is the dense one. ``figures`` is what ``judge`` said of it after training."""

    round: int
    sparsity: float
    kept_weights: int
    steps: int
    seconds: float
    train_loss: float
    figures: dict[str, float]


@dataclass(frozen=True, eq=False)
class ImpResult:
    """The ticket, its trained weights, those of the dense network, and every round."""

    ticket: Ticket
    trained: State
    dense: State
    rounds: tuple[RoundRecord, ...]


Judge = Callable[[nn.Module], dict[str, float]]
"""Figures of a trained network, by name."""


def iterative_magnitude_pruning(
    network: nn.Module,
    train: Batches,
    settings: FitSettings,
    plan: ImpPlan,
    *,
    judge: Judge | None = None,
    store: RoundStore | None = None,
    on_round: Callable[[RoundRecord], None] | None = None,
    on_epoch: Callable[[float], None] | None = None,
) -> ImpResult:
    """The ticket of ``network``, whose present weights are the initial ones; it comes back with the trained ticket's.

    judge      applied to every trained network
    store      finished rounds are kept there; those found are not repeated, so a stopped search goes on
    on_epoch   told the training loss after every epoch of every training
    Raises ConfigError when ``rewind_step`` is not before the end of the training, and what training raises.
    """
    if plan.rewind_step >= total_steps(train, settings):
        raise ConfigError(
            f"lottery.rewind_step {plan.rewind_step} is not before the end of the training, step "
            f"{total_steps(train, settings)}",
            hint="choose a smaller step, or more epochs",
        )
    tell = None if on_epoch is None else never_ending(on_epoch)
    start = network_state(network)
    done = [] if store is None else store.read()
    records = [RoundRecord(**entry.record) for entry in done]
    masks = done[-1].masks if done else full_masks(network)
    trained = done[-1].trained if done else start
    dense = done[0].trained if done else start
    rewound = (done[0].rewound if done else None) or start
    if on_round is not None:
        for record in records:
            on_round(record)
    for number in range(len(done), plan.n_rounds + 1):
        if number == 0:
            run = train_steps(network, train, settings, keep_at=plan.rewind_step, on_epoch=tell)
            rewound = run.kept or start
        else:
            set_state(network, trained)
            masks = magnitude_masks(network, masks, plan.sparsity_after(number), plan.scope)
            set_state(network, rewound)
            run = train_steps(network, train, settings, masks=masks, start=plan.rewind_step, on_epoch=tell)
        trained = network_state(network)
        dense = trained if number == 0 else dense
        records.append(_record(number, masks, run, {} if judge is None else judge(network)))
        if store is not None:
            store.add(StoredRound(asdict(records[-1]), masks, trained, rewound if number == 0 else None))
        if on_round is not None:
            on_round(records[-1])
    set_state(network, trained)
    searched = sum(record.steps for record in records[:-1])
    ticket = Ticket("imp", masks, rewound, plan.rewind_step, searched, settings.seed)
    return ImpResult(ticket, trained, dense, tuple(records))


def _record(number: int, masks: Masks, run: Trained, figures: dict[str, float]) -> RoundRecord:
    return RoundRecord(number, sparsity_of(masks), kept_weights(masks), run.steps, run.seconds, run.loss, figures)
