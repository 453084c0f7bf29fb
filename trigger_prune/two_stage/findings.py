"""What stage ``two_stage`` finds: the comparison table, the search, the best design and the recommendation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trigger_prune.cost.report import HardwareReport
from trigger_prune.physics.intervals import Estimate
from trigger_prune.physics.rates import RateEstimate
from trigger_prune.two_stage.compare import PairedLoss
from trigger_prune.two_stage.decision import Thresholds
from trigger_prune.two_stage.latency import FixedLatency
from trigger_prune.two_stage.traffic import Engine
from trigger_prune.two_stage.working_point import TwoStageWorkingPoint

RowKind = Literal["full", "pruned", "light", "menu", "two_stage"]
Verdict = Literal["two_stage", "single_stage", "pruned_alone", "light_alone", "none"]


@dataclass(frozen=True)
class ComparedRow:
    """One line of the comparison, everything on test events at thresholds of validation events.

    rate         total rate on test (in the unit of the weights), overflow included
    loss         against the full model alone, both at exactly the target rate; None for the full model itself
    cost         all resources of the design, of one stage; None for a cut-based menu
    buffer       FIFO and control of a two-stage design, of a stage of its own
    latency      fixed latency of the decision; None for a menu
    note         what must be said beside the line; empty where nothing
    """

    kind: RowKind
    name: str
    efficiency: Estimate
    rate: RateEstimate
    loss: PairedLoss | None
    cost: HardwareReport | None
    buffer: HardwareReport | None
    latency: FixedLatency | None
    note: str = ""


@dataclass(frozen=True)
class DesignPoint:
    """A design of the search in short.

    escalated, overflow, efficiency   on validation; None where the design was given up before its queue was solved
    escalated_wanted                  share that was asked for
    resource_used                     of the resource that the search makes small
    problems                          why it is no solution; empty for a solution
    full_stage                        how the full model's cost was obtained; None: not known
    """

    light_name: str
    full_name: str
    reuse_factor: int
    engine: Engine
    escalated_wanted: float
    escalated: float | None
    overflow: float | None
    efficiency: float | None
    resource_used: int
    latency: FixedLatency
    problems: tuple[str, ...]
    full_stage: str | None = None


@dataclass(frozen=True)
class SinglePoint:
    """The full model alone at one reuse factor, judging every object; ``copies`` instances side by side.

    ``full_stage`` as in ``DesignPoint``.
    """

    full_name: str
    reuse_factor: int
    copies: int
    resource_used: int
    latency: FixedLatency
    problems: tuple[str, ...]
    full_stage: str | None = None


@dataclass(frozen=True)
class DesignPart:
    """One line of a design's resources; every line names its stage in ``cost.stage``."""

    name: str
    cost: HardwareReport


@dataclass(frozen=True, eq=False)
class BestDesign:
    """The design that the table quotes.

    point              its place in the search
    thresholds         of the scores; ``integer_thresholds`` in units of the score steps (None: nothing passes)
    parts              light model, full model, FIFO, control
    working_point      figures on test, queue included
    overflow_by_depth  FIFO depth, loss per escalated object, everything else unchanged
    """

    point: DesignPoint
    thresholds: Thresholds
    integer_thresholds: dict[str, int | None]
    parts: tuple[DesignPart, ...]
    working_point: TwoStageWorkingPoint
    overflow_by_depth: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class LossCurve:
    """Relative efficiency loss of one light model against the full model, on validation, without overflow."""

    light_name: str
    escalated: tuple[float, ...]
    relative_loss: tuple[float, ...]


@dataclass(frozen=True)
class Recommendation:
    """What to build, and why, in sentences; ``saving`` is the relative saving of the resource against the best
    single-stage design that meets the same budget (None where there is nothing to compare)."""

    verdict: Verdict
    sentences: tuple[str, ...]
    saving: float | None


@dataclass(frozen=True, eq=False)
class BudgetPoint:
    """What is best at one latency budget, found as if there were no other.

    design   its place in a search at this budget; None when no design is a solution
    row      its line of the comparison
    """

    latency_budget_ns: float
    design: DesignPoint | None
    row: ComparedRow | None
    recommendation: Recommendation


@dataclass(frozen=True, eq=False)
class TwoStageFindings:
    """Everything that is shown.

    target_hz          total rate; a share of the background where ``rate_weights`` is False
    beam               name of the filling scheme; ``filled`` its slots
    rows               full alone, pruned alone, every light model alone, menu, two-stage
    designs, front     all designs of the search; positions of the Pareto front of solutions, smallest resource first
    singles            the full model alone at every reuse factor
    best               None when no design is a solution
    max_overflow       largest loss of the FIFO per escalated object that was allowed; None: not known
    max_loss           largest relative loss of signal efficiency that was allowed; None: not known
    budgets            where several latency budgets were asked for: each of them, smallest first; everything else is
                       of the largest
    """

    signal_name: str
    target_hz: float
    rate_weights: bool
    beam: str
    filled: tuple[bool, ...]
    latency_budget_ns: float
    resource: str
    rows: tuple[ComparedRow, ...]
    designs: tuple[DesignPoint, ...]
    front: tuple[int, ...]
    singles: tuple[SinglePoint, ...]
    loss_curves: tuple[LossCurve, ...]
    best: BestDesign | None
    recommendation: Recommendation
    warnings: tuple[str, ...]
    max_overflow: float | None = None
    max_loss: float | None = None
    budgets: tuple[BudgetPoint, ...] = ()
