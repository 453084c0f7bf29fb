"""Bits per layer without training: candidates judged on real events, an exact knapsack, and measured networks.

What layers lose does not add up: two layers with few bits lose more together than the sum of what each loses alone. So
the limits fall in small steps from the widest network to the wanted one; at every step the candidates are judged anew
around the network of the step before, the exact solver chooses within the limits, and the network that comes out is
built, judged and costed. Every step states the loss that was predicted and the loss that came out, and expected costs
are corrected by what the built network costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import fx

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import BudgetError, ConfigError
from trigger_prune.precision.candidates import CandidateTable, judge_candidates
from trigger_prune.precision.menus import LayerCosts, build_problem, choice_of
from trigger_prune.precision.space import Choice, PrecisionSpace, Setting
from trigger_prune.prune.budget.estimators import LayerEstimator
from trigger_prune.prune.budget.options import Problem
from trigger_prune.prune.budget.plan import InfeasibleBudgetError, Plan, limits_of
from trigger_prune.prune.budget.ramp import with_limits
from trigger_prune.prune.budget.solve import solve
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective

_FAILURES = 3
"""Networks in a row whose objective falls too far before the ramp of a tolerance ends."""

_EXACT_GAP = 1e-6


@dataclass(frozen=True)
class SearchInputs:
    """Everything but the limits.

    judged      validation events for the loss of candidates, with the weights that the loss counts with
    evaluated   validation events for the loss, accuracy and objective of built networks
    estimator   costs of single layers for the solver
    estimate    cost of a whole network by formula
    step        a step of the ramp lowers the limits by this fraction
    rounds      candidates are judged anew so many times at the final limits
    """

    space: PrecisionSpace
    judged: Batches
    evaluated: Batches
    task: Task
    objective: Objective
    target: Target
    estimator: LayerEstimator
    estimate: Callable[[NetworkSpec, Target], HardwareReport]
    step: float = 0.15
    rounds: int = 4


@dataclass(frozen=True)
class PrecisionPoint:
    """One network: its bits, what was expected of it and what came out.

    phase            ``start``, ``ramp``, ``final`` or ``uniform``
    predicted_loss   of the candidates' events: loss of the network before plus the sum of increases; None where nothing
                     was predicted
    candidate_loss   the loss on the same events that came out
    loss, accuracy, merit   on all evaluated events
    cost             expected by formula for the whole network
    """

    phase: str
    choice: Choice
    predicted_loss: float | None
    candidate_loss: float
    loss: float
    accuracy: float | None
    merit: float
    cost: HardwareReport

    def uses(self, name: str) -> float:
        """Use of a resource; 0 where the formula does not state it."""
        return float(getattr(self.cost, name) or 0.0)

    def within(self, limits: Budget) -> bool:
        """Whether every limit holds."""
        return all(self.uses(name) <= limit for name, limit in limits_of(limits).items())


@dataclass(frozen=True)
class PrecisionSearch:
    """Every network on the way, the one that was chosen, the candidates around the widest and around the chosen one."""

    points: tuple[PrecisionPoint, ...]
    chosen: PrecisionPoint
    network: fx.GraphModule
    candidates: CandidateTable


Note = Callable[[PrecisionPoint], None]


def search_within(
    inputs: SearchInputs, limits: Budget, on_point: Note | None = None, scale: Mapping[str, float] | None = None
) -> PrecisionSearch:
    """The network with the smallest loss within ``limits`` of the expected cost.

    scale   measured / expected by resource, of networks that were measured: limits hold for the measured cost then
    Raises InfeasibleBudgetError naming the binding limit, or BudgetError when no built network meets the limits;
    ConfigError without any limit.
    """
    wanted = limits_of(limits)
    if not wanted:
        raise ConfigError("there is no budget to search within", hint="limit LUTs, or state a tolerance")
    limits = _divided(limits, scale or {})
    wanted = limits_of(limits)
    walk = _Walk(inputs, on_point)
    ratio = max(walk.points[-1].uses(name) / max(limit, 1e-9) for name, limit in wanted.items())
    steps = max(0, math.ceil(math.log(max(ratio, 1.0)) / -math.log1p(-inputs.step)) - 1)
    for k in range(steps, 0, -1):
        loosened = {name: limit / (1 - inputs.step) ** k for name, limit in wanted.items() if name != "ii"}
        try:
            walk.go(with_limits(limits, {**wanted, **loosened}), "ramp")
        except InfeasibleBudgetError:
            break  # the final limits decide what is said
    for _ in range(inputs.rounds):
        try:
            if not walk.go(limits, "final"):
                break
        except InfeasibleBudgetError as error:
            # what is expected may be wrong by the little that is missing: the built network decides
            if not any(point.within(limits) for point in walk.points):
                walk.go(with_limits(limits, error.nearest), "final")
            if not any(point.within(limits) for point in walk.points):
                raise
            break
    inside = [point for point in walk.points if point.within(limits)]
    if not inside:
        nearest = min(walk.points, key=lambda p: max(p.uses(n) / max(v, 1e-9) for n, v in wanted.items()))
        found = ", ".join(f"{name} {nearest.uses(name):g} (limit {limit:g})" for name, limit in wanted.items())
        raise BudgetError(f"no network within the limits was found; nearest: {found}", hint="offer fewer bits")
    return walk.result(min(inside, key=lambda point: (point.loss, point.uses("lut"))))


def search_tolerance(
    inputs: SearchInputs, tolerance: float, reference: float, resource: str = "lut", on_point: Note | None = None
) -> PrecisionSearch:
    """The network with the smallest expected use of ``resource`` whose merit on the evaluated events is no more than
    ``tolerance`` below ``reference`` (that of the float network).

    Raises BudgetError when even the widest bits lose more.
    """
    walk = _Walk(inputs, on_point)

    def good(point: PrecisionPoint) -> bool:
        return point.merit >= reference - tolerance

    failures = 0
    limit = walk.points[-1].uses(resource)
    while failures < _FAILURES:
        limit *= 1 - inputs.step
        try:
            walk.go(Budget(**{resource: math.floor(limit)}), "ramp")
        except InfeasibleBudgetError:
            break
        failures = 0 if good(walk.points[-1]) else failures + 1
    for _ in range(inputs.rounds):
        best = _cheapest(walk.points, good, resource)
        if best is None:
            break
        walk.centre(best)
        try:
            walk.go(Budget(**{resource: math.floor(best.uses(resource) * (1 - inputs.step / 3))}), "final")
        except InfeasibleBudgetError:
            break
        if not good(walk.points[-1]):
            break
    best = _cheapest(walk.points, good, resource)
    if best is None:
        top = max(point.merit for point in walk.points)
        raise BudgetError(
            f"the objective falls by {reference - top:.4g} already with the most bits, more than the tolerance "
            f"{tolerance:g}",
            hint="offer more bits (precision.weight_bits, precision.activation_bits), or allow more",
        )
    return walk.result(best)


def uniform_points(inputs: SearchInputs) -> tuple[PrecisionPoint, ...]:
    """Networks with the same weight bits in all layers and the same activation bits on all wires, for comparison."""
    space, found = inputs.space, []
    for weights in space.weight_bits:
        for wires in space.activation_bits:
            choice = {}
            for unit in space.units:
                fit = space.settings(unit)
                choice[unit.name] = min(
                    fit,
                    key=lambda s: (
                        abs((s.weight_bits or weights) - weights),
                        abs((s.activation_bits or wires) - wires),
                    ),
                )
            found.append(_measure(inputs, choice, "uniform", None, None)[0])
    return tuple(found)


def _cheapest(
    points: list[PrecisionPoint], good: Callable[[PrecisionPoint], bool], resource: str
) -> PrecisionPoint | None:
    return min((point for point in points if good(point)), key=lambda p: (p.uses(resource), -p.merit), default=None)


@dataclass
class _Walk:
    """The networks so far and the candidates around the present one."""

    inputs: SearchInputs
    on_point: Note | None
    points: list[PrecisionPoint] = field(default_factory=list)
    scale: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        space = self.inputs.space
        self.costs = LayerCosts(space, self.inputs.estimator, self.inputs.target)
        start = space.widest()
        network = space.build(start)
        self.table = self.first = self._judge(start, network)
        self._add(_measure(self.inputs, start, "start", None, self.table.loss, network)[0])

    def go(self, limits: Budget, phase: str) -> bool:
        """One step: solve, build, measure, judge around the new network. False when it is the one before."""
        plan = self._solve(limits)
        choice = choice_of(plan.options)
        if dict(choice) == dict(self.table.choice):
            return False
        predicted = self.table.loss + plan.loss_increase
        network = self.inputs.space.build(choice)
        table = self._judge(choice, network)
        point, _ = _measure(self.inputs, choice, phase, predicted, table.loss, network)
        expected = vars(plan.cost)
        for name in limits_of(limits):
            if name not in ("ii", "latency_cycles") and expected[name] > 0 and point.uses(name) > 0:
                self.scale[name] = point.uses(name) / (expected[name] / self.scale.get(name, 1.0))
        self.table = table
        self._add(point)
        return True

    def centre(self, point: PrecisionPoint) -> None:
        """Judge the next candidates around another network than the last one."""
        if dict(point.choice) != dict(self.table.choice):
            self.table = self._judge(point.choice, self.inputs.space.build(point.choice))

    def result(self, chosen: PrecisionPoint) -> PrecisionSearch:
        """The end of the walk."""
        return PrecisionSearch(tuple(self.points), chosen, self.inputs.space.build(chosen.choice), self.first)

    def _judge(self, choice: Choice, network: fx.GraphModule) -> CandidateTable:
        return judge_candidates(self.inputs.space, choice, self.inputs.judged, self.inputs.task, None, network)

    def _solve(self, limits: Budget) -> Plan:
        problem: Problem = build_problem(self.inputs.space, self.table, self.costs, self.scale)
        if limits.latency_cycles is not None:
            offset = self.inputs.estimator.latency_offset_cycles
            limits = replace(limits, latency_cycles=max(0, int(limits.latency_cycles - offset)))
        return solve(problem, limits, relative_gap=_EXACT_GAP)

    def _add(self, point: PrecisionPoint) -> None:
        self.points.append(point)
        if self.on_point is not None:
            self.on_point(point)


def _measure(
    inputs: SearchInputs,
    choice: Choice,
    phase: str,
    predicted: float | None,
    candidate_loss: float | None,
    network: fx.GraphModule | None = None,
) -> tuple[PrecisionPoint, fx.GraphModule]:
    network = inputs.space.build(choice) if network is None else network
    found = evaluate(network, inputs.evaluated, inputs.task, inputs.objective)
    if candidate_loss is None:
        candidate_loss = evaluate(network, inputs.judged, inputs.task).loss
    cost = inputs.estimate(describe_network(network), inputs.target)
    frozen: dict[str, Setting] = dict(choice)
    return (
        PrecisionPoint(phase, frozen, predicted, candidate_loss, found.loss, found.accuracy, found.merit, cost),
        network,
    )


def _divided(limits: Budget, scale: Mapping[str, float]) -> Budget:
    """Limits of the expected cost that hold for the measured one."""
    values = {name: limit / scale[name] if name in scale else limit for name, limit in limits_of(limits).items()}
    timed = ("latency_p99_us", "event_time_us")
    return replace(limits, **{name: value if name in timed else math.floor(value) for name, value in values.items()})  # type: ignore[arg-type]
