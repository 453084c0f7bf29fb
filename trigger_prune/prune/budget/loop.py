"""The closed loop with the solver: solve, prune, fine-tune, measure, correct the estimate by the report, again."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import fx

from trigger_prune.prune.budget.bits import choose_bits
from trigger_prune.prune.budget.estimators import LayerEstimator, chain_cost
from trigger_prune.prune.budget.menu import live_spec
from trigger_prune.prune.budget.plan import InfeasibleBudgetError, limits_of
from trigger_prune.prune.budget.ramp import CostGoal, ramp_to_cost, with_limits
from trigger_prune.prune.budget.solve import solve
from trigger_prune.prune.fine_tune import criterion_events
from trigger_prune.prune.loop import WORTH_MEASURING
from trigger_prune.prune.measured import (
    LoopInputs,
    OnEpoch,
    PruneResult,
    estimated_excess,
    round_settings,
    worst_excess,
)
from trigger_prune.prune.rounds import Candidate, Rounds, load_rounds, save_rounds, start_key, state_of
from trigger_prune.prune.steps import (
    TIGHTER,
    Listeners,
    NextStep,
    aim_factors,
    failed_in_a_row,
    failed_steps,
    run_steps,
)
from trigger_prune.prune.trial import FailedTrial, Phase, PruneTrial
from trigger_prune.quantize.state import load_network_state
from trigger_prune.structure.weight import Weight
from trigger_prune.target import Budget, LayerLayout, Target
from trigger_prune.train.history import FitHistory

_ROOM = 0.95
"""Use / limit below which a long ramp is repeated: the correction by its own report brings the next one nearer."""

_MARGIN = 0.985
"""The solver aims at this fraction of every limit: what training changes afterwards shall not cost another round."""

_HOPELESS = 1.5
"""A budget that even the sparsest plan exceeds by so much, by an estimate without any report, is not tried."""


@dataclass(frozen=True)
class SolverInputs:
    """What the solver adds to the inputs of a loop.

    layouts   (strategy, reuse factor) that a layer may take
    known     measured / expected cost by resource, from trials for another budget; the search round is then left out
    """

    loop: LoopInputs
    estimator: LayerEstimator
    layouts: tuple[tuple[str, int], ...]
    known: Mapping[str, float] = field(default_factory=dict)


@dataclass
class _State:
    """Where the loop is: corrections from reports, and the aim relative to the limits."""

    scale: dict[str, float] = field(default_factory=dict)
    aim: float = _MARGIN


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

    With ``weight_bits`` each width first gets a short ramp to the budget as it is expected, and the one with the best
    merit on validation is kept. A network whose estimated cost is near the budget is measured as it is (``dense``).
    Otherwise a short ``ramp`` to the budget is measured, and what its report says relative to the expected cost
    corrects the estimate from then on; a long ``final`` ramp from the unpruned network follows, once more if it ended
    far below the budget; a network that exceeds it is cut further and fine-tuned (``trim``). Rounds count towards
    ``max_rounds``. The result is the measured network within the budget with the best merit on validation.

    With ``config.candidates`` above 1 every step but ``dense`` trains so many networks for aims around the one, and
    goes on from the measured one nearest to the budget.

    A measurement that fails (a tool, or its report) is kept as a failure, and the next step aims a little lower.
    scratch   folder for resuming; rounds found there are not repeated, and what was trained but not measured is
              measured
    Raises InfeasibleBudgetError (a BudgetError) naming the binding limit and the nearest feasible value when no plan
    comes near the budget, BudgetError when ``max_rounds`` are not enough, and the error of the third failed
    measurement in a row.
    """
    loop = inputs.loop
    network = copy.deepcopy(network)
    if loop.config.weight_bits:
        network, _ = choose_bits(network, loop.config.weight_bits, lambda each: _short_ramp(each, inputs, on_epoch))
    key = start_key(network)
    rounds = Rounds() if scratch is None else load_rounds(scratch, key)
    if not rounds.steps:
        _require_hope(network, inputs)

    def save() -> None:
        if scratch is not None:
            save_rounds(scratch, key, rounds)

    def next_step(trials: list[PruneTrial]) -> NextStep | None:
        phase = _next_phase(network, rounds, trials, inputs)
        if phase is None:
            return None
        return NextStep(phase in ("ramp", "final"), lambda: _train(network, inputs, rounds, trials, phase, on_epoch))

    return run_steps(network, rounds, loop, Listeners(save, on_trial, on_failure), next_step)


def _short_ramp(network: fx.GraphModule, inputs: SolverInputs, on_epoch: OnEpoch) -> float:
    """Merit on validation after a short ramp to the expected budget."""
    loop = inputs.loop
    settings = round_settings(loop, "ramp", 0)
    goal = _goal(network, inputs, _State())
    return ramp_to_cost(network, loop.train, loop.validation, settings, goal, on_epoch).history.best.validation_merit


def _next_phase(
    network: fx.GraphModule, rounds: Rounds, trials: list[PruneTrial], inputs: SolverInputs
) -> Phase | None:
    """What the next step does; ``trials`` are the decisive ones of the steps before."""
    loop = inputs.loop
    config = loop.config
    done = len(rounds.steps)
    if not limits_of(loop.budget):
        return None if trials else "dense"
    if not done:
        estimate = estimated_excess(network, loop)
        if estimate is not None and estimate <= WORTH_MEASURING:
            return "dense"
        return "final" if inputs.known and config.final_epochs else "ramp"
    finals = sum(trial.phase == "final" for trial in trials)
    last = trials[-1] if trials else None
    failed_since = failed_in_a_row(rounds) > 0
    if last is not None and last.meets_budget and not failed_since:
        if last.phase == "dense" or config.final_epochs == 0:
            return None
        again = last.phase == "final" and finals == 1 and worst_excess(last, loop.budget) < _ROOM
        return "final" if last.phase == "ramp" or (again and done < config.max_rounds) else None
    if done >= config.max_rounds:
        return "final" if not finals and config.final_epochs and trials and not failed_since else None
    if last is None or last.phase in ("dense", "ramp"):
        # what the report said is known now, so that the long ramp is worth its time even when the search ended above
        return "final" if last is not None and last.phase == "ramp" and config.final_epochs else "ramp"
    return "trim"


def _train(
    network: fx.GraphModule,
    inputs: SolverInputs,
    rounds: Rounds,
    measured: list[PruneTrial],
    phase: Phase,
    on_epoch: OnEpoch,
) -> list[Candidate]:
    """The networks of the next step, all trained from ``network`` as it is now."""
    loop = inputs.loop
    state = _State(scale=dict(inputs.known), aim=_MARGIN * TIGHTER ** failed_steps(rounds))
    for trial in measured:
        _learn(state, trial)
    start = state_of(network)
    found: list[Candidate] = []
    for factor in (1.0,) if phase == "dense" else aim_factors(loop.config.candidates, rounds):
        number = rounds.next_round + len(found)
        load_network_state(network, start)
        aimed = replace(state, aim=state.aim * factor)
        history, layouts, predicted = _tune(network, inputs, aimed, phase, number, on_epoch)
        differing = _differing(layouts, loop.target)
        found.append(Candidate(number, phase, history, state_of(network.cpu()), differing, predicted))
    return found


def _tune(
    network: fx.GraphModule, inputs: SolverInputs, state: _State, phase: Phase, number: int, on_epoch: OnEpoch
) -> tuple[FitHistory, tuple[LayerLayout, ...], dict[str, float]]:
    """The training, every layer's layout, and the cost that the solver expects."""
    loop = inputs.loop
    if phase == "dense":
        return FitHistory((), 0), (), _estimated(network, inputs)
    settings = round_settings(loop, phase, number)
    goal = _goal(network, inputs, state)
    if phase == "trim":
        # a few weights more: they go at once, and the network recovers
        goal = replace(goal, ramp_fraction=0.0)
    result = ramp_to_cost(network, loop.train, loop.validation, settings, goal, on_epoch)
    plan = result.plans[-1].cost
    # costs were scaled by 1 / aim, so that the solver stays below the limits
    expected = {name: getattr(plan, name) * state.aim for name in goal.scale}
    return result.history, result.layouts, _whole_cycles(expected, inputs)


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
        ramp_fraction=loop.config.ramp_fraction,
    )


def _scales(state: _State, budget: Budget) -> dict[str, float]:
    """Factor on the estimate of every limited resource; a count of cycles has no margin, its steps are whole."""
    return {name: state.scale.get(name, 1.0) for name in limits_of(budget) if name != "ii"}


def _learn(state: _State, trial: PruneTrial) -> None:
    """Correct the estimate by measured / expected, which holds what training did after the last plan, too."""
    for name, expected in trial.predicted.items():
        measured = getattr(trial.cost, name)
        if measured and expected > 0:
            state.scale[name] = state.scale.get(name, 1.0) * measured / expected


def _estimated(network: fx.GraphModule, inputs: SolverInputs) -> dict[str, float]:
    """Expected cost of a network as it is, in the quantities that are limited."""
    target = inputs.loop.target
    cost = chain_cost(inputs.estimator, live_spec(network).layers, target.layout, target)
    offset = inputs.estimator.latency_offset_cycles
    expected = {name: getattr(cost, name) for name in _scales(_State(), inputs.loop.budget)}
    if "latency_cycles" in expected:
        expected["latency_cycles"] -= offset
    return _whole_cycles(expected, inputs)


def _whole_cycles(expected: dict[str, float], inputs: SolverInputs) -> dict[str, float]:
    """With the latency as a report states it: whole cycles, and those of no layer."""
    if "latency_cycles" not in expected:
        return expected
    cycles = math.ceil(expected["latency_cycles"] - 1e-9) + inputs.estimator.latency_offset_cycles
    return {**expected, "latency_cycles": cycles}


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


def learned_scale(trials: Sequence[PruneTrial], known: Mapping[str, float]) -> dict[str, float]:
    """Measured / expected cost by resource after ``trials``, as the loop that measured them has learned it."""
    state = _State(scale=dict(known))
    for trial in trials:
        _learn(state, trial)
    return state.scale
