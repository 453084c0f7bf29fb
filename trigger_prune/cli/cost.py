"""Commands about the cost estimates: calibrate, evaluate, predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.cli.output import DebugOption, errors_shown, make_console

if TYPE_CHECKING:
    from trigger_prune.cost.calibration.evaluate import Line
    from trigger_prune.cost.hls.calibration import Calibration
    from trigger_prune.cost.report import HardwareReport, LayerCost

ReportsOption = Annotated[
    list[Path],
    typer.Option(
        "--reports",
        metavar="DIR",
        help="Folder below which synthesised hls4ml projects, or published synthesis tables, lie; may be repeated.",
        show_default=False,
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", metavar="FILE", help="A calibration file; default: the one shipped.", show_default=False
    ),
]
QUANTITIES = (
    ("lut", "LUT"),
    ("ff", "FF"),
    ("dsp", "DSP"),
    ("bram18", "BRAM18"),
    ("latency_cycles", "latency"),
    ("ii", "II"),
)


def calibrate(
    reports: ReportsOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Calibration file to write.")] = Path(
        "hls_calibration.json"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Fit the estimates to synthesis reports; errors are those on networks and projects held out of the fit."""
    with errors_shown(debug):
        from datetime import UTC, datetime

        from trigger_prune.cost.calibration.fit import calibrate as fit
        from trigger_prune.errors import CostError
        from trigger_prune.synthesis.calibration.collect import collect_samples

        samples = collect_samples(reports)
        if not samples.layers:
            raise CostError(
                f"none of the reports can be used: {_reasons(samples.skipped)}",
                hint="trigger-prune cost evaluate --reports DIR lists why each was left out",
            )
        console = make_console()
        console.print(
            f"{len(samples.layers)} layers, {len(samples.designs)} designs of {len(samples.projects)} projects; "
            f"{len(samples.skipped)} left out"
        )
        calibration = fit(
            samples, datetime.now(UTC).date().isoformat(), (lambda text: None) if quiet else console.print
        )
        calibration.save(out)
        _print_held_out(calibration)
        print(f"wrote {out}")


def evaluate(
    reports: ReportsOption,
    calibration: CalibrationOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
    show_skipped: Annotated[bool, typer.Option("--skipped", help="Also list what was left out, and why.")] = False,
    debug: DebugOption = False,
) -> None:
    """Compare estimates with synthesis reports: error tables per quantity, project and tool.

    Reports that the calibration was fitted with are named, and left out of the table 'unseen'.
    """
    with errors_shown(debug):
        from trigger_prune.cost.calibration.evaluate import evaluate as compare
        from trigger_prune.synthesis.calibration.collect import collect_samples

        result = compare(collect_samples(reports), _load(calibration))
        if as_json:
            print(result.to_json())
            return
        for name, lines in result.tables.items():
            _print_lines(f"errors, {name} reports", lines)
        print(
            "in 90 %: share inside the 90 % prediction interval, its 95 % Clopper-Pearson interval, and whether that "
            "lies within 85-95 % (yes), reaches into it (perhaps) or not. Reports of one project err together: the "
            "share is less certain than that"
        )
        print(result.verdict)
        if show_skipped:
            for path, reason in result.skipped:
                print(f"left out: {path}: {reason}")
        elif result.skipped:
            print(f"left out: {len(result.skipped)} ({_reasons(result.skipped)}); --skipped lists them")


def predict(
    project: Annotated[Path, typer.Option("--project", metavar="DIR", help="An hls4ml project.", show_default=False)],
    calibration: CalibrationOption = None,
    debug: DebugOption = False,
) -> None:
    """Estimate an hls4ml project layer by layer, beside its synthesis report where there is one."""
    with errors_shown(debug):
        from trigger_prune.cost.hls.model import HlsAnalyticCost
        from trigger_prune.synthesis.calibration.describe import describe_project
        from trigger_prune.synthesis.calibration.project_folder import has_report, read_project

        model = HlsAnalyticCost(_load(calibration))
        if not has_report(project):
            _print_prediction(model.estimate_design(describe_project(project)), None)
            return
        samples = read_project(project, project.name, project.name)
        if not samples.designs:
            from trigger_prune.errors import CostError

            raise CostError(f"{project} cannot be estimated: {_reasons(samples.skipped)}")
        sample = samples.designs[0]
        _print_prediction(model.estimate_design(sample.design), sample.measured)
        for note in sample.notes:
            print(f"note: {note}")


def _load(path: Path | None) -> Calibration:
    from trigger_prune.cost.hls.calibration import Calibration, shipped_calibration

    return shipped_calibration() if path is None else Calibration.load(path)


def _reasons(skipped: tuple[tuple[str, str], ...]) -> str:
    from collections import Counter

    # Many reasons of one kind differ in the names after the colon, or begin with the folder.
    plain = [reason.removeprefix(path).strip() for path, reason in skipped]
    counts = Counter(plain if len(plain) <= 3 else (reason.split(":")[0] for reason in plain))
    return "; ".join(f"{count} x {reason}" for reason, count in counts.most_common(3)) or "nothing was found"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def _print_lines(title: str, lines: tuple[Line, ...]) -> None:
    from rich.table import Table

    table = Table(
        "formulas",
        "samples of",
        "quantity",
        "n",
        "SMAPE %",
        "median %",
        "bias %",
        "R2 log",
        "exact",
        "in 90 %",
        "95 % CL",
        "85-95 %?",
        title=title,
    )
    table.columns[-2].min_width = len("0.00-0.00")
    for line in lines:
        e = line.errors
        table.add_row(
            line.family,
            line.group,
            dict(QUANTITIES)[line.quantity],
            str(e.count),
            _number(e.smape),
            _number(e.median_relative),
            _number(e.bias),
            _number(e.r2_log, 3),
            _number(e.exact, 2),
            _number(e.coverage, 2),
            "-" if e.coverage != e.coverage else f"{e.coverage_low:.2f}-{e.coverage_high:.2f}",
            e.coverage_verdict or "-",
        )
    make_console().print(table)


def _print_held_out(calibration: Calibration) -> None:
    from rich.table import Table

    table = Table("formulas", "quantity", "n", "SMAPE %", "median %", "exact", title="errors on what was held out")
    for family, quantities in sorted(calibration.errors.items()):
        for quantity, errors in quantities.items():
            table.add_row(
                family,
                dict(QUANTITIES)[quantity],
                f"{errors['count']:.0f}",
                _number(errors.get("smape")),
                _number(errors.get("median_relative")),
                _number(errors.get("exact"), 2),
            )
    make_console().print(table)


def _print_prediction(estimate: HardwareReport, measured: HardwareReport | None) -> None:
    from rich.table import Table

    columns = [label for _, label in QUANTITIES]
    table = Table("layer", *columns, title=f"{'estimate (measured)' if measured else 'estimate'}, {estimate.part}")
    found = {layer.name: layer for layer in measured.layers} if measured else {}
    for layer in estimate.layers:
        table.add_row(layer.name, *_cells(layer, found.get(layer.name)))
    table.add_section()
    table.add_row("network", *_cells(estimate, measured))
    table.add_row("90 %", *(_range(estimate.interval_90.get(name)) for name, _ in QUANTITIES))
    make_console().print(table)


def _cells(estimate: LayerCost | HardwareReport, measured: LayerCost | HardwareReport | None) -> list[str]:
    cells = []
    for name, _ in QUANTITIES:
        value, true = getattr(estimate, name), getattr(measured, name, None)
        text = "-" if value is None else str(value)
        cells.append(text if true is None else f"{text} ({true})")
    return cells


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.0f} .. {interval[1]:.0f}"


COMMANDS = (
    (
        "calibrate",
        calibrate,
        (
            "trigger-prune cost calibrate --reports my_syntheses",
            "trigger-prune cost calibrate --reports tables --reports my_syntheses --out site.json",
        ),
    ),
    (
        "evaluate",
        evaluate,
        (
            "trigger-prune cost evaluate --reports my_syntheses",
            "trigger-prune cost evaluate --reports my_syntheses --calibration site.json --json",
        ),
    ),
    ("predict", predict, ("trigger-prune cost predict --project my_trigger/build/hls4ml",)),
)
"""Name, function and examples of every command of this file."""
