"""Steps of a pruning loop: networks trained side by side for several aims, then measured, here or somewhere else.

A step is saved before anything of it is measured. A run that is killed during a synthesis, or that stops because its
reports are made on another machine, goes on with the measurement and trains nothing again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import fx

from trigger_prune.errors import (
    AwaitingReportsError,
    BudgetError,
    CostError,
    ReportFormatError,
    ToolError,
    TriggerPruneError,
    WrongReportError,
)
from trigger_prune.prune.measured import LoopInputs, PruneResult, choose, measure, worst_excess
from trigger_prune.prune.rounds import Candidate, Rounds
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.quantize.state import load_network_state, network_state
from trigger_prune.quantize.weights_only import weight_counts
from trigger_prune.target import Budget

TIGHTER = 0.93
"""Factor on the aim after a step that could not be measured: the same design would fail again."""

FAILURES = 3
"""Steps in a row without a measured cost that end a loop."""

_BLIND, _CORRECTED = 0.1, 0.03
"""Distance of the aims of a step's candidates, before the first report and afterwards."""


@dataclass(frozen=True)
class Listeners:
    """Who is told of a step's results: ``saved`` after every change, then the others."""

    saved: Callable[[], None]
    on_trial: Callable[[PruneTrial], None] | None = None
    on_failure: Callable[[FailedTrial], None] | None = None


def aim_factors(candidates: int, rounds: Rounds) -> tuple[float, ...]:
    """Factors on a step's aim, one per candidate: 1, then below and above in turn; wide while no report is known."""
    distance = _CORRECTED if rounds.trials else _BLIND
    signs = (1 if index % 2 == 0 else -1 for index in range(candidates))
    return tuple(1.0 + sign * distance * ((index + 1) // 2) for index, sign in enumerate(signs))


def decisive_trials(rounds: Rounds, budget: Budget) -> list[PruneTrial]:
    """One trial per step: within the budget the nearest to it, else the nearest above; none for a failed step."""
    found = []
    for step in rounds.steps:
        trials = [trial for trial in rounds.trials if trial.round in step]
        within = [trial for trial in trials if trial.meets_budget]
        if within:
            found.append(max(within, key=lambda trial: worst_excess(trial, budget)))
        elif trials:
            found.append(min(trials, key=lambda trial: worst_excess(trial, budget)))
    return found


def failed_steps(rounds: Rounds) -> int:
    """Steps of which nothing was measured."""
    return sum(_has_failed(rounds, step) for step in rounds.steps)


def failed_in_a_row(rounds: Rounds) -> int:
    """Steps since the last one of which something was measured."""
    count = 0
    for step in reversed(rounds.steps):
        if not _has_failed(rounds, step):
            break
        count += 1
    return count


def _has_failed(rounds: Rounds, step: tuple[int, ...]) -> bool:
    return {failure.round for failure in rounds.failures} >= set(step)


def require_tool(inputs: LoopInputs) -> None:
    """Raise ToolError when the tool that would measure is not installed: before hours of training, not after."""
    model = getattr(inputs.cost_model, "model", inputs.cost_model)
    identity = getattr(model, "identity", None)
    if identity is not None:
        identity()


def measure_pending(
    network: fx.GraphModule, rounds: Rounds, inputs: LoopInputs, listeners: Listeners
) -> TriggerPruneError | None:
    """Measure what the last step has trained; ``network`` is used for it. Gives the last error if nothing was measured.

    A tool or a report that fails is kept as a failure. Raises AwaitingReportsError, after everything else of the step
    was measured, naming all designs whose reports are made elsewhere; and whatever else measuring raises.
    """
    waiting: list[AwaitingReportsError] = []
    wrong: WrongReportError | None = None
    last_error: TriggerPruneError | None = None
    for candidate in tuple(rounds.pending):
        load_network_state(network, candidate.network)
        target = replace(inputs.target, layers=candidate.layouts)
        try:
            trial = measure(network, inputs, candidate.phase, candidate.round, target)
        except AwaitingReportsError as error:
            waiting.append(error)
            continue
        except WrongReportError as error:
            # the designs after it are written all the same: a stop costs a day
            wrong = wrong or error
            continue
        except (ToolError, ReportFormatError, CostError) as error:
            last_error = error
            nonzeros = sum(layer.nonzeros for layer in weight_counts(network).values())
            failure = FailedTrial(candidate.round, candidate.phase, nonzeros, str(error))
            rounds.failed(candidate, failure)
            listeners.saved()
            if listeners.on_failure is not None:
                listeners.on_failure(failure)
            continue
        trial = replace(trial, predicted=candidate.predicted)
        rounds.measured(candidate, trial)
        listeners.saved()
        if listeners.on_trial is not None:
            listeners.on_trial(trial)
    if wrong is not None:
        raise wrong
    if waiting:
        raise join_waiting(waiting)
    return last_error if failed_in_a_row(rounds) else None


def join_waiting(errors: list[AwaitingReportsError]) -> AwaitingReportsError:
    """One error for all designs that wait."""
    folders = tuple(dict.fromkeys(folder for error in errors for folder in error.folders))
    listed = "".join(f"\n  {folder}" for folder in folders)
    what = "a design waits" if len(folders) == 1 else f"{len(folders)} designs wait"
    return AwaitingReportsError(f"{what} for synthesis:{listed}", folders, hint=errors[0].hint)


@dataclass(frozen=True)
class NextStep:
    """``train`` makes the candidates of a step from the network as it is, or from the unpruned one (``afresh``)."""

    afresh: bool
    train: Callable[[], list[Candidate]]


def run_steps(
    network: fx.GraphModule,
    rounds: Rounds,
    inputs: LoopInputs,
    listeners: Listeners,
    next_step: Callable[[list[PruneTrial]], NextStep | None],
) -> PruneResult:
    """Train, measure and decide again until ``next_step`` says None; what was trained is saved before it is measured.

    network     unpruned at the start; holds the network of the last decisive trial whenever ``next_step`` is asked
    next_step   gets the decisive trials so far
    Raises what measuring raises for the third time in a row while no network within the budget is known (later that is
    a warning), BudgetError when no network could be measured or none is within the budget.
    """
    unpruned = network_state(network)
    while True:
        if not rounds.pending:
            measured = decisive_trials(rounds, inputs.budget)
            load_network_state(network, rounds.network_of(measured[-1]) if measured else unpruned)
            step = next_step(measured)
            if step is None:
                break
            require_tool(inputs)
            if step.afresh:
                load_network_state(network, unpruned)
            rounds.begin(step.train())
            listeners.saved()
        error = measure_pending(network, rounds, inputs, listeners)
        if error is not None and failed_in_a_row(rounds) >= FAILURES:
            # No logic is left (the training collapsed, say): a network that fits was found before, and it stands.
            if not any(trial.meets_budget for trial in rounds.trials):
                raise error
            last = rounds.failures[-1]
            warnings.warn(
                f"round {last.round} ({last.phase}) cannot be measured and is left out: {error}", stacklevel=3
            )
            break
    if not rounds.trials:
        raise BudgetError(
            f"none of {len(rounds.failures)} networks could be measured; the last error: {rounds.failures[-1].error}"
        )
    return choose(network, rounds, inputs.budget)
