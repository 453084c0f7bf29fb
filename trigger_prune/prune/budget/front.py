"""Many budgets in one go: the best measured network for each, sharing training, trials and corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor, fx

from trigger_prune.config.refine_section import RefineConfig
from trigger_prune.errors import AwaitingReportsError, BudgetError
from trigger_prune.prune.budget.loop import SolverInputs, learned_scale, solve_to_budget
from trigger_prune.prune.loop import FAR_BELOW
from trigger_prune.prune.measured import OnEpoch, fill
from trigger_prune.prune.refine.to_budget import pruning_budget, refine_behind
from trigger_prune.prune.steps import join_waiting
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.target import Budget


@dataclass(frozen=True)
class FrontTrial:
    """A measured network: its trial, numbered over all budgets, and its ``network_state``."""

    trial: PruneTrial
    state: dict[str, Tensor]


@dataclass(frozen=True)
class FrontPoint:
    """One budget and the trial with the best merit within it (position in the trials), or why there is none."""

    budget: Budget
    trial: int | None
    error: str | None


@dataclass(frozen=True)
class Front:
    """Points in the order of the budgets asked for, every trial on the way, and a network to load their states into."""

    points: tuple[FrontPoint, ...]
    trials: tuple[FrontTrial, ...]
    network: fx.GraphModule


def budget_front(
    network: fx.GraphModule,
    inputs: SolverInputs,
    budgets: Sequence[Budget],
    *,
    refine: RefineConfig | None = None,
    scratch: Path | None = None,
    on_epoch: OnEpoch = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
    on_budget: Callable[[Budget], None] | None = None,
) -> Front:
    """The best measured network for every budget; ``network`` is left as it was.

    Wide budgets come first. What their reports teach holds for the next ones, so only the first budget needs a search
    round; a budget that a network trained for a wider one meets without leaving much of it unused trains nothing, and
    none that the best network for a wider one meets. Behind the solver's loop of a budget comes the refinement that
    ``refine`` asks for.
    scratch   folder for resuming: one folder per budget; a refinement that was stopped begins again
    A budget that cannot be met gets the error's text, the others go on.
    Raises AwaitingReportsError, for all budgets together, while designs wait for reports from another machine.
    """
    pool: list[FrontTrial] = []
    errors: dict[Budget, str] = {}
    waiting: list[AwaitingReportsError] = []
    known = dict(inputs.known)
    refining = refine or RefineConfig()
    carrier = network
    done: list[Budget] = []
    for budget in sorted(set(budgets), key=_width, reverse=True):
        if on_budget is not None:
            on_budget(budget)
        if _served(pool, budget, done):
            continue
        loop = replace(inputs.loop, budget=pruning_budget(budget, refining))
        folder = None if scratch is None else scratch / _name(loop.budget)
        report = None if on_trial is None else partial(_report, on_trial, budget)
        result = None
        try:
            solver = replace(inputs, loop=loop, known=known)
            result = solve_to_budget(network, solver, scratch=folder, on_epoch=on_epoch, on_trial=report)
            known = learned_scale(result.trials, known)
            result = refine_behind(result, replace(loop, budget=budget), refining, on_trial=report)
            done.append(budget)
        except BudgetError as error:
            errors[budget] = str(error)
        except AwaitingReportsError as error:
            waiting.append(error)
        if result is None:
            continue
        carrier = result.network
        for trial, state in zip(result.trials, result.networks, strict=True):
            meets = trial.cost.meets(budget)
            pool.append(FrontTrial(replace(trial, round=len(pool) + 1, chosen=False, meets_budget=meets), state))
    if waiting:
        raise join_waiting(waiting)
    points = []
    for budget in budgets:
        best = _best(pool, budget)
        points.append(FrontPoint(budget, best, None if best is not None else errors.get(budget, "not reached")))
    chosen = {point.trial for point in points}
    trials = tuple(
        replace(entry, trial=replace(entry.trial, chosen=number in chosen)) for number, entry in enumerate(pool)
    )
    return Front(tuple(points), trials, carrier)


def _report(on_trial: Callable[[PruneTrial], None], budget: Budget, trial: PruneTrial) -> None:
    """A trial whose loop may have had a wider budget."""
    on_trial(replace(trial, meets_budget=trial.cost.meets(budget)))


def _width(budget: Budget) -> tuple[float, ...]:
    """Order by area, then by time: what is not limited is widest."""
    names = ("lut", "ff", "dsp", "bram18", "uram", "latency_cycles", "ii", "latency_p99_us", "event_time_us")
    limits = [getattr(budget, name) for name in names]
    return tuple(float("inf") if limit is None else float(limit) for limit in limits)


def _name(budget: Budget) -> str:
    return "_".join(f"{name}{limit:g}" for name, limit in vars(budget).items() if limit is not None) or "unlimited"


def _best(pool: Sequence[FrontTrial], budget: Budget) -> int | None:
    within = [number for number, entry in enumerate(pool) if entry.trial.cost.meets(budget)]
    return max(within, key=lambda number: pool[number].trial.validation_merit, default=None)


def _served(pool: Sequence[FrontTrial], budget: Budget, done: Sequence[Budget]) -> bool:
    """Whether a network trained for a wider budget is within this one and uses it up, or was not pruned at all, or is
    the best one for a wider budget: what this one limits more does not bind."""
    best = _best(pool, budget)
    if best is None:
        return False
    trial = pool[best].trial
    if trial.phase == "dense" or fill(trial.cost, budget) >= FAR_BELOW:
        return True
    return any(_holds(wider, budget) and _best(pool, wider) == best for wider in done)


def _holds(wider: Budget, budget: Budget) -> bool:
    """Whether every limit of ``wider`` is at least that of ``budget``."""
    return all(a >= b for a, b in zip(_width(wider), _width(budget), strict=True))
