"""The closed loop with learned widths: train down to the cost, measure, correct what a bit costs, train on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from trigger_prune.config.learn_section import LearnConfig
from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.plan import limits_of
from trigger_prune.prune.learned.run import LearnedRun
from trigger_prune.prune.measured import LoopInputs, OnEpoch, PruneResult, estimated_excess, worst_excess
from trigger_prune.prune.rounds import Candidate, Rounds, load_rounds, save_rounds, start_key, state_of
from trigger_prune.prune.steps import TIGHTER, Listeners, NextStep, failed_in_a_row, run_steps
from trigger_prune.prune.trial import FailedTrial, Phase, PruneTrial
from trigger_prune.quantize.learned.convert import with_input_quantizer

_FACTOR, _ABOVE = 2.0, 1.1
"""Between the costs of two checkpoints on the way, and of the last one: bits come back slowly, so come from above."""

_AIM = 0.975
"""Part of the budget that is aimed at: the cost of the last epochs is off by a few per cent."""

_LEAST_SLOPE = 0.25
"""d log(cost) / d log(charge) between finished networks is taken to be at least this."""

_TRIMS = 3
"""Further trainings, when the finished network is above the budget, or far below it."""


@dataclass(frozen=True)
class _Plan:
    """Checkpoints on the way, as factors on the budget, and epochs of the way to each."""

    factors: tuple[float, ...]
    epochs: tuple[int, ...]


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

    One training goes down in cost. On the way ``config.checkpoints`` networks are measured (``ramp``), whose reports
    say what the training's expected adder bits really cost. From the last one the learning rate falls at a cost that
    fits the budget (``final``). A network above it, or below 1 - ``config.tolerance`` of it, is trained
    again from that checkpoint for a corrected cost (``trim``), at most three times. The result is the trial within the
    budget with the best merit on validation.

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

    def train(phase: Phase, charge: float, epochs: int) -> list[Candidate]:
        number = rounds.next_round
        if phase == "ramp":
            history = run.descend(charge, epochs, phase, on_epoch)
            fixed = run.snapshot()
            if scratch is not None:
                run.save(scratch, key)
        else:
            fixed, history = run.annealed(charge, epochs, f"{phase} {number}", on_epoch)
        return [Candidate(number, phase, history, state_of(fixed), predicted={"charge": charge})]

    def next_step(trials: list[PruneTrial]) -> NextStep | None:
        step = _next(rounds, trials, inputs, config, plan, first)
        return None if step is None else NextStep(False, lambda: train(*step))

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
) -> tuple[Phase, float, int] | None:
    """Phase, charge and epochs of the next step; None at the end."""
    at_budget = _charge_at_budget(trials, inputs, first) * TIGHTER ** failed_in_a_row(rounds)
    done = _descents(rounds)
    if done < len(plan.factors):
        return "ramp", at_budget * plan.factors[done], plan.epochs[done]
    finished = [trial for trial in trials if trial.phase in ("final", "trim")]
    tried = len(rounds.steps) - done
    if not tried:
        return "final", at_budget, config.anneal_epochs
    near = any(1 - config.tolerance <= worst_excess(t, inputs.budget) <= 1 for t in finished)
    if near or tried > _TRIMS:
        return None
    return "trim", at_budget, config.anneal_epochs


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
