"""How a refinement goes, and where it ends."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.errors import ConfigError


@dataclass(frozen=True)
class RefineSettings:
    """See ``config.refine_section`` for the keys of the same names.

    saving_per_round     fraction of the cost that a round saves by the model
    rounds               at most
    fine_tune_epochs     after every round, digits capped; 0: the refinement is purely post-training
    largest_merit_loss   how far the validation merit may fall below that of the network as it came
    max_cost             the result costs at most so much (units of the measured cost); None: as little as it can
    chain                most codes that are changed together
    model_events         training events of the quadratic model
    descent_passes       passes of coordinate descent on the exact loss, after the last round; 0: none
    measure_every        rounds between two measurements
    """

    saving_per_round: float = 0.05
    rounds: int = 60
    fine_tune_epochs: int = 15
    learning_rate: float = 2e-3
    batch_size: int = 1024
    weight_decay: float = 1e-4
    largest_merit_loss: float = 0.002
    max_cost: float | None = None
    chain: int = 3
    model_events: int = 8192
    descent_passes: int = 0
    measure_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.saving_per_round < 1:
            raise ConfigError(f"refine.saving_per_round: {self.saving_per_round:g} is not inside 0..1")
        if self.max_cost is not None and not self.max_cost > 0:
            raise ConfigError(f"refine.max_cost: {self.max_cost:g} is not above zero")
        for name, least in (("rounds", 1), ("chain", 1), ("model_events", 1), ("measure_every", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"refine.{name}: {getattr(self, name)} is below {least}")
        for name in ("fine_tune_epochs", "descent_passes", "largest_merit_loss"):
            if getattr(self, name) < 0:
                raise ConfigError(f"refine.{name}: {getattr(self, name)} is below 0")
