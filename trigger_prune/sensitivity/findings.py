"""What a sensitivity scan finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """One figure of merit with its interval, and its change against the unpruned network on the same events.

    ``low`` / ``high`` bound the value, ``change_low`` / ``change_high`` the paired difference (this network minus the
    unpruned one), which is known far better than either value because both see the same events.
    """

    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


@dataclass(frozen=True)
class ScanPoint:
    """One network that differs from the unpruned one in one place, without fine-tuning.

    layer             the layer; of a group that reaches over several the first of them. Of activation bits the layer
                      in front of the quantiser, or the quantiser
    criterion, structure   None where only bits differ
    sparsity          fraction of the layer's groups that was asked for; where only bits differ what the layer has
    zero_weights      fraction of the layer's weights that are masked
    weight_bits, activation_bits   where they differ from the network's own, else None
    events            events it was judged on
    merit             the project's objective, larger is better
    figures           by name: loss, accuracy, auc, efficiency, as far as task and events allow
    lut, latency_ns   of the whole network by the analytic cost model; None where it was not asked, or has no formula
    lut_per_percent   LUTs that each further percent of sparsity saves, counted from the next lower sparsity of the
                      same curve (the first from the unpruned network)
    """

    layer: str
    criterion: str | None
    structure: str | None
    sparsity: float
    zero_weights: float
    weight_bits: int | None
    activation_bits: int | None
    events: int
    merit: float
    figures: dict[str, Figure]
    lut: int | None = None
    latency_ns: float | None = None
    lut_per_percent: float | None = None

    @property
    def curve(self) -> tuple[str, str | None, str | None, int | None, int | None]:
        """What the points of one curve over sparsity share."""
        return self.layer, self.criterion, self.structure, self.weight_bits, self.activation_bits

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ScanPoint:
        """Inverse of ``dataclasses.asdict``."""
        return cls(**{**raw, "figures": {name: Figure(**figure) for name, figure in raw["figures"].items()}})


@dataclass(frozen=True)
class LayerPoint:
    """One layer pruned alone to one sparsity, without fine-tuning.

    ``accuracy_low`` / ``accuracy_high`` is a 68 % interval; the three are None for a task without classes. ``merit`` is
    the project's objective, larger is better.
    """

    layer: str
    criterion: str
    sparsity: float
    loss: float
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    merit: float


@dataclass(frozen=True)
class InputFinding:
    """One input feature.

    kind          ``duplicate`` (equal to ``same_as`` on every training event, after the input transform),
                  ``constant`` (one value on every training event) or ``informative``
    loss_increase, accuracy_drop, merit_drop   when the feature is shuffled among validation events (permutation
                                               importance)
    shuffled, removed   all figures when the feature is shuffled, and when it is replaced by 0 everywhere (what the
                        network without its weights computes)
    """

    name: str
    index: int
    kind: Literal["duplicate", "constant", "informative"]
    same_as: str | None
    constant_value: float | None
    loss_increase: float
    accuracy_drop: float | None
    merit_drop: float
    shuffled: dict[str, Figure] = field(default_factory=dict)
    removed: dict[str, Figure] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> InputFinding:
        """Inverse of ``dataclasses.asdict``."""
        figures = {
            key: {name: Figure(**figure) for name, figure in raw.get(key, {}).items()}
            for key in ("shuffled", "removed")
        }
        return cls(**{**raw, **figures})


@dataclass(frozen=True)
class SensitivityScan:
    """Baseline of the unpruned network, layer curves and input findings; ``objective`` names what ``merit`` is.

    layers     single weights by the first criterion: the curves of the report
    points     every network of the scan, those of ``layers`` included
    baseline   all figures of the unpruned network
    intervals  how the intervals were made, in words
    """

    baseline_loss: float
    baseline_accuracy: float | None
    baseline_merit: float
    objective: str
    events: int
    layers: tuple[LayerPoint, ...]
    inputs: tuple[InputFinding, ...]
    points: tuple[ScanPoint, ...] = ()
    baseline: dict[str, Figure] = field(default_factory=dict)
    intervals: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal scan."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> SensitivityScan:
        """Inverse of ``to_dict``."""
        return cls(
            **{
                **raw,
                "layers": tuple(LayerPoint(**point) for point in raw["layers"]),
                "inputs": tuple(InputFinding.from_dict(finding) for finding in raw["inputs"]),
                "points": tuple(ScanPoint.from_dict(point) for point in raw.get("points", ())),
                "baseline": {name: Figure(**figure) for name, figure in raw.get("baseline", {}).items()},
            }
        )
