"""The closed loop with the solver: solve, prune, fine-tune, measure, correct the estimate by the report, again."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import fx

from trigger_prune.errors import BudgetError, CostError, ReportFormatError, ToolError
from trigger_prune.prune.budget.estimators import LayerEstimator, chain_cost
from trigger_prune.prune.budget.menu import live_spec
from trigger_prune.prune.budget.options import RESOURCES
from trigger_prune.prune.budget.plan import InfeasibleBudgetError, limits_of
from trigger_prune.prune.budget.ramp import CostGoal, ramp_to_cost, with_limits
from trigger_prune.prune.budget.solve import solve
from trigger_prune.prune.fine_tune import criterion_events
from trigger_prune.prune.loop import FAR_BELOW, WORTH_MEASURING
from trigger_prune.prune.measured import (
    LoopInputs,
    OnEpoch,
    Phase,
    PruneResult,
    choose,
    estimated_excess,
    measure,
    round_settings,
    worst_excess,
)
from trigger_prune.prune.rounds import Rounds, load_rounds, save_rounds, start_key
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.weight import Weight
from trigger_prune.target import Budget, LayerLayout, Target
from trigger_prune.train.history import FitHistory

_MARGIN = 0.97
"""The solver aims at this fraction of every limit: what training changes afterwards shall not cost another round."""

_TIGHTER = 0.97
"""Factor on the aim after a design that could not be measured: the same one would fail again."""

_HOPELESS = 1.5
"""A budget that even the sparsest plan exceeds by so much, by an estimate without any report, is not tried."""

_FAILURES = 3
"""Failed measurements in a row that end the loop."""


@dataclass(frozen=True)
class SolverInputs:
    """What the solver adds to the inputs of a loop.

    layouts   (strategy, reuse factor) that a layer may take
    """

    loop: LoopInputs
    estimator: LayerEstimator
    layouts: tuple[tuple[str, int], ...]


@dataclass
class _State:
    """Where the loop is: corrections from reports, and the aim relative to the limits."""

    scale: dict[str, float] = field(default_factory=dict)
    aim: float = _MARGIN
    failures_in_a_row: int = 0


def solve_to_budget(
    network: fx.GraphModule,
    inputs: SolverInputs,
    *,
    scratch: Path | None = None,
    on_epoch: OnEpoch = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
    on_failure: Callable[[FailedTrial], None] | None = None,
) -> PruneResult:
    """A sparser copy of ``network`` within the budget, every layer as sparse (and laid out) as the solver chose.

    A network whose estimated cost is near the budget is measured as it is (``dense``). Otherwise a short ``ramp`` to
    the budget is measured, and what its report says relative to the estimate corrects the estimate from then on; a
    long ``final`` ramp from the unpruned network follows, once more if it ended far below the budget; a network that
    exceeds it is cut further and fine-tuned (``trim``). Rounds count towards ``max_rounds``. The result is the measured
    network within the budget with the best merit on validation.

    A measurement that fails (a tool, or its report) is kept as a failure, and the next round aims a little lower.
    scratch   folder for resuming; rounds found there are not repeated
    Raises InfeasibleBudgetError (a BudgetError) naming the binding limit and the nearest feasible value when no plan
    comes near the budget, BudgetError when ``max_rounds`` are not enough, and the error of the third failed
    measurement in a row.
    """
    loop = inputs.loop
    network = copy.deepcopy(network)
    unpruned = copy.deepcopy(network.state_dict())
    key = start_key(network)
    rounds = Rounds() if scratch is None else load_rounds(scratch, key)
    state = _State()
    for trial, stored in zip(rounds.trials, rounds.networks, strict=True):
        network.load_state_dict(stored)
        _learn(state, network, trial, inputs)
    if not rounds.networks:
        _require_hope(network, inputs)
    while (phase := _next_phase(network, rounds, inputs)) is not None:
        number = len(rounds.trials) + len(rounds.failures) + 1
        if phase in ("ramp", "final"):
            network.load_state_dict(unpruned)
        history, layouts = _tune(network, inputs, state, phase, number, on_epoch)
        target = replace(loop.target, layers=_differing(layouts, loop.target))
        predicted = _predicted(network, inputs, target, state)
        try:
            trial = measure(network, loop, phase, number, target)
        except (ToolError, ReportFormatError, CostError) as error:
            failure = FailedTrial(number, phase, describe_network(network).nonzeros, str(error))
            rounds.failures.append(failure)
            if scratch is not None:
                save_rounds(scratch, key, rounds)
            if on_failure is not None:
                on_failure(failure)
            state.failures_in_a_row += 1
            state.aim *= _TIGHTER
            if state.failures_in_a_row >= _FAILURES and not any(trial.meets_budget for trial in rounds.trials):
                raise
            if state.failures_in_a_row >= _FAILURES:
                warnings.warn(f"{_FAILURES} measurements in a row failed, the last one: {error}", stacklevel=2)
                break
            continue
        trial = replace(trial, predicted=predicted)
        state.failures_in_a_row = 0
        _learn(state, network, trial, inputs)
        rounds.add(trial, history, network)
        if scratch is not None:
            save_rounds(scratch, key, rounds)
        if on_trial is not None:
            on_trial(trial)
    if not rounds.trials:
        raise BudgetError(
            f"none of {len(rounds.failures)} networks could be measured; the last error: {rounds.failures[-1].error}"
        )
    return choose(network, rounds, loop.budget)


def _next_phase(network: fx.GraphModule, rounds: Rounds, inputs: SolverInputs) -> Phase | None:
    loop = inputs.loop
    trials, config = rounds.trials, loop.config
    done = len(trials) + len(rounds.failures)
    if not limits_of(loop.budget):
        return None if trials else "dense"
    if not done:
        estimate = estimated_excess(network, loop)
        return "dense" if estimate is not None and estimate <= WORTH_MEASURING else "ramp"
    finals = sum(trial.phase == "final" for trial in trials)
    last = trials[-1] if trials else None
    failed_since = rounds.failures and (last is None or rounds.failures[-1].round > last.round)
    if last is not None and last.meets_budget and not failed_since:
        if last.phase == "dense" or config.final_epochs == 0:
            return None
        again = last.phase == "final" and finals == 1 and worst_excess(last, loop.budget) < FAR_BELOW
        return "final" if last.phase == "ramp" or (again and done < config.max_rounds) else None
    if done >= config.max_rounds:
        return "final" if not finals and config.final_epochs and trials and not failed_since else None
    if last is None or last.phase in ("dense", "ramp"):
        # what the report said is known now, so that the long ramp is worth its time even when the search ended above
        return "final" if last is not None and last.phase == "ramp" and config.final_epochs else "ramp"
    return "trim"


def _tune(
    network: fx.GraphModule, inputs: SolverInputs, state: _State, phase: Phase, number: int, on_epoch: OnEpoch
) -> tuple[FitHistory, tuple[LayerLayout, ...]]:
    if phase == "dense":
        return FitHistory((), 0), ()
    loop = inputs.loop
    settings = round_settings(loop, phase, number)
    goal = _goal(network, inputs, state)
    if phase == "trim":
        # a few weights more: they go at once, and the network recovers
        goal = replace(goal, ramp_fraction=0.0)
    result = ramp_to_cost(network, loop.train, loop.validation, settings, goal, on_epoch)
    return result.history, result.layouts


def _goal(network: fx.GraphModule, inputs: SolverInputs, state: _State) -> CostGoal:
    loop = inputs.loop
    aim = {name: factor / state.aim for name, factor in _scales(state, loop.budget).items()}
    return CostGoal(
        groups=loop.groups or Weight().groups(network),
        estimator=inputs.estimator,
        target=loop.target,
        limits=loop.budget,
        layouts=inputs.layouts,
        criterion=loop.config.criterion,
        data=criterion_events(loop.train, loop.settings.task, loop.settings.seed),
        scale=aim,
    )


def _scales(state: _State, budget: Budget) -> dict[str, float]:
    """Factor on the estimate of every limited resource; a count of cycles has no margin, its steps are whole."""
    return {name: state.scale.get(name, 1.0) for name in limits_of(budget) if name != "ii"}


def _learn(state: _State, network: fx.GraphModule, trial: PruneTrial, inputs: SolverInputs) -> None:
    """Measured / estimated of every resource that a report states."""
    target = replace(inputs.loop.target, layers=trial.layouts)
    estimated = chain_cost(inputs.estimator, live_spec(network).layers, target.layout, target)
    for name in RESOURCES:
        measured, expected = getattr(trial.cost, name), getattr(estimated, name)
        if measured and expected > 0:
            state.scale[name] = measured / expected


def _predicted(network: fx.GraphModule, inputs: SolverInputs, target: Target, state: _State) -> dict[str, float]:
    """Expected cost of a fine-tuned network, corrected by what was measured so far."""
    estimated = chain_cost(inputs.estimator, live_spec(network).layers, target.layout, target)
    return {name: getattr(estimated, name) * state.scale.get(name, 1.0) for name in limits_of(inputs.loop.budget)}


def _differing(layouts: tuple[LayerLayout, ...], target: Target) -> tuple[LayerLayout, ...]:
    """Layouts that are not the target's own."""
    own = (target.strategy, target.reuse_factor)
    return tuple(layout for layout in layouts if (layout.strategy, layout.reuse_factor) != own)


def _require_hope(network: fx.GraphModule, inputs: SolverInputs) -> None:
    """Raise InfeasibleBudgetError when not even the sparsest plan is expected to come near the budget."""
    loop = inputs.loop
    limits = limits_of(loop.budget)
    if not limits:
        return
    goal = replace(_goal(network, inputs, _State(aim=1.0)), scale={})
    inner = goal.inner_limits()
    loose = with_limits(inner, {name: value * _HOPELESS for name, value in limits_of(inner).items()})
    try:
        solve(goal.problem(network), loose)
    except InfeasibleBudgetError as error:
        offset = {"latency_cycles": inputs.estimator.latency_offset_cycles}
        blamed = error.binding[0]
        least = error.alone[blamed] + offset.get(blamed, 0.0)
        clock = loop.target.clock_period_ns
        wish = (
            f"budget.latency_ns: {math.ceil(least) * clock:g}"
            if blamed == "latency_cycles"
            else f"budget.{blamed}: {math.ceil(least)}"
        )
        raise InfeasibleBudgetError(
            f"no plan comes near the budget: by the estimate, the sparsest network needs {least:.4g} "
            f"{blamed.replace('_', ' ')}, the budget is {limits[blamed]:g}",
            nearest=error.nearest,
            single=error.single,
            alone=error.alone,
            binding=error.binding,
            hint=f"allow at least {wish} (nearest by estimate), or start from a smaller model",
        ) from error
