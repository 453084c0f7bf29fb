"""The keys of ``project.yaml``, each documented in its section and only there; ``trigger-prune schema`` prints them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from trigger_prune.config._section import Section, Seed
from trigger_prune.config.event_sections import DataConfig, InputConfig, LuminosityConfig, PhysicsConfig, SplitConfig
from trigger_prune.config.front_section import FrontConfig
from trigger_prune.config.learn_section import LearnConfig
from trigger_prune.config.lottery_section import LotteryConfig
from trigger_prune.config.precision_section import PrecisionConfig
from trigger_prune.config.pruning_sections import PruneConfig, SensitivityConfig
from trigger_prune.config.refine_section import RefineConfig
from trigger_prune.config.target_sections import BudgetConfig, CostConfig, TargetConfig, VerifyConfig
from trigger_prune.config.training_sections import (
    BaselineConfig,
    ModelConfig,
    QuantizeConfig,
    TeacherConfig,
    TrainConfig,
)
from trigger_prune.config.two_stage_section import TwoStageConfig
from trigger_prune.target import Budget, Target

__all__ = [
    "BaselineConfig",
    "BudgetConfig",
    "CostConfig",
    "DataConfig",
    "FrontConfig",
    "InputConfig",
    "LearnConfig",
    "LotteryConfig",
    "LuminosityConfig",
    "ModelConfig",
    "PhysicsConfig",
    "PrecisionConfig",
    "ProjectConfig",
    "PruneConfig",
    "QuantizeConfig",
    "RefineConfig",
    "Section",
    "SensitivityConfig",
    "SplitConfig",
    "TargetConfig",
    "TeacherConfig",
    "TrainConfig",
    "TwoStageConfig",
    "VerifyConfig",
    "make_budget",
    "make_target",
]


class ProjectConfig(Section):
    """One trigger project: a model, its events, a budget and an FPGA."""

    project: str = Field(description="Name of the project.")
    description: str = Field(default="", description="One sentence for the report.")
    task: Literal["classify", "binary", "autoencoder", "distil"] = Field(
        default="classify",
        description="What the network is trained to do. classify: one logit per class. binary: one logit, signal "
        "against background. autoencoder: give back its inputs. distil: follow a teacher (see teacher).",
    )
    objective: Literal["loss", "accuracy", "auc", "efficiency_at_rate", "efficiency_at_fpr"] | None = Field(
        default=None,
        description="What decides between networks, on validation events: it selects epochs and pruned networks, and "
        "sensitivities and reports show it (default: accuracy of task classify, auc of task binary, else loss). The "
        "rate and the false-positive rate are in section physics.",
    )
    seed: Seed = Field(
        default=1, description="Seed of every random choice; same seed, same weights on the same machine."
    )
    data: DataConfig = Field(default_factory=DataConfig)
    luminosity: LuminosityConfig = Field(default_factory=LuminosityConfig)
    physics: PhysicsConfig = Field(default_factory=PhysicsConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    input: InputConfig = Field(default_factory=InputConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig)
    baseline: BaselineConfig = Field(default_factory=BaselineConfig)
    sensitivity: SensitivityConfig = Field(default_factory=SensitivityConfig)
    prune: PruneConfig = Field(default_factory=PruneConfig)
    learn: LearnConfig = Field(default_factory=LearnConfig)
    refine: RefineConfig = Field(default_factory=RefineConfig)
    lottery: LotteryConfig = Field(default_factory=LotteryConfig)
    precision: PrecisionConfig = Field(default_factory=PrecisionConfig)
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    front: FrontConfig = Field(default_factory=FrontConfig)
    two_stage: TwoStageConfig = Field(default_factory=TwoStageConfig)
    target: TargetConfig = Field(default_factory=TargetConfig)
    cost: CostConfig = Field(default_factory=CostConfig)
    verify: VerifyConfig = Field(default_factory=VerifyConfig)

    @model_validator(mode="after")
    def _require_buildable_types(self) -> ProjectConfig:
        if self.prune.scope == "learned":
            self.learn.per_channel(self.cost.backend)
        return self

    def make_target(self) -> Target:
        """The target as the rest of the program knows it."""
        return make_target(self.target)

    def make_budget(self) -> Budget:
        """The budget in clock cycles of the target's clock; a latency is rounded down to whole cycles."""
        return make_budget(self.budget, self.target)


def make_target(target: TargetConfig) -> Target:
    """The target as the rest of the program knows it."""
    return Target(**target.model_dump())


def make_budget(budget: BudgetConfig, target: TargetConfig) -> Budget:
    """The budget in clock cycles of the target's clock; a latency is rounded down to whole cycles."""
    limits = budget.model_dump()
    latency_ns = limits.pop("latency_ns")
    # The small term keeps 25.0 / 5.0 at five cycles whatever the last bit of the quotient is.
    cycles = None if latency_ns is None else int(latency_ns / target.clock_period_ns + 1e-9)
    return Budget(**limits, latency_cycles=cycles)
