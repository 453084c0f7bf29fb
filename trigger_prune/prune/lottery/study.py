"""Everything that one seed contributes: the search, the three conditions, and the other kinds of tickets.

Every network of a seed is trained for the same last steps of one schedule, from ``rewind_step`` to the end, on events
in the same order; only mask and weights differ:

    dense        no mask
    ticket       iterative magnitude pruning; weights of step k
    redrawn      the ticket's mask; weights of step k of another draw, which had its k dense steps as well
    random       a random mask with the ticket's kept weights per layer; the ticket's weights
    early_bird   mask and weights of the epoch at which the mask had settled
    pretrained   mask and weights of the dense network after its training
    transfer     the mask of a given ticket; the ticket's weights, and transfer_random its random control
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from trigger_prune.prune.lottery.early_bird import EarlyBirdSearch, find_early_bird
from trigger_prune.prune.lottery.imp import ImpPlan, ImpResult, Judge, RoundRecord, iterative_magnitude_pruning
from trigger_prune.prune.lottery.masks import (
    Masks,
    full_masks_like,
    kept_weights,
    layer_sparsity,
    random_masks,
    sparsity_of,
)
from trigger_prune.prune.lottery.pretrained import pretrained_ticket
from trigger_prune.prune.lottery.rounds import RoundStore
from trigger_prune.prune.lottery.ticket import Ticket
from trigger_prune.prune.lottery.training import never_ending, set_state, train_steps
from trigger_prune.prune.lottery.transfer import LayerTransfer, TransferReport, transfer_masks
from trigger_prune.report.files import write_text
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings

Watch = Callable[[str, int], AbstractContextManager[Callable[[float], None]]]
"""``(what, epochs)`` around a piece of work; what it gives is told the loss after every epoch."""


@dataclass(frozen=True)
class StudyPlan:
    """The search, and the early-bird criterion."""

    imp: ImpPlan
    early_bird_distance: float = 0.1
    early_bird_window: int = 5


@dataclass(frozen=True)
class Condition:
    """One trained network.

    start_step, steps, seconds     where its training began in the schedule, the optimiser steps and wall time it took
    search_steps, search_seconds   what it took before that: to find the mask, and to come to step k
    figures                        of the trained network, by name
    remark                         what a reader of the table should know
    distances                      early_bird: between the masks of successive epochs of its search
    """

    name: str
    sparsity: float
    kept_weights: int
    layer_sparsity: dict[str, float]
    start_step: int
    steps: int
    seconds: float
    search_steps: int
    search_seconds: float
    figures: dict[str, float]
    remark: str = ""
    distances: tuple[float, ...] = ()


@dataclass(frozen=True)
class SeedResult:
    """All figures of one seed; ``transfer`` where a ticket was given."""

    seed: int
    rounds: tuple[RoundRecord, ...]
    conditions: dict[str, Condition]
    transfer: TransferReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal result."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> SeedResult:
        """Inverse of ``to_dict``."""
        layers = raw["transfer"]
        return cls(
            raw["seed"],
            tuple(RoundRecord(**entry) for entry in raw["rounds"]),
            {name: _condition(entry) for name, entry in raw["conditions"].items()},
            None if layers is None else TransferReport(tuple(LayerTransfer(**entry) for entry in layers["layers"])),
        )


def _condition(raw: dict[str, Any]) -> Condition:
    return Condition(**{**raw, "distances": tuple(raw["distances"])})


@dataclass(frozen=True, eq=False)
class SeedStudy:
    """The figures, and the search's networks."""

    result: SeedResult
    imp: ImpResult


@dataclass(frozen=True)
class Trainings:
    """What every training of a seed shares.

    make_network   a network with newly drawn weights; 0 is the seed's own draw, 1 the other one
    settings       its ``seed`` is the seed of the study; every training runs to the end of its schedule
    judge          figures of a trained network
    store          finished rounds and conditions are kept in its folder and not repeated
    """

    make_network: Callable[[int], nn.Module]
    train: Batches
    settings: FitSettings
    judge: Judge
    store: RoundStore
    watch: Watch
    note: Callable[[str], None]


def study_seed(shared: Trainings, plan: StudyPlan) -> SeedStudy:
    """Search and conditions of one seed. Raises what training and searching raise."""
    imp = _search(shared, plan.imp)
    ticket, last = imp.ticket, len(imp.rounds) - 1
    controls: dict[str, Callable[[], Condition]] = {
        "redrawn": lambda: _redrawn(shared, ticket),
        "random": lambda: _masked(shared, "random", random_masks(ticket.masks, ticket.seed), ticket, imp.rounds[0]),
        "early_bird": lambda: _early_bird(shared, plan),
        "pretrained": lambda: _pretrained(shared, plan.imp, imp),
    }
    conditions = {"dense": _of_round("dense", imp, 0), "ticket": _of_round("ticket", imp, last)}
    for name, compute in controls.items():
        conditions[name] = _once(shared, name, compute)
    return SeedStudy(SeedResult(ticket.seed, imp.rounds, conditions), imp)


def study_transfer(shared: Trainings, masks: Masks, ticket: Ticket, studied: SeedResult) -> SeedResult:
    """``studied`` with the conditions ``transfer`` and ``transfer_random``: ``masks`` on the weights of ``ticket``.

    Raises ModelError when no layer fits, see ``transfer_masks``.
    """
    own, report = transfer_masks(masks, shared.make_network(0))
    control, remark = random_masks(own, ticket.seed), f"{report.transferred} of {len(own)} layers masked"
    dense = studied.rounds[0]
    added = {
        "transfer": _once(shared, "transfer", lambda: _masked(shared, "transfer", own, ticket, dense, remark)),
        "transfer_random": _once(
            shared, "transfer_random", lambda: _masked(shared, "transfer_random", control, ticket, dense)
        ),
    }
    return replace(studied, conditions=studied.conditions | added, transfer=report)


def _search(shared: Trainings, plan: ImpPlan) -> ImpResult:
    finished = len(list(shared.store.folder.glob("round-*.pt")))
    trainings = max(0, plan.n_rounds + 1 - finished)
    with shared.watch(f"search in {plan.n_rounds} rounds", trainings * shared.settings.epochs) as advance:
        return iterative_magnitude_pruning(
            shared.make_network(0),
            shared.train,
            shared.settings,
            plan,
            judge=shared.judge,
            store=shared.store,
            on_round=lambda record: shared.note(_describe_round(record)),
            on_epoch=advance,
        )


def _redrawn(shared: Trainings, ticket: Ticket) -> Condition:
    network = shared.make_network(1)
    dense = train_steps(network, shared.train, shared.settings, stop=ticket.start_step)
    return _finish(shared, "redrawn", network, ticket.masks, ticket.start_step, (dense.steps, dense.seconds))


def _masked(
    shared: Trainings, name: str, masks: Masks, ticket: Ticket, dense: RoundRecord, remark: str = ""
) -> Condition:
    """Another mask on the ticket's weights, which are those of step k of the dense training."""
    network, start = shared.make_network(0), ticket.start_step
    set_state(network, ticket.state)
    return _finish(shared, name, network, masks, start, (start, dense.seconds * start / dense.steps), remark)


def _early_bird(shared: Trainings, plan: StudyPlan) -> Condition:
    network, start = shared.make_network(0), plan.imp.rewind_step
    search = EarlyBirdSearch(plan.imp.sparsity, plan.imp.scope, plan.early_bird_distance, plan.early_bird_window)
    with shared.watch("early-bird search", shared.settings.epochs) as advance:
        found = find_early_bird(network, shared.train, shared.settings, search, start_step=start, on_epoch=advance)
    remark = f"{'found after' if found.settled else 'the mask did not settle in'} {found.epochs} epochs"
    before = (found.ticket.search_steps, found.seconds)
    done = _finish(shared, "early_bird", network, found.ticket.masks, start, before, remark)
    return replace(done, distances=found.distances)


def _pretrained(shared: Trainings, plan: ImpPlan, imp: ImpResult) -> Condition:
    network, first = shared.make_network(0), imp.rounds[0]
    set_state(network, imp.dense)
    ticket = pretrained_ticket(
        network,
        plan.sparsity,
        plan.scope,
        start_step=plan.rewind_step,
        search_steps=first.steps,
        seed=shared.settings.seed,
    )
    return _finish(shared, "pretrained", network, ticket.masks, ticket.start_step, (first.steps, first.seconds))


def _finish(
    shared: Trainings,
    name: str,
    network: nn.Module,
    masks: Masks,
    start: int,
    before: tuple[int, float],
    remark: str = "",
) -> Condition:
    """The training that all conditions share, and its figures; ``before`` are steps and seconds spent until then."""
    with shared.watch(name.replace("_", " "), shared.settings.epochs) as advance:
        run = train_steps(
            network, shared.train, shared.settings, masks=masks, start=start, on_epoch=never_ending(advance)
        )
    return Condition(
        name,
        sparsity_of(masks),
        kept_weights(masks),
        layer_sparsity(masks),
        start,
        run.steps,
        run.seconds,
        *before,
        shared.judge(network),
        remark,
    )


def _once(shared: Trainings, name: str, compute: Callable[[], Condition]) -> Condition:
    """The condition from its file, or computed and written there."""
    path = shared.store.folder / f"condition-{name}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == shared.store.key:
            return _condition(stored["condition"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError) as error:
        warnings.warn(f"{path} is not used, the network is trained again: {error}", stacklevel=2)
    done = compute()
    write_text(json.dumps({"key": shared.store.key, "condition": asdict(done)}), path)
    shared.note(f"{name.replace('_', ' ')}: {_describe(done.figures)}{f', {done.remark}' if done.remark else ''}")
    return done


def _of_round(name: str, imp: ImpResult, number: int) -> Condition:
    record, before = imp.rounds[number], imp.rounds[:number]
    masks = imp.ticket.masks if number else full_masks_like(imp.ticket.masks)
    return Condition(
        name,
        record.sparsity,
        record.kept_weights,
        layer_sparsity(masks),
        imp.ticket.start_step if number else 0,
        record.steps,
        record.seconds,
        sum(earlier.steps for earlier in before),
        sum(earlier.seconds for earlier in before),
        record.figures,
    )


def _describe_round(record: RoundRecord) -> str:
    what = "dense network" if record.round == 0 else f"round {record.round}, sparsity {record.sparsity:.3f}"
    return f"{what}: {_describe(record.figures)}"


def _describe(figures: dict[str, float]) -> str:
    """The first two figures: a line for a log."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in list(figures.items())[:2])
