"""What a sensitivity scan covers, and how it judges."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.errors import DataError
from trigger_prune.physics.intervals import LEVEL_68
from trigger_prune.physics.scores import Score
from trigger_prune.sensitivity.judged import FIRST_LOOK
from trigger_prune.sensitivity.pruned import SINGLE_WEIGHTS
from trigger_prune.sensitivity.resample import REPLICAS
from trigger_prune.structure._base import Structure
from trigger_prune.target import Target


@dataclass(frozen=True)
class ScanSettings:
    """What is scanned and how.

    structures        names or structures; ``weight`` are single weights
    sparsities        fractions of a layer's groups that are removed
    bits              weight bits tried beside those of the layer, with every mask and without
    activation_bits   bits tried of every activation
    interval_width    None: every network is judged on all events. Else the statistical mode: a network is done when
                      the interval of the change of the objective (of a loss: in nats) is no wider than this or than a
                      fifth of the change; events come in random order, their number doubles from look to look
    level             of all intervals
    figures           of loss, accuracy, auc, efficiency; None: all that task and events allow
    score, signal_classes, background_fraction   the trigger's score where the objective has none, see make_judge
    target            FPGA of the cost columns; None leaves them empty
    """

    structures: tuple[str | Structure, ...] = (SINGLE_WEIGHTS,)
    sparsities: tuple[float, ...] = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95)
    bits: tuple[int, ...] = ()
    activation_bits: tuple[int, ...] = ()
    interval_width: float | None = None
    level: float = LEVEL_68
    replicas: int = REPLICAS
    first_look: int = FIRST_LOOK
    seed: int = 0
    figures: tuple[str, ...] | None = None
    score: Score | None = None
    signal_classes: tuple[int, ...] = ()
    background_fraction: float | None = None
    target: Target | None = None

    def __post_init__(self) -> None:
        if self.interval_width is not None and not self.interval_width > 0:
            raise DataError(
                f"an interval of width {self.interval_width:g} is never reached", hint="give a width above 0"
            )
        if not 0 < self.level < 1:
            raise DataError(f"a confidence level of {self.level:g} is not inside 0..1")

    @property
    def intervals(self) -> str:
        """How the intervals are made, in words."""
        if self.interval_width is None:
            return (
                f"{100 * self.level:.0f} % percentiles of {self.replicas} Poisson resamples of the generated "
                "collisions, AUC by its influences; changes are paired"
            )
        return (
            f"{100 * self.level:.0f} % simultaneous over all looks (Bonferroni), normal, errors by collision with two "
            "events added; a network is done when the interval of the change of the objective is no wider than "
            f"{self.interval_width:g} or a fifth of the change"
        )
