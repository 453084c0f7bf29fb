"""Commands about the vendor tools' reports: show, diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.cli.output import EXIT_FAILED, DebugOption, errors_shown, make_console, show_error

if TYPE_CHECKING:
    from rich.table import Table

    from trigger_prune.cost.report import HardwareReport
    from trigger_prune.synthesis.parsers.discover import Solution

ReportPath = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="A report, a solution, a project folder of hls4ml, or a folder with several of them.",
        show_default=False,
    ),
]
_QUANTITIES = (
    ("latency_cycles", "latency, cycles"),
    ("latency_best_cycles", "  best case"),
    ("latency_ns", "latency, ns"),
    ("ii", "interval, cycles"),
    ("ii_min", "  smallest"),
)
_RESOURCES = ("lut", "ff", "dsp", "bram18", "uram")
_CLOCKS = (
    ("clock_period_ns", "target clock, ns"),
    ("estimated_clock_ns", "estimated clock, ns"),
    ("clock_uncertainty_ns", "uncertainty, ns"),
    ("achieved_clock_ns", "achieved clock, ns"),
    ("wns_ns", "worst slack, ns"),
    ("tns_ns", "total negative slack, ns"),
)
_COMPARED = (
    *("clock_period_ns", "estimated_clock_ns", "achieved_clock_ns", "wns_ns"),
    *("latency_cycles", "latency_ns", "ii", *_RESOURCES),
)


def show(
    path: ReportPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; the document is described below.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show what synthesis reports say: clocks, latency, resources, layers, and why a run failed.

    Reads the reports of Vivado HLS, Vitis HLS and Vivado. Stages stand side by side and are never mixed. What no report
    states is a dash. The exit code is 1 when a report is broken or contradicts another one.

    The JSON document has `format` (1) and a list `solutions`, each with `folder`, `name`, `top`, `core`; `reports`: one
    hardware report per stage and source, with `latency_ns`, `latency_best_ns`, `timing_met`; `failure`: null or
    `cause`, `line`, `line_number`, `hint`; `problems`: texts; `files`: `path`, `kind`, `sha256`. Null = unknown.
    """
    with errors_shown(debug):
        from trigger_prune.synthesis.parsers.discover import load_reports

        solutions = load_reports(path, strict=False)
        if as_json:
            import json

            print(json.dumps({"format": 1, "solutions": [_document(solution) for solution in solutions]}, indent=2))
        else:
            for solution in solutions:
                _print_solution(solution)
        problems = [problem for solution in solutions for problem in solution.problems]
        for problem in problems:
            show_error(problem)
        if problems:
            raise typer.Exit(EXIT_FAILED)


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Reports of one design.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Reports of another.", show_default=False)],
    stage: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Compare only csynth, cosim, vsynth or pnr.", show_default=False),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Compare two designs stage by stage: what changed, absolutely and relatively, and in which layers.

    Only equal stages of equal tools are compared; having none in common is an error. Differences do not change the exit
    code.
    """
    with errors_shown(debug):
        for a, b in _pairs(first, second, stage):
            console = make_console()
            console.print(_difference_table(a, b))
            layers = _layer_differences(a, b)
            if layers is not None:
                console.print(layers)


def _document(solution: Solution) -> dict[str, object]:
    import json

    from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports

    failure = solution.failure
    return {
        "folder": str(solution.folder),
        "name": solution.name,
        "top": solution.top,
        "core": solution.core,
        "reports": [
            {
                **json.loads(report.to_json()),
                "latency_ns": report.latency_ns,
                "latency_best_ns": report.latency_best_ns,
                "timing_met": report.timing_met,
            }
            for report in to_hardware_reports(solution)
        ],
        "failure": failure
        and {
            "cause": failure.cause.value,
            "line": failure.line,
            "line_number": failure.line_number,
            "hint": failure.cause.hint,
        },
        "problems": list(solution.problems),
        "files": [{"path": str(file.path), "kind": file.kind, "sha256": file.text_sha256} for file in solution.files],
    }


def _print_solution(solution: Solution) -> None:
    from rich.table import Table
    from rich.text import Text

    from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports

    console = make_console()
    reports = to_hardware_reports(solution)
    name = solution.top or "(no C synthesis report)"
    core = f" around {solution.core}" if solution.core else ""
    console.print(Text(f"{name}{core}  {solution.folder}", style="bold"))
    if solution.failure is not None:
        failure = solution.failure
        console.print(Text(f"the run failed: {failure.cause.value.replace('_', ' ')}", style="red"))
        console.print(Text(f"  log line {failure.line_number}: {failure.line}\n  -> {failure.cause.hint}"))
    for status in (report.details["status"] for report in reports if "status" in report.details):
        console.print(Text(f"co-simulation: {status}"))
    if reports:
        offered = next((report.available for report in reports if report.available is not None), None)
        table = Table("", *(_heading(report) for report in reports), *(["available"] if offered else []))
        for column in table.columns[1:]:
            column.justify = "right"
        for key, label in (*_CLOCKS, *_QUANTITIES):
            cells = [_number(getattr(report, key)) for report in reports]
            if any(cell != "-" for cell in cells):
                table.add_row(label, *cells)
        met = {True: "yes", False: "NO", None: "-"}
        table.add_row("timing met", *(met[report.timing_met] for report in reports))
        for key in _RESOURCES:
            of_part = [_number(getattr(offered, key))] if offered else []
            table.add_row(key.upper(), *(_share(report, key) for report in reports), *of_part)
        console.print(table)
    for report in reports:
        if report.layers:
            console.print(_layer_table(report))


def _heading(report: HardwareReport) -> str:
    return f"{report.stage.value}\n{report.tool} {report.tool_version}".rstrip() + f"\n{report.part}"


def _layer_table(report: HardwareReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("layer", "latency", "interval", *(key.upper() for key in _RESOURCES), title=f"{report.stage.label}")
    for column in table.columns[1:]:
        column.justify = "right"
    for layer in report.layers:
        values = (layer.latency_cycles, layer.ii, *(getattr(layer, key) for key in _RESOURCES))
        table.add_row(Text(layer.name, overflow="fold"), *map(_number, values))
    return table


def _pairs(first: Path, second: Path, stage: str | None) -> list[tuple[HardwareReport, HardwareReport]]:
    from trigger_prune.errors import StageMismatchError

    sides = [_one_design(path, stage) for path in (first, second)]
    pairs: list[tuple[HardwareReport, HardwareReport]] = []
    for a in sides[0]:
        same = [b for b in sides[1] if (b.stage, b.tool) == (a.stage, a.tool)]
        # Two netlists of one stage: those from files of one name belong together.
        named = [b for b in same if Path(b.details["file"]).name == Path(a.details["file"]).name]
        pairs += [(a, b) for b in (named or same)[:1]]
    if not pairs:
        stated = [", ".join(report.source for report in side) or "nothing" for side in sides]
        raise StageMismatchError(
            f"nothing to compare: {first} has {stated[0]}; {second} has {stated[1]}",
            hint="run both designs through the same stage of the same tool",
        )
    return pairs


def _one_design(path: Path, stage: str | None) -> list[HardwareReport]:
    from trigger_prune.cost.report import CostStage
    from trigger_prune.errors import ConfigError
    from trigger_prune.synthesis.parsers.discover import load_reports
    from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports

    if stage is not None and stage not in list(CostStage):
        raise ConfigError(f"there is no stage {stage}", hint=f"the stages are {', '.join(CostStage)}")
    solutions = load_reports(path)
    if len(solutions) > 1:
        names = ", ".join(str(solution.folder) for solution in solutions[:3])
        raise ConfigError(f"{path} holds {len(solutions)} designs ({names}, ...)", hint="name one of them")
    return [report for report in to_hardware_reports(solutions[0]) if stage in (None, report.stage.value)]


def _difference_table(a: HardwareReport, b: HardwareReport) -> Table:
    from rich.table import Table

    a.require_same_stage(b)
    table = Table("", "A", "B", "B - A", "change", title=f"{a.stage.label}, {a.tool}")
    for column in table.columns[1:]:
        column.justify = "right"
    for key in _COMPARED:
        left, right = getattr(a, key), getattr(b, key)
        if left is not None or right is not None:
            table.add_row(key, *_change(left, right))
    return table


def _layer_differences(a: HardwareReport, b: HardwareReport) -> Table | None:
    from rich.table import Table
    from rich.text import Text

    others = {layer.name: layer for layer in b.layers}
    table = Table("layer", "", "A", "B", "B - A", "change", title="layers of both that differ")
    for layer in a.layers:
        other = others.get(layer.name)
        for key in ("latency_cycles", "ii", *_RESOURCES) if other is not None else ():
            left, right = getattr(layer, key), getattr(other, key)
            if left != right:
                table.add_row(Text(layer.name, overflow="fold"), key, *_change(left, right))
    return table if table.row_count else None


def _change(left: float | None, right: float | None) -> tuple[str, str, str, str]:
    if left is None or right is None:
        return _number(left), _number(right), "-", "-"
    relative = f"{100 * (right - left) / left:+.1f} %" if left else "-"
    return _number(left), _number(right), f"{right - left:+.6g}", relative


def _share(report: HardwareReport, key: str) -> str:
    used = getattr(report, key)
    offered = None if report.available is None else getattr(report.available, key)
    if used is None or not offered:
        return _number(used)
    return f"{used} ({100 * used / offered:.2f} %)"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.6g}"


COMMANDS = (
    (
        "show",
        show,
        (
            "trigger-prune reports show my_trigger/build/hls",
            "trigger-prune reports show myproject_prj/solution1/syn/report/myproject_csynth.xml",
            "trigger-prune reports show old_projects --json > reports.json",
        ),
    ),
    (
        "diff",
        diff,
        ("trigger-prune reports diff dense_project pruned_project", "trigger-prune reports diff a b --stage vsynth"),
    ),
)
"""Name, function and examples of every command of this file."""
