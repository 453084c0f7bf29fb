"""The closed loop: prune, fine-tune, measure, until the measured cost meets the budget."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import fx

from trigger_prune.config.project import PruneConfig
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import BudgetError, CostError
from trigger_prune.prune.fine_tune import polish, ramp
from trigger_prune.prune.rounds import Rounds, load_rounds, save_rounds, start_key
from trigger_prune.prune.schedule import density_between, next_density
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.masks import masked_fraction, prunable_layers
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.history import EpochRecord, FitHistory

Phase = Literal["dense", "ramp", "final", "trim"]

_WORTH_MEASURING = 1.25
"""Estimated use / limit up to which the unpruned network is measured: the estimate may be that far off."""

_FAR_BELOW = 0.88
"""Use / limit below which weights were removed that the budget had room for."""


@dataclass(frozen=True)
class LoopInputs:
    """Everything the loop works with.

    settings   batch size, seed, task, objective and device of every fine-tuning
    estimate   quick cost of a network, which sets the size of the first cut; without it that is ``first_sparsity``
    """

    train: Batches
    validation: Batches
    settings: FitSettings
    config: PruneConfig
    budget: Budget
    target: Target
    cost_model: CostModel
    estimate: Callable[[NetworkSpec, Target], HardwareReport] | None = None


@dataclass(frozen=True)
class PruneResult:
    """The chosen network, every trial (one is ``chosen``) and the training history of every round."""

    network: fx.GraphModule
    trials: tuple[PruneTrial, ...]
    histories: tuple[FitHistory, ...]


def prune_to_budget(
    network: fx.GraphModule,
    inputs: LoopInputs,
    *,
    scratch: Path | None = None,
    on_epoch: Callable[[EpochRecord, int], None] | None = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
) -> PruneResult:
    """A sparser copy of ``network`` that meets the budget, fine-tuned; ``network`` itself is left as it was.

    A network whose estimated cost is near the budget is measured as it is (``dense``), and is the result when it
    fits: nothing is pruned that need not be.

    Otherwise short rounds (``ramp``) look for the sparsity that the budget allows: the first prunes as far as the
    estimate asks for, at most to ``first_sparsity``; further ones raise the sparsity as far as the measured cost
    asks for (see ``next_density``), fine-tune and measure. Then training starts again from the unpruned network on
    one long ramp (``final``), which keeps more accuracy than the search rounds' repeated cuts, to the sparsity
    between the last networks above and below the budget; it is repeated once if it ends far below. Its weights and
    so its cost are others than the search's; if it no longer fits it is cut further, at least by 3 %, and
    fine-tuned (``trim``).

    Rounds of every kind count towards ``max_rounds``, but the final ramp always happens. The result is the trial
    within the budget with the best merit on validation (settings.objective). A budget without limits is
    met by the first round.

    scratch    folder for resuming; rounds found there are not repeated
    Raises BudgetError naming the binding limit and the nearest cost reached when ``max_rounds`` are not enough, or
    naming a limit that the cost model's report says nothing about. A CostError ends the run only while no network
    within the budget is known; later it is a warning.
    """
    network = copy.deepcopy(network)
    unpruned = copy.deepcopy(network.state_dict())
    key = start_key(network)
    rounds = Rounds() if scratch is None else load_rounds(scratch, key)
    if rounds.networks:
        network.load_state_dict(rounds.networks[-1])
    while (step := _next_step(network, rounds.trials, inputs)) is not None:
        number = len(rounds.trials) + 1
        if step[0] == "final":
            network.load_state_dict(unpruned)
        history = _tune(network, inputs, *step, number, on_epoch)
        try:
            trial = _measure(network, inputs, step[0], number)
        except CostError as error:
            # No logic is left (the training collapsed, say): a network that fits was found before, and it stands.
            if not any(earlier.meets_budget for earlier in rounds.trials):
                raise
            warnings.warn(f"round {number} ({step[0]}) cannot be measured and is left out: {error}", stacklevel=2)
            break
        rounds.add(trial, history, network)
        if scratch is not None:
            save_rounds(scratch, key, rounds)
        if on_trial is not None:
            on_trial(trial)
    return _choose(network, rounds, inputs.budget)


def _next_step(network: fx.GraphModule, trials: list[PruneTrial], inputs: LoopInputs) -> tuple[Phase, float] | None:
    """What the next round does (phase and sparsity), or None at the end."""
    config = inputs.config
    masked = masked_fraction(network)
    first_step = min(1.0, (1.0 - config.first_sparsity) / (1.0 - masked)) if masked < 1.0 else 1.0
    if not trials:
        estimate = _estimated_excess(network, inputs)
        if estimate is None:
            return "ramp", max(config.first_sparsity, masked)
        if estimate <= _WORTH_MEASURING:
            return "dense", masked
        return "ramp", 1.0 - next_density(1.0 - masked, estimate, None, first_step)
    last = trials[-1]
    if last.meets_budget:
        return _final_step(trials, inputs, masked)
    if len(trials) >= config.max_rounds:
        return None
    previous = None
    if len(trials) > 1:
        previous = (1.0 - trials[-2].sparsity, _worst_excess(trials[-2], inputs.budget))
    step = first_step if last.phase == "dense" else config.density_step
    density = next_density(1.0 - last.sparsity, _worst_excess(last, inputs.budget), previous, step)
    # of a few weights 3 % is none at all
    n_weights = sum(layer.weight_mask.numel() for layer in prunable_layers(network).values())
    sparsity = min(1.0, max(1.0 - density, masked + 1.0 / n_weights))
    return ("trim" if last.phase in ("final", "trim") else "ramp"), sparsity


def _final_step(trials: list[PruneTrial], inputs: LoopInputs, masked: float) -> tuple[Phase, float] | None:
    """The long ramp, once the last network is within the budget; None when there is nothing left to gain.

    Its sparsity lies between those of the networks just above and below the budget, since a cut cannot be undone in the
    search but the final ramp starts afresh. One that ends far below the budget is repeated once with more weights.
    """
    last, budget = trials[-1], inputs.budget
    finals = sum(trial.phase == "final" for trial in trials)
    ratio = _worst_excess(last, budget)
    again = last.phase == "final" and finals == 1 and ratio < _FAR_BELOW and len(trials) < inputs.config.max_rounds
    if inputs.config.final_epochs == 0 or not (last.phase == "ramp" or again):
        return None
    above = [(1.0 - trial.sparsity, _worst_excess(trial, budget)) for trial in trials if not trial.meets_budget]
    if not above or ratio > _FAR_BELOW:
        return ("final", masked) if last.phase == "ramp" else None
    return "final", 1.0 - density_between(min(above), (1.0 - last.sparsity, ratio))


def _estimated_excess(network: fx.GraphModule, inputs: LoopInputs) -> float | None:
    """Estimated use divided by limit of the binding resource; None without an estimate or without limits."""
    if inputs.estimate is None:
        return None
    excess = inputs.estimate(describe_network(network), inputs.target).excess(inputs.budget)
    return max(excess.values(), default=None)


def _worst_excess(trial: PruneTrial, budget: Budget) -> float:
    """Use divided by limit of the binding resource; 0 without limits."""
    return max(trial.cost.excess(budget).values(), default=0.0)


def _tune(
    network: fx.GraphModule,
    inputs: LoopInputs,
    phase: Phase,
    sparsity: float,
    number: int,
    on_epoch: Callable[[EpochRecord, int], None] | None,
) -> FitHistory:
    if phase == "dense":
        return FitHistory((), 0)
    config = inputs.config
    epochs = config.final_epochs if phase == "final" else config.epochs_per_round
    settings = replace(
        inputs.settings,
        phase=f"{phase} {number}",
        epochs=epochs,
        learning_rate=config.learning_rate,
        patience_epochs=None,
        seed=inputs.settings.seed + 1000 * number,
    )
    if phase == "final" and sparsity <= masked_fraction(network):
        return polish(network, inputs.train, inputs.validation, settings, on_epoch)
    return ramp(
        network,
        inputs.train,
        inputs.validation,
        settings,
        sparsity=sparsity,
        criterion=config.criterion,
        scope=config.scope,
        progress=on_epoch,
    )


def _measure(network: fx.GraphModule, inputs: LoopInputs, phase: Phase, number: int) -> PruneTrial:
    network.cpu()
    cost = inputs.cost_model.measure(network, inputs.target)
    unstated = cost.unstated(inputs.budget)
    if unstated:
        raise BudgetError(
            f"the budget limits {', '.join(unstated)}, which the cost model {inputs.cost_model.name!r} does not state",
            hint="remove that limit, or choose another cost.backend",
        )
    result = evaluate(
        network.to(inputs.settings.device),
        inputs.validation.to(inputs.settings.device),
        inputs.settings.task,
        inputs.settings.objective,
    )
    network.cpu()
    spec = describe_network(network)
    prunable = prunable_layers(network)
    return PruneTrial(
        round=number,
        phase=phase,
        sparsity=masked_fraction(network),
        nonzeros=spec.nonzeros,
        layer_sparsity={
            layer.name: 1.0 - layer.nonzeros / layer.n_weights for layer in spec.layers if layer.name in prunable
        },
        validation_loss=result.loss,
        validation_accuracy=result.accuracy,
        validation_merit=result.merit,
        cost=cost,
        meets_budget=cost.meets(inputs.budget),
    )


def _choose(network: fx.GraphModule, rounds: Rounds, budget: Budget) -> PruneResult:
    within = [index for index, trial in enumerate(rounds.trials) if trial.meets_budget]
    if not within:
        raise _unmet(rounds.trials, budget)
    best = max(within, key=lambda index: rounds.trials[index].validation_merit)
    network.load_state_dict(rounds.networks[best])
    trials = tuple(replace(trial, chosen=index == best) for index, trial in enumerate(rounds.trials))
    return PruneResult(network, trials, tuple(rounds.histories))


def _unmet(trials: list[PruneTrial], budget: Budget) -> BudgetError:
    nearest = min(trials, key=lambda trial: _worst_excess(trial, budget))
    excess = nearest.cost.excess(budget)
    binding = max(excess, key=lambda name: excess[name])
    used, limit = getattr(nearest.cost, binding), getattr(budget, binding)
    allow = f"budget.{binding}: {used}"
    clock = nearest.cost.clock_period_ns
    if binding == "latency_cycles" and clock is not None:
        allow = f"budget.latency_ns: {used * clock:g}"
    elif isinstance(used, float):
        allow = f"budget.{binding}: {used:.3g}"
    hint = f"allow {allow}, raise prune.max_rounds, lower prune.density_step, or start from a smaller model"
    if nearest.cost.stage is CostStage.RUNTIME:
        hint = (
            f"allow {allow}, or start from a smaller model: zero weights make a processor no faster, only whole "
            "neurons that fall away do"
        )
    elif binding in ("ii", "latency_cycles") and _rises_with_sparsity(trials, binding):
        hint = (
            f"allow {allow}, or lower target.reuse_factor: pruning raised it, because zeros take shared multipliers "
            "away while the distinct weights that need one stay"
        )
    return BudgetError(
        f"after {len(trials)} rounds the nearest network (sparsity {nearest.sparsity:.3f}) still needs "
        f"{_figure(used)} {binding.replace('_', ' ')}, the budget is {_figure(limit)}",
        hint=hint,
    )


def _rises_with_sparsity(trials: list[PruneTrial], quantity: str) -> bool:
    """Whether a sparser network was measured to need more of ``quantity`` than a denser one."""
    known = [(trial.sparsity, value) for trial in trials if (value := getattr(trial.cost, quantity)) is not None]
    return any(first[0] < second[0] and first[1] < second[1] for first in known for second in known)


def _figure(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def describe_cost(report: HardwareReport) -> str:
    """One line for progress output: what the report states of area, latency or run time."""
    parts = [f"{report.lut} LUT"] if report.lut is not None else []
    parts += [f"{report.ff} FF"] if report.ff is not None else []
    parts += [f"{report.latency_cycles} cycles"] if report.latency_cycles is not None else []
    parts += [f"II {report.ii}"] if report.ii is not None and report.ii > 1 else []
    parts += [f"p99 {report.latency_p99_us:.3g} us"] if report.latency_p99_us is not None else []
    parts += [f"{report.event_time_us:.3g} us per event"] if report.event_time_us is not None else []
    return ", ".join(parts) or "nothing stated"
