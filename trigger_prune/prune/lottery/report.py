"""What the seeds say together: verdict, conditions, early birds against full tickets; as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trigger_prune.errors import DataError
from trigger_prune.prune.lottery.conditions import (
    LEAST_SEEDS,
    PairedDifference,
    Verdict,
    paired_difference,
    three_condition_verdict,
)
from trigger_prune.prune.lottery.study import Condition, SeedResult

MERIT = "test_merit"
"""The figure that is compared: the project's objective on test events, larger is better."""

DESCRIPTIONS = {
    "dense": "the dense network",
    "ticket": "iterative magnitude pruning, rewound",
    "redrawn": "the ticket's mask, weights drawn anew",
    "random": "a random mask, same kept weights per layer",
    "early_bird": "mask and weights of the epoch at which the mask settled",
    "pretrained": "mask and weights of the trained dense network",
    "transfer": "the given ticket's mask, rewound",
    "transfer_random": "its random control",
}

_PAIRS = (
    ("early_bird", "ticket"),
    ("pretrained", "ticket"),
    ("transfer", "transfer_random"),
    ("transfer", "ticket"),
)
"""Compared beside the verdict's pairs, where both were trained."""


@dataclass(frozen=True)
class LotteryReport:
    """All seeds of one project. ``merit_label`` names the merit; ``settings`` are the keys of ``lottery``."""

    project: str
    merit_label: str
    settings: dict[str, Any]
    seeds: tuple[SeedResult, ...]
    verdict: Verdict
    differences: tuple[PairedDifference, ...]
    remarks: tuple[str, ...] = ()

    def merits(self, condition: str) -> list[float]:
        """Merit per seed."""
        return merits(self.seeds, condition)

    def conditions(self) -> tuple[str, ...]:
        """Names in the order of the tables."""
        return tuple(self.seeds[0].conditions)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not a number is None."""
        return _plain(asdict(self))  # type: ignore[no-any-return]


def make_report(
    project: str,
    merit_label: str,
    settings: dict[str, Any],
    seeds: Sequence[SeedResult],
    confidence: float,
    remarks: Sequence[str] = (),
) -> LotteryReport:
    """The report. Raises DataError without seeds, or when a merit is not finite."""
    if not seeds:
        raise DataError("there is no seed to report")
    ticket, redrawn, random, dense = (merits(seeds, name) for name in ("ticket", "redrawn", "random", "dense"))
    trained = seeds[0].conditions
    rewound_to = trained["ticket"].start_step / trained["dense"].steps
    verdict = three_condition_verdict(ticket, redrawn, random, dense, confidence, rewound_to)
    differences = tuple(
        paired_difference(merits(seeds, first), merits(seeds, second), (first, second), confidence)
        for first, second in _PAIRS
        if first in trained and second in trained
    )
    return LotteryReport(project, merit_label, settings, tuple(seeds), verdict, differences, tuple(remarks))


def merits(seeds: Sequence[SeedResult], condition: str) -> list[float]:
    """Merit of one condition per seed."""
    return [seed.conditions[condition].figures[MERIT] for seed in seeds]


def condition_rows(report: LotteryReport) -> list[tuple[str, ...]]:
    """Cells of the table of conditions: name, what it is, sparsity, kept weights, merit, training and search steps."""
    rows: list[tuple[str, ...]] = []
    for name in report.conditions():
        found = [seed.conditions[name] for seed in report.seeds]
        values = report.merits(name)
        spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        remarks = list(dict.fromkeys(entry.remark for entry in found if entry.remark))
        rows.append(
            (
                name,
                DESCRIPTIONS[name] + (f"; {', '.join(remarks)}" if remarks else ""),
                f"{_mean(found, 'sparsity'):.4f}",
                f"{_mean(found, 'kept_weights'):.0f}",
                f"{np.mean(values):.4f}{spread}",
                f"{_mean(found, 'steps'):.0f}",
                f"{_mean(found, 'search_steps'):.0f}",
            )
        )
    return rows


CONDITION_COLUMNS = ("condition", "what it is", "sparsity", "kept weights", "merit", "steps", "steps before")


def difference_rows(report: LotteryReport) -> list[tuple[str, ...]]:
    """Cells of the table of differences: which, mean, interval, what it says."""
    verdict = report.verdict
    rows: list[tuple[str, ...]] = []
    for entry in (verdict.against_redrawn, verdict.against_random, verdict.against_dense, *report.differences):
        interval = "-" if math.isnan(entry.low) else f"{entry.low:+.4f} .. {entry.high:+.4f}"
        says = {1: "better", 0: "no difference shown", -1: "worse"}[entry.sign]
        few = len(entry.values) < LEAST_SEEDS
        rows.append(
            (f"{entry.first} - {entry.second}", f"{entry.mean:+.4f}", interval, "too few seeds" if few else says)
        )
    return rows


def difference_columns(report: LotteryReport) -> tuple[str, ...]:
    """Heads of the table of differences."""
    return ("difference", "mean", f"{100 * report.verdict.against_redrawn.confidence:g} % interval", "")


def early_bird_text(report: LotteryReport) -> str:
    """Early birds against full tickets in words."""
    birds = [seed.conditions["early_bird"] for seed in report.seeds]
    full = [seed.conditions["ticket"] for seed in report.seeds]
    difference = next(entry for entry in report.differences if entry.first == "early_bird")
    share = _mean(birds, "search_steps") / max(1.0, _mean(full, "search_steps"))
    interval = "" if math.isnan(difference.low) else f" ({difference.low:+.4f} .. {difference.high:+.4f})"
    says = {
        1: "the early birds are better",
        0: "no difference is shown",
        -1: "the full tickets are better",
    }[difference.sign]
    if len(report.seeds) < LEAST_SEEDS:
        says = f"not a verdict with fewer than {LEAST_SEEDS} seeds"
    return (
        f"After equal training ({_mean(birds, 'steps'):.0f} steps each) the early birds' {report.merit_label} differs "
        f"from that of the full tickets by {difference.mean:+.4f}{interval}: {says}. Their search took "
        f"{100 * share:.0f} % of the steps of the full search."
    )


def markdown(report: LotteryReport) -> str:
    """The report for a reader."""
    settings = ", ".join(f"{key} {value}" for key, value in report.settings.items() if value is not None)
    n = len(report.seeds)
    lines = [
        f"# Lottery tickets of {report.project}",
        "",
        f"**{report.verdict.text}**",
        "",
        f"Merit is {report.merit_label} on test events, which nothing was chosen by; mean and standard deviation over "
        f"{n} seeds. `steps` are optimiser steps of the last training, the same for every sparse network; `steps "
        "before` were spent to find the mask, and to come to the step that is rewound to.",
        "",
        *_table(CONDITION_COLUMNS, condition_rows(report)),
        "",
        "Differences are taken seed by seed; the interval is Student's t.",
        "",
        *_table(difference_columns(report), difference_rows(report)),
        "",
        early_bird_text(report),
        "",
        "## Rounds of the search",
        "",
        "Every network was trained to the end before it was judged.",
        "",
        *_table(("round", "sparsity", "kept weights", "merit", "steps", "seconds"), _round_rows(report)),
        "",
    ]
    transfer = report.seeds[0].transfer
    if transfer is not None:
        rows = [(entry.layer or "-", entry.source or "-", entry.how, entry.reason or "-") for entry in transfer.layers]
        lines += ["## Transfer of the mask", "", *_table(("layer", "from", "by", "why not"), rows), ""]
    lines += [f"{remark}\n" for remark in report.remarks]
    lines += [f"Settings: {settings}.", ""]
    return "\n".join(lines)


def _round_rows(report: LotteryReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for found in zip(*(seed.rounds for seed in report.seeds), strict=True):
        values = [entry.figures[MERIT] for entry in found]
        spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        seconds = float(np.mean([entry.seconds for entry in found]))
        rows.append(
            (
                str(found[0].round),
                f"{found[0].sparsity:.4f}",
                str(found[0].kept_weights),
                f"{np.mean(values):.4f}{spread}",
                str(found[0].steps),
                f"{seconds:.1f}",
            )
        )
    return rows


def conditions_csv(report: LotteryReport) -> str:
    """One row per seed and condition."""
    rows = []
    for seed in report.seeds:
        for entry in seed.conditions.values():
            row = asdict(entry)
            figures = row.pop("figures")
            for nested in ("layer_sparsity", "distances"):
                row.pop(nested)
            rows.append({"seed": seed.seed, **row, **figures})
    return _csv(rows)


def rounds_csv(report: LotteryReport) -> str:
    """One row per seed and round."""
    rows = []
    for seed in report.seeds:
        for entry in seed.rounds:
            row = asdict(entry)
            rows.append({"seed": seed.seed, **{key: row[key] for key in row if key != "figures"}, **row["figures"]})
    return _csv(rows)


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (columns, ["---"] * len(columns), *rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _mean(found: Sequence[Condition], name: str) -> float:
    return float(np.mean([getattr(entry, name) for entry in found]))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
