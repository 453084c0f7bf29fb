"""The validation side of a two-stage study: loss curves, all designs, their front, and the one that is chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from trigger_prune.errors import DataError
from trigger_prune.two_stage.compare import two_stage_ladder
from trigger_prune.two_stage.decision import solve_split, split_by_light
from trigger_prune.two_stage.findings import LossCurve
from trigger_prune.two_stage.pareto import pareto_front
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.search import Requirements, SearchSpace, Solved, TwoStageDesign, search
from trigger_prune.two_stage.study_inputs import LightCandidate, StudyInputs, light_of
from trigger_prune.two_stage.table import TableInputs, threshold_alone
from trigger_prune.two_stage.working_point import escalated_fraction, scaled_arrivals

LOSSLESS = np.append(np.zeros(17), 1.0)
"""Room for every object: a FIFO that never overflows."""

HOPELESS = 3.0
"""Designs with more than this many times the allowed loss at their own thresholds are not compared in full."""


def loss_curve(light: LightCandidate, inputs: StudyInputs, warn: Callable[[str], None]) -> LossCurve:
    """Losses without overflow; shares that the light score cannot tell apart are left out, and said."""
    needs, sample = inputs.requirements, light.validation
    reference = _efficiency_alone(sample, needs)
    escalated, losses = [], []
    for share in inputs.escalated:
        try:
            splits = [
                split_by_light(sample, share, accepted, needs.target_hz, needs.signal_name)
                for accepted in inputs.accept_shares
            ]
        except DataError as error:
            warn(f"{light.name}, {100 * share:g} % escalated: {error.message}")
            continue
        usable = [split for split in splits if split.accept_share == 0 or np.isfinite(split.t_accept)]
        best = max(solve_split(split, LOSSLESS, needs.target_hz).efficiency for split in usable)
        escalated.append(share)
        losses.append(1 - best / reference)
    return LossCurve(light.name, tuple(escalated), tuple(losses))


def _efficiency_alone(sample: TwoStageSample, needs: Requirements) -> float:
    """Of the full score at the comparator's threshold, as the two-stage efficiencies of the search are."""
    threshold = threshold_alone(sample, sample.full, needs.target_hz)
    signal = sample.signal == sample.process(needs.signal_name)
    weights = sample.weights[signal]
    efficiency = float(weights @ (sample.best(sample.full)[signal] >= threshold) / weights.sum())
    if not efficiency > 0:
        raise DataError(
            f"no {needs.signal_name} of validation passes the full model alone at the target rate",
            hint="raise physics.rate_khz (physics.false_positive_rate), or train the full model longer",
        )
    return efficiency


def search_all(
    inputs: StudyInputs, curves: Sequence[LossCurve], solved: Solved, note: Callable[[str], None]
) -> tuple[TwoStageDesign, ...]:
    """All designs, light model by light model. ``solved`` as in ``search``."""
    found: list[TwoStageDesign] = []
    start = time.monotonic()
    for light, curve in zip(inputs.lights, curves, strict=True):
        if not curve.escalated:
            continue
        space = SearchSpace(light.options, inputs.fulls, curve.escalated, inputs.fifo_depths, inputs.accept_shares)
        designs = search(space, inputs.requirements, inputs.beam, inputs.buffer_cost, solved).designs
        solutions = sum(not design.problems for design in designs)
        note(f"{light.name}: {len(designs)} designs, {solutions} of them solutions")
        found += designs
    note(f"{len(found)} designs in {time.monotonic() - start:.1f} s")
    return tuple(found)


def front_of(designs: Sequence[TwoStageDesign]) -> tuple[int, ...]:
    """Solutions that no other beats in resource, latency and efficiency, the smallest first."""
    solutions = [i for i, design in enumerate(designs) if not design.problems and design.decision is not None]
    if not solutions:
        return ()
    costs = np.array(
        [(designs[i].resource_used, designs[i].latency.output_bx, -_efficiency(designs[i])) for i in solutions],
        np.float64,
    )
    kept = np.flatnonzero(pareto_front(costs))
    return tuple(solutions[i] for i in kept[np.lexsort(costs[kept].T[::-1])])


def _efficiency(design: TwoStageDesign) -> float:
    return design.decision.efficiency if design.decision is not None else 0.0


def choose(
    designs: Sequence[TwoStageDesign], front: Sequence[int], inputs: StudyInputs, table: TableInputs
) -> TwoStageDesign | None:
    """The smallest solution whose loss on validation is within the limit at its 90 % upper limit, and whose FIFO is
    deep enough for the upper end of the escalated share's 68 % interval too; else the most efficient one."""
    if not front:
        return None
    needs = inputs.requirements
    reference = _efficiency_alone(table.validation, needs)
    for index in front:
        design = designs[index]
        if 1 - _efficiency(design) / reference > HOPELESS * inputs.max_loss:
            continue
        if _overflow_at_most(design, inputs) > needs.max_overflow:
            continue
        assert design.decision is not None and design.queue is not None
        sample = light_of(design, inputs).validation
        loss = table.loss(two_stage_ladder(sample, design.decision.thresholds, sample.rooms(design.queue)), sample)
        if loss.relative_loss_limit90 <= inputs.max_loss:
            return design
    return designs[max(front, key=lambda index: _efficiency(designs[index]))]


def _overflow_at_most(design: TwoStageDesign, inputs: StudyInputs) -> float:
    """Loss per object at the upper end of the 68 % interval of the escalated share on validation."""
    assert design.decision is not None and design.queue is not None
    sample = light_of(design, inputs).validation
    share = escalated_fraction(sample, design.decision.thresholds)
    arrivals = scaled_arrivals(sample, design.queue, share.value, share.high68)
    try:
        return solve_queue(inputs.beam, arrivals, design.engine).overflow_per_object
    except DataError:  # a queue that never settles: the engine is as good as overloaded
        return 1.0
