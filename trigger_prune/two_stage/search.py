"""Design search: light model x escalated fraction x full model at its reuse factor and clock x FIFO depth.

Thresholds and efficiencies are those of validation; ``working_point.quote`` gives the chosen designs on test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trigger_prune.cost.report import RESOURCES, HardwareReport
from trigger_prune.errors import DataError
from trigger_prune.target import Budget
from trigger_prune.two_stage.decision import ACCEPT_SHARES, Decision, Split, solve_split, split_by_light
from trigger_prune.two_stage.latency import FixedLatency, fixed_latency
from trigger_prune.two_stage.options import (
    BufferCost,
    EveryObject,
    FullOption,
    LightOption,
    judging_every_object,
    together,
    used,
)
from trigger_prune.two_stage.pareto import pareto_front
from trigger_prune.two_stage.queue import QueueResult, least_overflow, solve_queue
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine


@dataclass(frozen=True)
class SearchSpace:
    """``escalated``: objects per row of background that go to the full model, at most. Lights and full models meet
    where their clocks are the same."""

    lights: tuple[LightOption, ...]
    fulls: tuple[FullOption, ...]
    escalated: tuple[float, ...]
    fifo_depths: tuple[int, ...]
    accept_shares: tuple[float, ...] = ACCEPT_SHARES


@dataclass(frozen=True)
class Requirements:
    """What a design must reach.

    target_hz            total rate, overflow included (in the unit of the sample's weights)
    signal_name          whose efficiency counts
    latency_budget_ns    for the decision, aligned to whole crossings
    control_cycles       comparators, FIFO and output registers
    objects_per_crossing most objects in a crossing, all of which the light model judges
    max_overflow         largest loss per escalated object
    resource             what is to be small, besides the latency
    budget               limits of the resources; its latency and interval limits are not looked at
    """

    target_hz: float
    signal_name: str
    latency_budget_ns: float
    control_cycles: int
    objects_per_crossing: int = 1
    max_overflow: float = 1e-3
    resource: str = "dsp"
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, eq=False)
class TwoStageDesign:
    """One point of the search.

    escalated      what was asked for; ``queue.objects_per_crossing`` is what is escalated per filled crossing
    light          all copies of the light model
    cost           light and full model, of one stage (an estimate of it where one of them is, see ``together``)
    buffer         FIFO and control, of a stage of its own; None when its cost was not asked for
    resource_used  the sum of both
    decision       None (as the queue) where latency, resources or the load forbid the design anyway, or the queue
                   never settles
    problems       why it is no solution; empty for a solution
    """

    light_name: str
    full_name: str
    escalated: float
    engine: Engine
    light: EveryObject
    latency: FixedLatency
    cost: HardwareReport
    buffer: HardwareReport | None
    resource_used: int
    queue: QueueResult | None
    decision: Decision | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class SearchResult:
    """All designs; ``front`` are the positions of solutions that no other beats in resource, latency and efficiency,
    the smallest first."""

    designs: tuple[TwoStageDesign, ...]
    front: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Solved:
    """What searches that differ in their latency budget alone need not solve twice."""

    splits: dict[tuple[str, float], Split] = field(default_factory=dict)
    queues: dict[tuple[Arrivals, Engine], QueueResult] = field(default_factory=dict)
    decisions: dict[tuple[str, float, Engine], Decision] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SingleStage:
    """The full model on every object: no queue, no loss of physics. ``problems`` as for two stages."""

    full_name: str
    reuse_factor: int
    every: EveryObject
    latency: FixedLatency
    resource_used: int
    problems: tuple[str, ...]


def search(
    space: SearchSpace,
    requirements: Requirements,
    beam: BeamStructure,
    buffer_cost: BufferCost | None = None,
    solved: Solved | None = None,
) -> SearchResult:
    """Every combination, in the order lights, full models, escalated, depths.

    The share that the light model accepts at once is chosen per light model and escalated fraction, for a queue
    without losses; t_full and t_overflow then for the losses of each design. ``solved`` is of an earlier search with
    another latency budget or buffer cost, and is added to. Raises StageMismatchError when a light and a full model were
    not measured alike, CostError when the resource is not stated, DataError when there is nothing to combine.
    """
    solved = solved or Solved()
    splits, queues, decisions = solved.splits, solved.queues, solved.decisions
    designs = []
    for light in space.lights:
        every = judging_every_object(light.cost, light.clock_multiple, requirements.objects_per_crossing)
        for full in space.fulls:
            if full.clock_multiple != light.clock_multiple:
                continue
            for escalated in space.escalated:
                for depth in space.fifo_depths:
                    engine = full.engine(depth)
                    bare = _bare(light, full, every, escalated, engine, requirements, buffer_cost)
                    if bare.problems:
                        designs.append(bare)
                        continue
                    if (light.name, escalated) not in splits:
                        splits[light.name, escalated] = _best_split(light.validation, escalated, space, requirements)
                    split = splits[light.name, escalated]
                    unavoidable = least_overflow(beam, split.arrivals, engine)
                    if unavoidable > requirements.max_overflow:
                        designs.append(
                            replace(bare, problems=(_too_much(f"at least {unavoidable:.2g}", requirements),))
                        )
                        continue
                    if (split.arrivals, engine) not in queues:
                        try:
                            queues[split.arrivals, engine] = solve_queue(beam, split.arrivals, engine)
                        except DataError as error:
                            designs.append(replace(bare, problems=(error.message,)))
                            continue
                    queue, key = queues[split.arrivals, engine], (light.name, escalated, engine)
                    if key not in decisions:
                        rooms = light.validation.rooms(queue)
                        decisions[key] = solve_split(split, rooms, requirements.target_hz)
                    designs.append(_judged(bare, queue, decisions[key], requirements))
    if not designs:
        raise DataError("there is nothing to combine", hint="lights and full models need a common clock multiple")
    return SearchResult(tuple(designs), _front(designs))


def single_stages(fulls: Sequence[FullOption], requirements: Requirements) -> tuple[SingleStage, ...]:
    """The full model alone at every reuse factor, in as many copies as judge every object: what two stages must beat.

    Where one object comes per crossing, a reuse factor up to the cycles per crossing needs one copy.
    """
    found = []
    for full in fulls:
        every = judging_every_object(full.cost, full.clock_multiple, requirements.objects_per_crossing)
        latency = FixedLatency(0, 0, every.latency_cycles, requirements.control_cycles, full.clock_multiple)
        problems = _problems(latency, (every.cost,), requirements)
        amount = used(requirements.resource, every.cost)
        found.append(SingleStage(full.name, full.reuse_factor, every, latency, amount, problems))
    return tuple(found)


def _bare(
    light: LightOption,
    full: FullOption,
    every: EveryObject,
    escalated: float,
    engine: Engine,
    requirements: Requirements,
    buffer_cost: BufferCost | None,
) -> TwoStageDesign:
    """Hardware and latency of a design, before its queue is solved."""
    latency = fixed_latency(
        engine, every.latency_cycles, int(full.cost.latency_cycles or 0), requirements.control_cycles
    )
    cost = together(every.cost, full.cost)
    buffer = None if buffer_cost is None else buffer_cost(engine)
    costs = (cost,) if buffer is None else (cost, buffer)
    return TwoStageDesign(
        light_name=light.name,
        full_name=full.name,
        escalated=escalated,
        engine=engine,
        light=every,
        latency=latency,
        cost=cost,
        buffer=buffer,
        resource_used=used(requirements.resource, *costs),
        queue=None,
        decision=None,
        problems=_problems(latency, costs, requirements),
    )


def _problems(latency: FixedLatency, costs: tuple[HardwareReport, ...], requirements: Requirements) -> tuple[str, ...]:
    found = []
    if latency.margin_ns(requirements.latency_budget_ns) < -1e-9:
        found.append(f"latency of {latency.output_ns:.0f} ns, allowed {requirements.latency_budget_ns:.0f} ns")
    for name in RESOURCES:
        limit = getattr(requirements.budget, name)
        if limit is not None and used(name, *costs) > limit:
            found.append(f"{used(name, *costs)} {name.upper()}, allowed {limit}")
    return tuple(found)


def _best_split(sample: TwoStageSample, escalated: float, space: SearchSpace, requirements: Requirements) -> Split:
    """The accepted share that is best when nothing is lost."""
    lossless = np.append(np.zeros(17), 1.0)
    found = []
    for share in space.accept_shares:
        split = split_by_light(sample, escalated, share, requirements.target_hz, requirements.signal_name)
        if share == 0 or np.isfinite(split.t_accept):
            found.append((solve_split(split, lossless, requirements.target_hz).efficiency, split))
    if not found:
        raise DataError(f"no light score accepts one of the shares {space.accept_shares} at once", hint="add share 0")
    return max(found, key=lambda pair: pair[0])[1]


def _judged(bare: TwoStageDesign, queue: QueueResult, decision: Decision, requirements: Requirements) -> TwoStageDesign:
    problems: tuple[str, ...] = ()
    if queue.overflow_per_object > requirements.max_overflow:
        problems = (_too_much(f"{queue.overflow_per_object:.2g}", requirements),)
    return replace(bare, queue=queue, decision=decision, problems=problems)


def _too_much(loss: str, requirements: Requirements) -> str:
    return f"loses {loss} of the objects, allowed {requirements.max_overflow:g}"


def _front(designs: Sequence[TwoStageDesign]) -> tuple[int, ...]:
    solutions = [i for i, design in enumerate(designs) if not design.problems]
    if not solutions:
        return ()
    costs = np.array(
        [
            (
                design.resource_used,
                design.latency.output_bx,
                -design.decision.efficiency if design.decision else 0.0,
            )
            for design in (designs[i] for i in solutions)
        ],
        np.float64,
    )
    chosen = np.flatnonzero(pareto_front(costs))
    return tuple(solutions[i] for i in chosen[np.lexsort(costs[chosen].T[::-1])])
