"""What a two-stage study is made of."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.two_stage.decision import ACCEPT_SHARES
from trigger_prune.two_stage.options import BufferCost, FullOption, LightOption
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.search import Requirements, TwoStageDesign
from trigger_prune.two_stage.table import AloneModel, MenuDecisions
from trigger_prune.two_stage.traffic import BeamStructure


@dataclass(frozen=True, eq=False)
class LightCandidate:
    """A light model: its scores beside the full model's, its hardware at every clock, its comparator."""

    options: tuple[LightOption, ...]
    firmware: FirmwareScore
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The same at every clock."""
        return self.options[0].name

    @property
    def validation(self) -> TwoStageSample:
        """The same at every clock."""
        return self.options[0].validation

    @property
    def test(self) -> TwoStageSample:
        """The same at every clock."""
        return self.options[0].test


@dataclass(frozen=True, eq=False)
class SmallerBudget:
    """A latency budget below that of the requirements; FIFO and delay lines are shorter there."""

    latency_budget_ns: float
    buffer_cost: BufferCost | None = None


@dataclass(frozen=True, eq=False)
class StudyInputs:
    """What is studied.

    full, pruned    judge every object alone; ``pruned`` None where the full model is the pruned network
    fulls           the full model as the shared engine: every reuse factor and clock
    strategy        of the full model
    buffer_cost     FIFO and control; None: not counted
    rate_weights    False: rates are shares of the background
    remarks         sentences for the reader, put in front of the study's own
    smaller_budgets for which the best design and the recommendation are wanted too
    """

    full: AloneModel
    pruned: AloneModel | None
    fulls: tuple[FullOption, ...]
    full_firmware: FirmwareScore
    lights: tuple[LightCandidate, ...]
    menu: MenuDecisions | None
    beam: BeamStructure
    requirements: Requirements
    strategy: str
    escalated: tuple[float, ...]
    fifo_depths: tuple[int, ...]
    max_loss: float
    rate_weights: bool
    buffer_cost: BufferCost | None = None
    accept_shares: tuple[float, ...] = ACCEPT_SHARES
    seed: int = 0
    remarks: tuple[str, ...] = ()
    smaller_budgets: tuple[SmallerBudget, ...] = ()


def light_of(design: TwoStageDesign, inputs: StudyInputs) -> LightCandidate:
    """The light model of a design."""
    return next(light for light in inputs.lights if light.name == design.light_name)


def full_of(design: TwoStageDesign, inputs: StudyInputs) -> FullOption:
    """The engine of a design; equal engines of several reuse factors are told apart by what was measured."""
    light, engine = design.light.cost.content_hash, design.engine
    return next(
        full
        for full in inputs.fulls
        if full.name == design.full_name
        and full.engine(engine.fifo_depth) == engine
        and full.cost.latency_cycles == design.latency.full_cycles
        and design.cost.content_hash == f"{light}+{full.cost.content_hash}"
    )
