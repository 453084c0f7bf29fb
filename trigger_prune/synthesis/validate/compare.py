"""Predicted against measured, and what the measurements teach the estimates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from trigger_prune.cost.calibration.refine import Observation, Refinement, refined
from trigger_prune.cost.hls.calibration import shipped_calibration
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ExportError
from trigger_prune.synthesis.validate.build import (
    BuiltDesign,
    ValidationFolder,
    build_design,
    missing_packages,
    predict,
)
from trigger_prune.synthesis.validate.designs import DESIGNS
from trigger_prune.synthesis.validate.measure import Outcome

QUANTITIES = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
_TIMING = ("latency_cycles", "ii")


@dataclass(frozen=True)
class Row:
    """One quantity. ``low``, ``high``: 90 % prediction interval; ``inside`` None = no interval, or not measured."""

    quantity: str
    predicted: int | None
    low: float | None
    high: float | None
    measured: int | None

    @property
    def inside(self) -> bool | None:
        """Whether the measured value lies in the interval (counts: rounded outwards)."""
        if self.low is None or self.high is None or self.measured is None:
            return None
        return math.floor(self.low) <= self.measured <= math.ceil(self.high)

    @property
    def relative_error(self) -> float | None:
        """(predicted - measured) / measured; None where nothing was measured, or 0."""
        if self.predicted is None or not self.measured:
            return None
        return (self.predicted - self.measured) / self.measured


@dataclass(frozen=True)
class Comparison:
    """One design at one stage."""

    name: str
    stage: CostStage
    predicted: HardwareReport
    measured: HardwareReport
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Summary:
    """One quantity over all designs of one stage.

    designs            with a prediction and a measured value; ``inside``: how many of those with an interval lie within
    error              median |relative error| (measured values above 0); None = there is none
    error_refined      the same after each design was predicted with the help of the reports of all the others
    """

    stage: CostStage
    quantity: str
    designs: int
    with_interval: int
    inside: int
    error: float | None
    error_refined: float | None


def compare(prediction: HardwareReport, measured: HardwareReport, name: str) -> Comparison:
    """Row by row; quantities that the stage does not state are left out."""
    rows = []
    for quantity in QUANTITIES:
        value, interval = getattr(measured, quantity), prediction.interval_90.get(quantity)
        if value is None:
            continue
        low, high = interval or (None, None)
        rows.append(Row(quantity, getattr(prediction, quantity), low, high, value))
    return Comparison(name, measured.stage, prediction, measured, tuple(rows))


def rebuild(validation: ValidationFolder, outcomes: Sequence[Outcome]) -> dict[str, BuiltDesign]:
    """The measured designs by name, built again for the release that has measured them.

    Left out are those without a csynth report, and those that this version builds differently or cannot build here.
    """
    found = {}
    known = {design.name: design for design in DESIGNS}
    for outcome in outcomes:
        design, csynth = known.get(outcome.entry.name), outcome.reports.get(CostStage.CSYNTH)
        if design is None or csynth is None or missing_packages(design) is not None:
            continue
        try:
            built = build_design(
                design, validation.backend, validation.part, validation.clock_period_ns, csynth.tool_version
            )
        except ExportError:
            continue
        if built.network_hash == outcome.entry.network_hash:
            found[design.name] = built
    return found


def compare_outcomes(
    outcomes: Sequence[Outcome], rebuilt: Mapping[str, BuiltDesign], refinement: Refinement | None = None
) -> tuple[Comparison, ...]:
    """Every design that has been measured, csynth first, then cosim and vsynth.

    Predictions are those of ``rebuilt`` (``rebuild``), or else the ones stored when the folder was written.
    ``refinement`` translates them to what logic synthesis will report; default: without any reports of one's own.
    """
    refinement = refinement or refined(shipped_calibration(), ())
    found = []
    for outcome in outcomes:
        built = rebuilt.get(outcome.entry.name)
        base = outcome.entry.prediction if built is None else predict(built)
        if base is None:
            continue
        for stage, measured in outcome.reports.items():
            expected = base
            if stage is CostStage.VSYNTH:
                expected = refinement.to_vsynth(base)
            elif stage is CostStage.COSIM:
                timing = {name: value for name, value in base.interval_90.items() if name in _TIMING}
                expected = replace(base, interval_90=timing)
            found.append(compare(expected, measured, outcome.entry.name))
    order = list(CostStage)
    return tuple(sorted(found, key=lambda comparison: order.index(comparison.stage)))


def observations(comparisons: Sequence[Comparison]) -> list[Observation]:
    """What the comparisons teach: estimate against csynth, and csynth against vsynth."""
    csynth = {entry.name: entry for entry in comparisons if entry.stage is CostStage.CSYNTH}
    found = [Observation(entry.predicted, entry.measured) for entry in csynth.values()]
    for entry in comparisons:
        if entry.stage is CostStage.VSYNTH and entry.name in csynth:
            found.append(Observation(csynth[entry.name].measured, entry.measured))
    return found


def summarise(comparisons: Sequence[Comparison]) -> tuple[Summary, ...]:
    """One line per stage and quantity, with errors before and after refinement by the other designs."""
    after = {id(entry): _refined_by_others(entry, comparisons) for entry in comparisons}
    lines = []
    for stage in (CostStage.CSYNTH, CostStage.COSIM, CostStage.VSYNTH):
        entries = [entry for entry in comparisons if entry.stage is stage]
        for quantity in QUANTITIES:
            rows = [row for entry in entries for row in entry.rows if row.quantity == quantity]
            new = [row for entry in entries for row in after[id(entry)].rows if row.quantity == quantity]
            rows = [row for row in rows if row.predicted is not None]
            if rows:
                known = [row.inside for row in rows if row.inside is not None]
                lines.append(
                    Summary(stage, quantity, len(rows), len(known), sum(known), _median_error(rows), _median_error(new))
                )
    return tuple(lines)


def _refined_by_others(entry: Comparison, comparisons: Sequence[Comparison]) -> Comparison:
    others = [other for other in comparisons if other.name != entry.name]
    refinement = refined(shipped_calibration(), observations(others))
    if entry.stage is CostStage.CSYNTH:
        return compare(refinement.apply(entry.predicted), entry.measured, entry.name)
    if entry.stage is CostStage.VSYNTH:
        base = next((c.predicted for c in comparisons if c.name == entry.name and c.stage is CostStage.CSYNTH), None)
        return (
            entry if base is None else compare(refinement.to_vsynth(refinement.apply(base)), entry.measured, entry.name)
        )
    return entry


def _median_error(rows: Sequence[Row]) -> float | None:
    errors = [abs(row.relative_error) for row in rows if row.relative_error is not None]
    return median(errors) if errors else None
