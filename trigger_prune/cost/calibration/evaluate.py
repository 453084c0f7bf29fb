"""Error tables of an estimate on reports, those it was calibrated with kept apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trigger_prune.cost.calibration.metrics import Errors
from trigger_prune.cost.calibration.predictions import Prediction, by_quantity, errors_of, predict_samples
from trigger_prune.cost.calibration.samples import Samples
from trigger_prune.cost.hls.calibration import Calibration

ALL, UNSEEN = "all", "unseen"


@dataclass(frozen=True)
class Line:
    """One line of a table: a quantity of a family, over all samples of a project, of a tool, or of everything."""

    family: str
    group: str
    quantity: str
    errors: Errors


@dataclass(frozen=True)
class Evaluation:
    """Errors on some reports.

    tables       ``all`` and, where some reports were in the calibration, ``unseen``: lines by table
    seen         reports that the calibration was fitted with: their errors say nothing about new designs
    reports      different reports with an estimate
    skipped      (path, reason) of what has no estimate
    predictions  every pair behind the tables
    """

    tables: dict[str, tuple[Line, ...]]
    seen: int
    reports: int
    skipped: tuple[tuple[str, str], ...]
    predictions: tuple[Prediction, ...]

    @property
    def verdict(self) -> str:
        """One sentence on what the figures mean."""
        if self.seen == 0:
            return f"{self.reports} reports, none of them in the calibration"
        if self.seen == self.reports:
            return f"all {self.reports} reports were in the calibration: these are errors of the fit, not of estimates"
        return f"{self.seen} of {self.reports} reports were in the calibration; the table 'unseen' leaves them out"

    def to_json(self) -> str:
        """Everything as JSON."""
        tables = {
            name: [
                {"family": line.family, "group": line.group, "quantity": line.quantity, **line.errors.to_dict()}
                for line in lines
            ]
            for name, lines in self.tables.items()
        }
        skipped = [{"path": path, "reason": reason} for path, reason in self.skipped]
        content = {
            "verdict": self.verdict,
            "reports": self.reports,
            "seen": self.seen,
            "tables": tables,
            "skipped": skipped,
        }
        return json.dumps(content, indent=2, sort_keys=True)


def evaluate(samples: Samples, calibration: Calibration) -> Evaluation:
    """Estimate every layer and design of ``samples`` and compare."""
    predictions, failed = predict_samples(samples, calibration)
    known = set(calibration.provenance.get("reports", ()))
    seen = {p.fingerprint for p in predictions if p.fingerprint in known}
    reports = {p.fingerprint for p in predictions}
    tables = {ALL: error_lines(predictions)}
    if seen and seen != reports:
        tables[UNSEEN] = error_lines([p for p in predictions if p.fingerprint not in known])
    return Evaluation(tables, len(seen), len(reports), (*samples.skipped, *failed), predictions)


def error_lines(predictions: Iterable[Prediction]) -> tuple[Line, ...]:
    """Lines of every family: over everything, per project, and per tool where there are several."""
    chosen = list(predictions)
    lines: list[Line] = []
    for family in sorted({p.family for p in chosen}, key=lambda name: (not name.startswith("network"), name)):
        of_family = [p for p in chosen if p.family == family]
        lines += _lines(family, "everything", of_family)
        keys: Sequence[Callable[[Prediction], str]] = (lambda p: p.project, lambda p: p.tool)
        for key in keys:
            groups = sorted({key(p) for p in of_family})
            if len(groups) > 1:
                for group in groups:
                    lines += _lines(family, group, [p for p in of_family if key(p) == group])
    return tuple(lines)


def _lines(family: str, group: str, predictions: list[Prediction]) -> list[Line]:
    return [Line(family, group, quantity, errors_of(found)) for quantity, found in by_quantity(predictions).items()]
