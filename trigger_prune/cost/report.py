"""``HardwareReport``: what a network costs, and how that number was obtained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from trigger_prune.errors import ReportFormatError, StageMismatchError
from trigger_prune.target import Budget
from trigger_prune.units import cycles_to_ns

BUDGETED = ("lut", "ff", "dsp", "bram18", "uram", "latency_cycles", "ii", "latency_p99_us", "event_time_us")
"""Quantities that both a report and a Budget name."""

CLOCK = "estimated_period_ns"
"""Quantity that a latency budget limits by the clock period; see ``HardwareReport.excess``."""

RESOURCES = ("lut", "ff", "dsp", "bram18", "uram")
"""Resources of an FPGA. Block RAM is counted in units of 18 Kbit: a RAMB36 is two."""


class CostStage(StrEnum):
    """How the numbers were obtained."""

    ANALYTIC = "analytic"  # formulas on the integer weights; no tool was run
    RTL_SYNTH = "rtl_synth"  # alkaid's Verilog mapped to LUTs by Yosys; no place and route
    CSYNTH = "csynth"  # the HLS compiler's own estimate
    COSIM = "cosim"  # RTL simulation of the HLS compiler's output: latency and interval only
    VSYNTH = "vsynth"  # Vivado logic synthesis
    PNR = "pnr"  # after place and route
    RUNTIME = "runtime"  # wall-clock time of the exported model on a processor

    @property
    def label(self) -> str:
        """What a reader should understand by it."""
        return _LABELS[self.value]


_LABELS = {
    "analytic": "estimate by formula (no tool was run)",
    "rtl_synth": "Yosys LUT mapping of alkaid Verilog (no place and route)",
    "csynth": "HLS compiler estimate (csynth)",
    "cosim": "C/RTL co-simulation",
    "vsynth": "Vivado logic synthesis",
    "pnr": "after place and route",
    "runtime": "measured run time on a processor",
}


@dataclass(frozen=True)
class Available:
    """What the part offers; None = not stated."""

    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram18: int | None = None
    uram: int | None = None


@dataclass(frozen=True)
class LayerCost:
    """Part of the cost that belongs to one layer or module; None = not stated by the tool.

    ``latency_cycles`` and ``ii`` are those of the module alone; ``interval_90`` as in ``HardwareReport``.
    """

    name: str
    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram18: int | None = None
    uram: int | None = None
    latency_cycles: int | None = None
    ii: int | None = None
    interval_90: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RuntimeCost:
    """Wall-clock figures of the exported model on a processor, per batch size (equally long tuples).

    device               processor, as the runtime or the operating system names it
    provider             execution provider of ONNX Runtime
    threads              intra-op threads, pinned
    batch_sizes          events per call
    latency_p50_us       median time of one call
    latency_p99_us       99th percentile of the time of one call
    throughput_hz        events per second, batch size / mean time of a call
    """

    device: str
    provider: str
    threads: int
    batch_sizes: tuple[int, ...]
    latency_p50_us: tuple[float, ...]
    latency_p99_us: tuple[float, ...]
    throughput_hz: tuple[float, ...]


@dataclass(frozen=True)
class HardwareReport:
    """Cost of one network at one stage. None = the tool did not state it (never: zero).

    clock_period_ns       target clock; None where a report does not state it, or for a processor
    latency_cycles        worst case, from the first input to the last output; ``latency_best_cycles`` the best case
    ii                    largest initiation interval in cycles; ``ii_min`` the smallest
    content_hash          identifies what was measured (NetworkSpec.content_hash, or a hash of the sources)
    predicts              stage that an ``analytic`` estimate predicts
    available             what the part offers
    clock_uncertainty_ns  margin the tool keeps; the HLS target is met when estimate + uncertainty fit the period
    estimated_clock_ns    the tool's estimate before place and route
    achieved_clock_ns     shortest period that static timing analysis allows (vsynth: without routing; pnr: with it)
    wns_ns, tns_ns        worst and total negative slack of setup; positive wns = timing met
    interval_90           quantity -> (low, high) of the 90 % prediction interval; estimates only
    runtime               stage ``runtime`` only
    """

    stage: CostStage
    tool: str
    tool_version: str
    part: str
    clock_period_ns: float | None
    lut: int | None
    ff: int | None
    dsp: int | None
    bram18: int | None
    latency_cycles: int | None
    ii: int | None
    content_hash: str
    layers: tuple[LayerCost, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    predicts: CostStage | None = None
    uram: int | None = None
    available: Available | None = None
    clock_uncertainty_ns: float | None = None
    estimated_clock_ns: float | None = None
    achieved_clock_ns: float | None = None
    latency_best_cycles: int | None = None
    ii_min: int | None = None
    wns_ns: float | None = None
    tns_ns: float | None = None
    interval_90: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    runtime: RuntimeCost | None = None

    @property
    def latency_ns(self) -> float | None:
        """Worst-case latency at the target clock; says nothing about whether the clock is reached."""
        return self._ns(self.latency_cycles)

    @property
    def latency_best_ns(self) -> float | None:
        """Best-case latency at the target clock."""
        return self._ns(self.latency_best_cycles)

    def _ns(self, cycles: int | None) -> float | None:
        known = cycles is not None and self.clock_period_ns is not None
        return cycles_to_ns(cycles, self.clock_period_ns) if known else None  # type: ignore[arg-type]

    @property
    def latency_p99_us(self) -> float | None:
        """99th percentile of the latency of the smallest batch on a processor."""
        return None if self.runtime is None else self.runtime.latency_p99_us[0]

    @property
    def event_time_us(self) -> float | None:
        """Processor time per event at the batch size of the highest throughput."""
        return None if self.runtime is None else 1e6 / max(self.runtime.throughput_hz)

    @property
    def timing_met(self) -> bool | None:
        """Whether the target clock is reached, by the best evidence in the report; None = nothing says so."""
        if self.wns_ns is not None:
            return self.wns_ns >= 0
        if self.clock_period_ns is None:
            return None
        if self.achieved_clock_ns is not None:
            return self.achieved_clock_ns <= self.clock_period_ns
        if self.estimated_clock_ns is None:
            return None
        # Reports round to three digits; a sum that misses by less is not a miss.
        return self.estimated_clock_ns + (self.clock_uncertainty_ns or 0.0) <= self.clock_period_ns + 5e-4

    def require_same_stage(self, other: HardwareReport) -> None:
        """Raise StageMismatchError unless both reports were obtained the same way."""
        if (self.stage, self.tool, self.predicts) != (other.stage, other.tool, other.predicts):
            raise StageMismatchError(
                f"cannot compare a cost of {self.source} with one of {other.source}",
                hint="measure both networks with the same cost backend",
            )

    @property
    def source(self) -> str:
        """Stage and tool in words, as errors and tables name them."""
        of = f" of {self.predicts}" if self.predicts else ""
        return f"stage {self.stage}{of} ({self.tool})"

    def __add__(self, other: HardwareReport) -> HardwareReport:
        """Resources of two designs side by side on one part.

        Latencies, intervals, timing and prediction intervals belong to each alone and are left unknown. Raises
        StageMismatchError for different stages, tools, parts or clocks.
        """
        if not isinstance(other, HardwareReport):
            return NotImplemented
        self.require_same_stage(other)
        if self.stage is CostStage.RUNTIME:
            raise StageMismatchError("run times of two models on a processor do not add up")
        if (self.part, self.clock_period_ns) != (other.part, other.clock_period_ns):
            raise StageMismatchError(
                f"cannot add costs on {self.part} at {self.clock_period_ns} ns and on {other.part} at "
                f"{other.clock_period_ns} ns"
            )
        sums: dict[str, Any] = {name: _sum(getattr(self, name), getattr(other, name)) for name in RESOURCES}
        same_version = self.tool_version == other.tool_version
        return HardwareReport(
            stage=self.stage,
            tool=self.tool,
            tool_version=self.tool_version if same_version else f"{self.tool_version} + {other.tool_version}",
            part=self.part,
            clock_period_ns=self.clock_period_ns,
            latency_cycles=None,
            ii=None,
            content_hash=f"{self.content_hash}+{other.content_hash}",
            layers=self.layers + other.layers,
            predicts=self.predicts,
            available=self.available,
            **sums,
        )

    def lut_ratio(self, smaller: HardwareReport) -> float:
        """How many times more LUTs this network takes than ``smaller``; both of one stage.

        Raises StageMismatchError, also when one of them states no LUTs.
        """
        self.require_same_stage(smaller)
        if self.lut is None or smaller.lut is None:
            raise StageMismatchError(f"{self.source} states no LUT count")
        return self.lut / smaller.lut if smaller.lut else float("inf")

    def excess(self, budget: Budget) -> dict[str, float]:
        """Use divided by limit, for every limit that is set and every quantity that is known.

        A latency in cycles says nothing when the slowest stage does not fit the clock period. Where the pipeline is
        ours to cut (stage ``rtl_synth``), a latency budget therefore also limits the estimated clock period
        (``details["estimated_period_ns"]``, by the stated delay model): fewer registers buy no latency.
        """
        ratios: dict[str, float] = {}
        for name in BUDGETED:
            limit, used = getattr(budget, name), getattr(self, name)
            if limit is not None and used is not None:
                ratios[name] = used / limit if limit else (float("inf") if used else 0.0)
        period = self.details.get(CLOCK) if self.stage is CostStage.RTL_SYNTH else None
        if budget.latency_cycles is not None and period is not None and self.clock_period_ns is not None:
            ratios[CLOCK] = period / self.clock_period_ns
        return ratios

    def unstated(self, budget: Budget) -> tuple[str, ...]:
        """Quantities the budget limits but this report does not state: whether they are met is unknown."""
        return tuple(name for name in BUDGETED if getattr(budget, name) is not None and getattr(self, name) is None)

    def meets(self, budget: Budget) -> bool:
        """True when every limited quantity is stated and within its limit."""
        return not self.unstated(budget) and all(ratio <= 1.0 for ratio in self.excess(budget).values())

    def fits_part(self) -> bool | None:
        """Whether every used resource is available; None when the report does not say what the part offers."""
        if self.available is None:
            return None
        pairs = [(getattr(self, name), getattr(self.available, name)) for name in RESOURCES]
        known = [(used, offered) for used, offered in pairs if used is not None and offered is not None]
        return all(used <= offered for used, offered in known) if known else None

    def with_details(self, **details: Any) -> HardwareReport:
        """The same report with more details."""
        return replace(self, details={**self.details, **details})

    def to_json(self) -> str:
        """JSON text; ``from_json`` restores an equal report.

        Raises ReportFormatError when it holds what JSON cannot (arrays, NaN).
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
            values = {**raw, "stage": CostStage(raw["stage"]), "layers": tuple(map(_layer, raw["layers"]))}
            if raw.get("predicts") is not None:
                values["predicts"] = CostStage(raw["predicts"])
            if raw.get("available") is not None:
                values["available"] = Available(**raw["available"])
            if raw.get("runtime") is not None:
                runtime: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw["runtime"].items()}
                values["runtime"] = RuntimeCost(**runtime)
            values["interval_90"] = _intervals(raw.get("interval_90", {}))
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReportFormatError(f"not a hardware report: {error}") from None


FIELDS = tuple(f.name for f in fields(HardwareReport))
"""Names of everything a report can state."""


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _intervals(raw: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: (float(low), float(high)) for name, (low, high) in raw.items()}


def _layer(raw: Mapping[str, Any]) -> LayerCost:
    return LayerCost(**{**raw, "interval_90": _intervals(raw.get("interval_90", {}))})
