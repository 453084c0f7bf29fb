"""The closed loop with learned widths: train down to the cost, measure, correct what a bit costs, train on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import fx

from trigger_prune.config.learn_section import LearnConfig
from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.plan import limits_of
from trigger_prune.prune.learned.run import FixedCost, LearnedRun
from trigger_prune.prune.learned.shave import shave
from trigger_prune.prune.measured import (
    LoopInputs,
    OnEpoch,
    PruneResult,
    estimated_excess,
    estimated_fill,
    worst_excess,
)
from trigger_prune.prune.rounds import Candidate, Rounds, load_rounds, save_rounds, start_key, state_of
from trigger_prune.prune.steps import TIGHTER, Listeners, NextStep, failed_in_a_row, run_steps
from trigger_prune.prune.trial import FailedTrial, Phase, PruneTrial
from trigger_prune.quantize.learned.convert import with_input_quantizer
from trigger_prune.train.history import FitHistory

_FACTOR, _ABOVE = 2.0, 1.1
"""Between the costs of two checkpoints on the way, and of the last one: bits come back slowly, so come from above."""

_AIM = 0.985
"""Part of the budget that is aimed at: the cost of the last epochs is off by a few per cent."""

_SHAVED, _LANDED = 1.06, 0.975
"""A finished network above the budget by at most this factor loses some signed digits instead of being trained again,
until it is expected to need this part of the budget."""

_LEAST_SLOPE = 0.25
"""d log(cost) / d log(charge) between finished networks is taken to be at least this."""

_LEVEL, _TREND, _SCATTER = 0.3, 0.05, 0.02
"""Of log(measured / estimated): how large it is thought to be, how much it may change per factor e in size, and how
much it differs between networks of one size."""

_MOST_LEAD = 1.25
"""An anneal is led at most by this factor above or below the charge that its cost asks for."""

_TRIMS = 3
"""Further steps, when the finished network is above the budget, or far below it."""


@dataclass(frozen=True)
class _Plan:
    """Checkpoints on the way, as factors on the budget, and epochs of the way to each."""

    factors: tuple[float, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class _Step:
    """One training: its end, in charge and in parts of the budget (``fill``), and its length.

    part   refine: of the cost of the last network, what shall be left
    """

    phase: Phase
    charge: float
    fill: float
    epochs: int
    part: float = 1.0


def learn_to_budget(
    network: fx.GraphModule,
    inputs: LoopInputs,
    config: LearnConfig,
    *,
    scratch: Path | None = None,
    on_epoch: OnEpoch = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
    on_failure: Callable[[FailedTrial], None] | None = None,
) -> PruneResult:
    """A copy of ``network`` within the budget, the bits of every weight and activation trained with its weights.

    One training goes down in cost. On the way ``config.checkpoints`` networks are measured (``ramp``). From the last
    one the learning rate falls at a cost that fits the budget (``final``). A network a little above it loses some
    signed digits (``refine``); one far above, or below 1 - ``config.tolerance`` of it, is trained again from that
    checkpoint for a corrected cost (``trim``). There are at most three such steps. The result is the trial within the
    budget with the best merit on validation.

    The training is led by its charge. Where there is an estimate of the cost, that of the rounded networks on the way
    says what the charge costs, and the reports of the measured ones say how far the estimate is off.

    scratch   folder for resuming: measured checkpoints are not repeated
    Raises BudgetError naming the binding limit and the nearest cost reached, or that there is no budget; and the error
    of the third failed measurement in a row.
    """
    if not limits_of(inputs.budget):
        raise BudgetError("prune.scope learned trains towards a budget, and none is set", hint="set budget.lut")
    network = copy.deepcopy(network)
    with_input_quantizer(network)
    run = LearnedRun.begin(network, inputs, config)
    key = start_key(network)
    rounds = Rounds() if scratch is None else load_rounds(scratch, key)
    if scratch is not None and rounds.steps and not run.restore(scratch, key, _descents(rounds)):
        rounds = Rounds()
    full_charge = LearnedRun.begin(network, inputs, config).charge if rounds.steps else run.charge
    first = _first_guess(network, inputs, full_charge)
    plan = _plan(full_charge / first, config)

    def save() -> None:
        if scratch is not None:
            save_rounds(scratch, key, rounds)

    def train(step: _Step, correction: float, lead: float) -> list[Candidate]:
        number = rounds.next_round
        if step.phase == "refine":
            fixed = copy.deepcopy(network)
            if shave(fixed, inputs, step.part, lambda candidate: _estimate(candidate, inputs)):
                predicted = {"charge": step.charge, "fill": _estimate(fixed, inputs)}
                return [Candidate(number, "refine", FitHistory((), 0), state_of(fixed), predicted=predicted)]
            step = replace(step, phase="trim")
        cost = _steering(network, inputs, step.fill / correction)
        if step.phase == "ramp":
            history = run.descend(step.charge, step.epochs, step.phase, on_epoch, cost)
            fixed, charge = run.snapshot(), run.charge
            if scratch is not None:
                run.save(scratch, key)
        else:
            named = f"{step.phase} {number}"
            fixed, history, charge = run.annealed(step.charge, step.epochs, named, on_epoch, cost, lead)
        predicted = {"charge": charge}
        if cost is not None:
            predicted["fill"] = _estimate(fixed, inputs)
        return [Candidate(number, step.phase, history, state_of(fixed), predicted=predicted)]

    def next_step(trials: list[PruneTrial]) -> NextStep | None:
        step = _next(rounds, trials, inputs, config, plan, first)
        correction = _correction(trials, inputs)
        lead = _lead(trials, correction)
        return None if step is None else NextStep(False, lambda: train(step, correction, lead))

    return run_steps(network, rounds, inputs, Listeners(save, on_trial, on_failure), next_step)


def _descents(rounds: Rounds) -> int:
    """How many of the steps moved the training itself on."""
    phases = {trial.round: trial.phase for trial in rounds.trials} | {f.round: f.phase for f in rounds.failures}
    phases |= {candidate.round: candidate.phase for candidate in rounds.pending}
    return sum(phases[number] == "ramp" for step in rounds.steps for number in step)


def _first_guess(network: fx.GraphModule, inputs: LoopInputs, charge: float) -> float:
    """Charge that the budget is thought to allow before anything is measured; at most the present one."""
    excess = estimated_excess(network, inputs)
    return charge if not excess else min(charge, _AIM * charge / excess)


def _plan(ratio: float, config: LearnConfig) -> _Plan:
    """Checkpoints between a start ``ratio`` times as costly as the budget allows, and the budget."""
    powers = reversed(range(config.checkpoints))
    factors = [_ABOVE * _FACTOR**power for power in powers if _ABOVE * _FACTOR**power < ratio or power == 0]
    # The way to the first checkpoint is the longest in cost, but the last bits are the hardest to choose.
    shares = [2.0, *[3.0] * (len(factors) - 1)]
    epochs = [max(1, round(config.epochs * share / sum(shares))) for share in shares]
    return _Plan(tuple(factors), tuple(epochs))


def _next(
    rounds: Rounds, trials: list[PruneTrial], inputs: LoopInputs, config: LearnConfig, plan: _Plan, first: float
) -> _Step | None:
    """The next step; None at the end."""
    tighter = TIGHTER ** failed_in_a_row(rounds)
    charge, part = _charge_at_budget(trials, inputs, first) * tighter, _AIM * tighter
    done = _descents(rounds)
    if done < len(plan.factors):
        factor = plan.factors[done]
        return _Step("ramp", charge * factor, part * factor, plan.epochs[done])
    finished = [trial for trial in trials if trial.phase in ("final", "trim", "refine")]
    tried = len(rounds.steps) - done
    near = any(1 - config.tolerance <= worst_excess(t, inputs.budget) <= 1 for t in finished)
    if near or tried > _TRIMS:
        return None
    step = _Step("trim" if tried else "final", charge, part, config.anneal_epochs)
    if not finished or finished[-1].phase == "refine" or not 1 < worst_excess(finished[-1], inputs.budget) <= _SHAVED:
        return step
    return replace(step, phase="refine", part=_LANDED / worst_excess(finished[-1], inputs.budget))


def _steering(network: fx.GraphModule, inputs: LoopInputs, wanted: float) -> FixedCost | None:
    """Estimated part of the budget that a network needs, relative to the ``wanted`` one; None without an estimate."""
    if estimated_fill(network, inputs) is None:
        return None
    return lambda fixed: _estimate(fixed, inputs) / wanted


def _estimate(network: fx.GraphModule, inputs: LoopInputs) -> float:
    """Estimated use divided by limit of the binding resource, where there is an estimate."""
    return max(estimated_fill(network, inputs) or 0.0, 1e-3)


def _correction(trials: list[PruneTrial], inputs: LoopInputs) -> float:
    """Measured / estimated cost at the budget: level and trend in the size of the network, the most probable ones."""
    estimated = [(worst_excess(t, inputs.budget), t.predicted["fill"]) for t in trials if "fill" in t.predicted]
    known = [(measured, measured / estimate) for measured, estimate in estimated if measured > 0]
    sizes, ratios = np.log(np.array(known).reshape(-1, 2)).T
    terms = np.stack([np.ones_like(sizes), sizes])
    precision = terms @ terms.T / _SCATTER**2 + np.diag([_LEVEL**-2, _TREND**-2])
    level, trend = np.linalg.solve(precision, terms @ ratios / _SCATTER**2)
    return float(np.exp(level + trend * math.log(_AIM)))


def _lead(trials: list[PruneTrial], correction: float) -> float:
    """By how much the finished networks ended below (or above) what was wanted of them: the next one is led there."""
    reached = [
        correction * t.predicted["fill"] for t in trials if t.phase in ("final", "trim") and "fill" in t.predicted
    ]
    return min(max(math.prod(_AIM / part for part in reached), 1 / _MOST_LEAD), _MOST_LEAD)


def _charge_at_budget(trials: list[PruneTrial], inputs: LoopInputs, first: float) -> float:
    """Charge that gives ``_AIM`` of the budget, by the last network that was measured, and the one before it.

    A network can fall short of what its charge allows: bits that are gone come back slowly. Between finished networks
    the cost therefore follows the charge by less than its factor, which the last two of them tell.
    """
    if not trials:
        return first
    points = [(t.predicted["charge"], max(worst_excess(t, inputs.budget), 1e-3)) for t in trials]
    charge, excess = points[-1]
    exponent = 1.0
    if len(trials) > 1 and trials[-1].phase == "trim" and abs(math.log(charge / points[-2][0])) > 1e-3:
        slope = math.log(excess / points[-2][1]) / math.log(charge / points[-2][0])
        exponent = 1.0 / min(max(slope, _LEAST_SLOPE), 1.0)
    return float(charge * (_AIM / excess) ** exponent)
