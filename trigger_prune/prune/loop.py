"""The closed loop: prune, fine-tune, measure, until the measured cost meets the budget."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import fx

from trigger_prune.config.project import PruneConfig
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import BudgetError
from trigger_prune.prune.fine_tune import polish, ramp
from trigger_prune.prune.schedule import next_density
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.masks import masked_fraction, prunable_layers
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.history import EpochRecord, FitHistory

_TRIM = 0.97
"""Density factor applied when polishing pushed the cost of a network just above the budget."""


@dataclass(frozen=True)
class LoopInputs:
    """Everything the loop works with. ``settings`` gives batch size, seed, task and device of every fine-tuning."""

    train: Batches
    validation: Batches
    settings: FitSettings
    config: PruneConfig
    budget: Budget
    target: Target
    cost_model: CostModel


@dataclass(frozen=True)
class PruneResult:
    """The chosen network, every trial (one is ``chosen``) and the training history of every round."""

    network: fx.GraphModule
    trials: tuple[PruneTrial, ...]
    histories: tuple[FitHistory, ...]


@dataclass
class _State:
    """What a round leaves for the next one; written to disk after each, so that a killed run goes on from there."""

    trials: list[PruneTrial]
    histories: list[FitHistory]
    networks: list[dict[str, torch.Tensor]]


def prune_to_budget(
    network: fx.GraphModule,
    inputs: LoopInputs,
    *,
    scratch: Path | None = None,
    on_epoch: Callable[[EpochRecord, int], None] | None = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
) -> PruneResult:
    """Smallest cut of ``network`` that meets the budget, fine-tuned; ``network`` itself is left as it was.

    Rounds raise the sparsity (as far as the measured cost asks for, see ``next_density``), fine-tune and measure. The
    first round that meets the budget is polished with a frozen mask and measured again, since fine-tuning changes the
    weights and with them the cost; if it no longer fits it is trimmed by 3 % and polished again. The result is the
    trial within the budget with the best validation accuracy (lowest loss without classes).

    scratch    folder for resuming; rounds found there are not repeated
    Raises BudgetError naming the binding limit and the nearest cost reached when ``max_rounds`` are not enough.
    """
    network = copy.deepcopy(network)
    config = inputs.config
    state = _load(scratch) or _State([], [], [])
    if state.networks:
        network.load_state_dict(state.networks[-1])
    while len(state.trials) < config.max_rounds:
        phase, sparsity = _next_step(network, state, inputs)
        if phase == "done":
            break
        history = _tune(network, inputs, phase, sparsity, len(state.trials) + 1, on_epoch)
        trial = _measure(network, inputs, phase, len(state.trials) + 1)
        state.trials.append(trial)
        state.histories.append(history)
        state.networks.append({name: value.clone() for name, value in network.state_dict().items()})
        _save(scratch, state)
        if on_trial is not None:
            on_trial(trial)
    return _choose(network, state, inputs.budget)


def _next_step(network: fx.GraphModule, state: _State, inputs: LoopInputs) -> tuple[str, float]:
    """What the next round does: (``ramp`` | ``polish`` | ``done``, sparsity)."""
    config = inputs.config
    if not state.trials:
        return "ramp", max(config.first_sparsity, masked_fraction(network))
    last = state.trials[-1]
    density = 1.0 - last.sparsity
    if last.meets_budget:
        if last.phase == "polish" or config.polish_epochs == 0:
            return "done", last.sparsity
        return "polish", last.sparsity
    if last.phase == "polish":
        return "polish", 1.0 - density * _TRIM
    ratio = max(last.cost.excess(inputs.budget).values())
    previous = None
    if len(state.trials) > 1:
        before = state.trials[-2]
        previous = (1.0 - before.sparsity, max(before.cost.excess(inputs.budget).values()))
    return "ramp", 1.0 - next_density(density, ratio, previous, config.density_step)


def _tune(
    network: fx.GraphModule,
    inputs: LoopInputs,
    phase: str,
    sparsity: float,
    number: int,
    on_epoch: Callable[[EpochRecord, int], None] | None,
) -> FitHistory:
    config = inputs.config
    epochs = config.polish_epochs if phase == "polish" else config.epochs_per_round
    settings = replace(
        inputs.settings,
        phase=f"{phase} {number}",
        epochs=epochs,
        learning_rate=config.learning_rate,
        patience_epochs=None,
        seed=inputs.settings.seed + 1000 * number,
    )
    if phase == "polish" and sparsity <= masked_fraction(network):
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


def _measure(network: fx.GraphModule, inputs: LoopInputs, phase: Any, number: int) -> PruneTrial:
    cost = inputs.cost_model.measure(network, inputs.target)
    result = evaluate(
        network.to(inputs.settings.device), inputs.validation.to(inputs.settings.device), inputs.settings.task
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
        cost=cost,
        meets_budget=cost.meets(inputs.budget),
    )


def _choose(network: fx.GraphModule, state: _State, budget: Budget) -> PruneResult:
    within = [index for index, trial in enumerate(state.trials) if trial.meets_budget]
    if not within:
        raise _unmet(state.trials, budget)

    def merit(index: int) -> float:
        trial = state.trials[index]
        return -trial.validation_loss if trial.validation_accuracy is None else trial.validation_accuracy

    best = max(within, key=merit)
    network.load_state_dict(state.networks[best])
    trials = tuple(replace(trial, chosen=index == best) for index, trial in enumerate(state.trials))
    return PruneResult(network, trials, tuple(state.histories))


def _unmet(trials: list[PruneTrial], budget: Budget) -> BudgetError:
    nearest = min(trials, key=lambda trial: max(trial.cost.excess(budget).values()))
    excess = nearest.cost.excess(budget)
    binding = max(excess, key=lambda name: excess[name])
    used, limit = getattr(nearest.cost, binding), getattr(budget, binding)
    return BudgetError(
        f"after {len(trials)} rounds the smallest network (sparsity {nearest.sparsity:.3f}) still needs "
        f"{used} {binding.replace('_', ' ')}, the budget is {limit}",
        hint=f"allow {binding} >= {used}, raise prune.max_rounds, lower prune.density_step, or start from a smaller model",
    )


def describe_cost(report: HardwareReport) -> str:
    """One line for progress output."""
    parts = [f"{report.lut} LUT"]
    parts += [f"{report.ff} FF"] if report.ff is not None else []
    parts += [f"{report.latency_cycles} cycles"] if report.latency_cycles is not None else []
    return ", ".join(parts)


def _save(scratch: Path | None, state: _State) -> None:
    if scratch is None:
        return
    payload = {
        "trials": json.dumps([trial.to_dict() for trial in state.trials]),
        "histories": json.dumps([history.to_dict() for history in state.histories]),
        "networks": state.networks,
    }
    temporary = scratch / f".rounds.{os.getpid()}"
    torch.save(payload, temporary)
    temporary.replace(scratch / "rounds.pt")


def _load(scratch: Path | None) -> _State | None:
    if scratch is None or not (scratch / "rounds.pt").exists():
        return None
    payload = torch.load(scratch / "rounds.pt", map_location="cpu", weights_only=True)
    return _State(
        [PruneTrial.from_dict(raw) for raw in json.loads(payload["trials"])],
        [FitHistory.from_dict(raw) for raw in json.loads(payload["histories"])],
        payload["networks"],
    )
