"""The shipped estimate, corrected by the reports a user has: the more of them, the smaller error and interval.

Every stage (csynth, vsynth, pnr ...) and every generation of a tool has corrections of its own; a generation without
reports borrows from its tool, and that from all tools. What csynth claims and what logic synthesis makes of it are
related by ratios, learned the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import hypot

from trigger_prune.cost.calibration.residuals import (
    Shift,
    residual,
    scatter_of,
    shifted,
    shrunk,
)
from trigger_prune.cost.calibration.tool_generation import Generation, generation_of
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import StageMismatchError

QUANTITIES = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
RESOURCES = ("lut", "ff", "dsp", "bram18")
RATIO_FAMILY = "vsynth_ratio"

RATIO_PRIOR: Mapping[str, tuple[float, float, float]] = {
    "lut": (0.45, 0.12, 0.70),
    "ff": (0.70, 0.33, 1.15),
    "dsp": (1.0, 0.90, 1.04),
    "bram18": (0.46, 0.10, 0.84),
}
"""vsynth / csynth: median and 90 % range over 27 public designs (resource strategy or io_stream; none is a dense
network of strategy latency with io_parallel, for which the ratio is not known)."""


@dataclass(frozen=True)
class Observation:
    """A report of a tool, and what was expected of the same design.

    expected   an estimate (stage analytic) of the measured stage, or the csynth report of a vsynth one
    """

    expected: HardwareReport
    measured: HardwareReport


@dataclass(frozen=True)
class Refinement:
    """Corrections learned from reports. ``residuals``: (from, to, quantity) -> (generation, residual) of each report,
    where from is ``analytic`` or ``csynth`` and to the measured stage."""

    calibration: Calibration
    residuals: Mapping[tuple[str, str, str], tuple[tuple[Generation, float], ...]] = field(default_factory=dict)

    def apply(self, report: HardwareReport) -> HardwareReport:
        """The estimate ``report``, corrected for the stage and the generation that it predicts.

        Raises StageMismatchError for a report that is no estimate of a stage.
        """
        if report.stage is not CostStage.ANALYTIC or report.predicts is None:
            raise StageMismatchError(f"{report.source} is measured: only an estimate is refined")
        return self._corrected(report, CostStage.ANALYTIC.value, report.predicts, QUANTITIES)

    def to_vsynth(self, report: HardwareReport) -> HardwareReport:
        """What logic synthesis will make of a csynth report, or of an estimate of one.

        Latency and interval do not change. Raises StageMismatchError for a report of any other stage.
        """
        estimate = report.stage is CostStage.ANALYTIC and report.predicts is CostStage.CSYNTH
        if not estimate and report.stage is not CostStage.CSYNTH:
            raise StageMismatchError(f"{report.source} is no csynth report: its vsynth report cannot be predicted")
        if not estimate:
            generation = generation_of(report)
            report = replace(
                report.with_details(hls_tool=generation.tool, hls_version=report.tool_version),
                stage=CostStage.ANALYTIC,
                predicts=CostStage.CSYNTH,
                layers=(),
                estimated_clock_ns=None,
            )
        return self._corrected(report, CostStage.CSYNTH.value, CostStage.VSYNTH, RESOURCES)

    def shift(self, source: str, target: CostStage, quantity: str, report: HardwareReport) -> Shift:
        """Correction of one quantity of ``report``."""
        found = self.residuals.get((source, target.value, quantity), ())
        levels = by_closeness(found, generation_of(report))
        value = getattr(report, quantity)
        interval = report.interval_90.get(quantity)
        if source == CostStage.CSYNTH.value:
            median, low, high = self.ratio_prior(quantity)
            centre = median * value
            shift = shrunk(levels, (low * value, high * value), centre, residual(centre, value))
            # An uncertain csynth estimate stays uncertain when it is translated.
            return shift if interval is None else replace(shift, scatter=hypot(shift.scatter, scatter_of(interval)))
        return shrunk(levels, interval or _unknown(value), value)

    def ratio_prior(self, quantity: str) -> tuple[float, float, float]:
        """Median, low and high of vsynth / csynth before any report of the user."""
        fitted = self.calibration.families.get(RATIO_FAMILY, {})
        median, low, high = RATIO_PRIOR[quantity]
        return (
            fitted.get(f"{quantity}_median", median),
            fitted.get(f"{quantity}_low", low),
            fitted.get(f"{quantity}_high", high),
        )

    def _corrected(
        self, report: HardwareReport, source: str, target: CostStage, quantities: tuple[str, ...]
    ) -> HardwareReport:
        changed: dict[str, int | None] = {}
        intervals = {name: interval for name, interval in report.interval_90.items() if name not in quantities}
        used = 0
        for quantity in quantities:
            value = getattr(report, quantity)
            if value is None:
                continue
            shift = self.shift(source, target, quantity, report)
            used = max(used, shift.count)
            interval = report.interval_90.get(quantity)
            changed[quantity] = round(shifted(value, shift.mean))
            if interval is not None or source == CostStage.CSYNTH.value or shift.count:
                middle = shift.mean + shift.lean
                intervals[quantity] = (
                    shifted(value, middle - shift.half_width),
                    shifted(value, middle + shift.half_width),
                )
        return replace(
            report,
            predicts=target,
            interval_90=intervals,
            details={**report.details, "reports_used": used},
            **changed,  # type: ignore[arg-type]  # names of counts
        )


def _unknown(value: float) -> tuple[float, float]:
    """For an estimate that states no interval: a factor of two either way."""
    return value / 2, value * 2


def by_closeness(
    residuals: Iterable[tuple[Generation, float]], generation: Generation
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Residuals of other tools, of the same tool in other years, and of the same generation."""
    levels: tuple[list[float], list[float], list[float]] = ([], [], [])
    for other, value in residuals:
        same_tool = bool(generation.tool) and other.tool == generation.tool
        levels[same_tool + (same_tool and other.year == generation.year)].append(value)
    return tuple(levels[0]), tuple(levels[1]), tuple(levels[2])


def refined(calibration: Calibration, history: Iterable[Observation]) -> Refinement:
    """Corrections from every observation, most of them estimate against report, some csynth against vsynth.

    Of several observations of one design (same content hash, stages and tool version) the last counts.
    Raises StageMismatchError for a pair that compares different things.
    """
    latest = {}
    for observation in history:
        expected, measured = observation.expected, observation.measured
        _require_comparable(expected, measured)
        design = (measured.content_hash, expected.stage, measured.stage, measured.tool, measured.tool_version)
        latest[design] = observation
    found: dict[tuple[str, str, str], list[tuple[Generation, float]]] = defaultdict(list)
    for observation in latest.values():
        expected, measured = observation.expected, observation.measured
        compiler = expected if expected.stage is CostStage.CSYNTH else measured
        ratio = expected.stage is CostStage.CSYNTH
        for quantity in RESOURCES if ratio else QUANTITIES:
            predicted, true = getattr(expected, quantity), getattr(measured, quantity)
            if predicted is None or true is None:
                continue
            key = (expected.stage.value, measured.stage.value, quantity)
            found[key].append((generation_of(compiler), residual(true, predicted)))
    return Refinement(calibration, {key: tuple(values) for key, values in found.items()})


def _require_comparable(expected: HardwareReport, measured: HardwareReport) -> None:
    if measured.stage in (CostStage.ANALYTIC, CostStage.RUNTIME, CostStage.RTL_SYNTH):
        raise StageMismatchError(f"{measured.source} is no report of the HLS flow")
    ratio = expected.stage is CostStage.CSYNTH and measured.stage is CostStage.VSYNTH
    estimate = expected.stage is CostStage.ANALYTIC and expected.predicts is measured.stage
    if not (ratio or estimate):
        raise StageMismatchError(f"{expected.source} does not predict {measured.source}")
