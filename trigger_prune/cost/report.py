"""``HardwareReport``: what a network costs, and how that number was obtained."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from trigger_prune.errors import ReportFormatError, StageMismatchError
from trigger_prune.target import Budget
from trigger_prune.units import cycles_to_ns

BUDGETED = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
"""Quantities that both a report and a Budget name."""


class CostStage(StrEnum):
    """How the numbers were obtained, from the quickest estimate to the real thing."""

    ANALYTIC = "analytic"  # formulas on the integer weights; no tool was run
    RTL_SYNTH = "rtl_synth"  # alkaid's Verilog mapped to LUTs by Yosys; no place and route
    CSYNTH = "csynth"  # the HLS compiler's own estimate
    VSYNTH = "vsynth"  # Vivado logic synthesis
    PNR = "pnr"  # after place and route

    @property
    def label(self) -> str:
        """What a reader should understand by it."""
        return {
            "analytic": "estimate by formula (no tool was run)",
            "rtl_synth": "Yosys LUT mapping of alkaid Verilog (no place and route)",
            "csynth": "HLS compiler estimate (csynth)",
            "vsynth": "Vivado logic synthesis",
            "pnr": "after place and route",
        }[self.value]


@dataclass(frozen=True)
class LayerCost:
    """Part of the cost that belongs to one layer; None = not stated by the tool."""

    name: str
    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram18: int | None = None


@dataclass(frozen=True)
class HardwareReport:
    """Cost of one network at one stage. None = the tool did not state it.

    ``ii`` is the initiation interval in clock cycles. ``latency_cycles`` counts from the first input to the last
    output at ``clock_period_ns``. ``content_hash`` identifies what was measured (NetworkSpec.content_hash).
    """

    stage: CostStage
    tool: str
    tool_version: str
    part: str
    clock_period_ns: float
    lut: int
    ff: int | None
    dsp: int | None
    bram18: int | None
    latency_cycles: int | None
    ii: int | None
    content_hash: str
    layers: tuple[LayerCost, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def latency_ns(self) -> float | None:
        """Latency at the target clock; says nothing about whether the clock is reached."""
        return None if self.latency_cycles is None else cycles_to_ns(self.latency_cycles, self.clock_period_ns)

    def require_same_stage(self, other: HardwareReport) -> None:
        """Raise StageMismatchError unless both reports were obtained the same way."""
        if (self.stage, self.tool) != (other.stage, other.tool):
            raise StageMismatchError(
                f"cannot compare a cost of stage {self.stage} ({self.tool}) with one of stage {other.stage} "
                f"({other.tool})",
                hint="measure both networks with the same cost backend",
            )

    def lut_ratio(self, smaller: HardwareReport) -> float:
        """How many times more LUTs this network takes than ``smaller``; both of one stage."""
        self.require_same_stage(smaller)
        return self.lut / smaller.lut if smaller.lut else float("inf")

    def excess(self, budget: Budget) -> dict[str, float]:
        """Use divided by limit, for every limit that is set and every quantity that is known."""
        ratios: dict[str, float] = {}
        for name in BUDGETED:
            limit, used = getattr(budget, name), getattr(self, name)
            if limit is not None and used is not None:
                ratios[name] = used / limit if limit else (float("inf") if used else 0.0)
        return ratios

    def unstated(self, budget: Budget) -> tuple[str, ...]:
        """Quantities the budget limits but this report does not state: whether they are met is unknown."""
        return tuple(name for name in BUDGETED if getattr(budget, name) is not None and getattr(self, name) is None)

    def meets(self, budget: Budget) -> bool:
        """True when every limited quantity is stated and within its limit."""
        return not self.unstated(budget) and all(ratio <= 1.0 for ratio in self.excess(budget).values())

    def to_json(self) -> str:
        """JSON text; ``from_json`` restores an equal report.

        Raises ReportFormatError when ``details`` holds what JSON cannot (arrays, NaN).
        """
        try:
            return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportFormatError(f"the hardware report cannot be written as JSON: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> HardwareReport:
        """Inverse of ``to_json``. Raises ReportFormatError on anything else."""
        try:
            raw = json.loads(text)
            layers = tuple(LayerCost(**layer) for layer in raw.pop("layers"))
            return cls(**{**raw, "stage": CostStage(raw["stage"]), "layers": layers})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReportFormatError(f"not a hardware report: {error}") from None
