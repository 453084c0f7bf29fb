"""The command validate: the estimates against the user's own Vitis or Vivado, on ten small designs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.cli.output import EXIT_FAILED, DebugOption, errors_shown, make_console

if TYPE_CHECKING:
    from trigger_prune.cost.report import HardwareReport
    from trigger_prune.synthesis.hls.tools import Backend
    from trigger_prune.synthesis.validate.build import BuiltDesign, ValidationFolder
    from trigger_prune.synthesis.validate.compare import Comparison
    from trigger_prune.synthesis.validate.measure import Outcome

LABELS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram18": "BRAM18", "latency_cycles": "latency", "ii": "II"}


class BackendName(StrEnum):
    """hls4ml backends whose tools are validated."""

    VITIS = "vitis"
    VIVADO = "vivado"


def validate(
    backend: Annotated[BackendName, typer.Option(help="Vitis HLS, or Vivado HLS (to 2020.1).")] = BackendName.VITIS,
    run: Annotated[bool, typer.Option("--run", help="Run the tools of this machine.")] = False,
    package: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a folder for a machine that has the tools.", show_default=False),
    ] = None,
    read: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Read a folder that was run there.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where --run works; finished designs are kept.")] = Path(
        "validation"
    ),
    part: Annotated[str, typer.Option(help="Full part number.")] = "xcvu13p-flga2577-2-e",
    clock: Annotated[float, typer.Option(metavar="NS", help="Clock period in ns.")] = 5.0,
    steps: Annotated[
        str, typer.Option(metavar="NAMES", help="Steps: csynth, and cosim or vsynth if wanted.")
    ] = "csynth",
    tool_version: Annotated[
        str | None, typer.Option("--tool-version", help="Release to use, e.g. 2023.2.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Designs at once.")] = 1,
    licences: Annotated[
        int | None, typer.Option(min=1, help="Tool runs at once, over all processes.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="Time limit of one design in seconds.")] = 3600.0,
    memory: Annotated[float, typer.Option(metavar="MIB", help="Memory limit of one run.")] = 32768.0,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Store of syntheses; default: yours.", show_default=False)
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Do not keep the reports in the store.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """Compare the cost estimates with your own tools on ten small designs, and let the reports refine them.

    Without --run, --package or --read it only shows the designs and what is expected of them.
    """
    with errors_shown(debug, "stopped; run the same command to go on"):
        from trigger_prune.errors import ConfigError
        from trigger_prune.synthesis.hls.steps import parse_steps

        if sum((run, package is not None, read is not None)) > 1:
            raise ConfigError("--run, --package and --read exclude each other")
        name: Backend = "Vivado" if backend is BackendName.VIVADO else "Vitis"
        chosen = parse_steps(steps)
        if not chosen.csynth:
            raise ConfigError("the steps lack csynth, which everything else builds on", hint="--steps csynth,vsynth")
        if not 0 < clock < 1e6:
            raise ConfigError(f"clock period {clock} ns makes no sense")
        say = _to_stderr if as_json else print
        if read is not None:
            from trigger_prune.synthesis.validate.build import read_validation_folder
            from trigger_prune.synthesis.validate.measure import read_validation

            validation = read_validation_folder(read)
            _conclude(validation, read_validation(validation), store, no_store, as_json)
        elif run:
            from trigger_prune.synthesis.hls.tools import require_hls_tool, with_version
            from trigger_prune.synthesis.validate.build import write_validation_folder
            from trigger_prune.synthesis.validate.measure import RunLimits, run_validation

            tool = with_version(require_hls_tool(tool_version, name))
            validation = write_validation_folder(out, name, part, clock, release=tool.version, say=say)
            limits = RunLimits(timeout, memory, jobs, licences)
            _conclude(validation, run_validation(validation, tool, chosen, limits, say), store, no_store, as_json)
        elif package is not None:
            from trigger_prune.synthesis.validate.build import write_validation_folder
            from trigger_prune.synthesis.validate.package import LAUNCHER, add_launcher

            validation = write_validation_folder(package, name, part, clock, say=say)
            add_launcher(validation, chosen, timeout)
            print(f"Copy {package} to a machine with the tools, run {LAUNCHER} there and copy it back; then")
            print(f"trigger-prune validate --read {package}")
        else:
            _show_designs(name, part, clock)


def _to_stderr(message: str) -> None:
    typer.echo(message, err=True)


def _show_designs(backend: Backend, part: str, clock: float) -> None:
    from rich.table import Table

    from trigger_prune.synthesis.validate.build import build_design, missing_packages, predict
    from trigger_prune.synthesis.validate.designs import DESIGNS

    title = f"Expected of csynth on {part} at {clock:g} ns (nothing was run)"
    table = Table("design", "what it is", *LABELS.values(), title=title, title_justify="left")
    for design in DESIGNS:
        reason = missing_packages(design)
        if reason is not None:
            table.add_row(design.name, f"left out: {reason}".replace("[", r"\["))
            continue
        estimate = predict(build_design(design, backend, part, clock))
        table.add_row(design.name, design.summary, *(_number(getattr(estimate, name)) for name in LABELS))
    make_console().print(table)
    print("--run runs them here, --package DIR writes them for another machine.")


def _conclude(
    validation: ValidationFolder, outcomes: Sequence[Outcome], store: Path | None, no_store: bool, as_json: bool
) -> None:
    """Print the comparison, keep the reports, and leave with an error when a design has no report."""
    from trigger_prune.synthesis.validate.compare import compare_outcomes, rebuild

    rebuilt = rebuild(validation, outcomes)
    comparisons = compare_outcomes(outcomes, rebuilt)
    kept = 0 if no_store else _keep(outcomes, rebuilt, store)
    if as_json:
        _print_json(outcomes, comparisons)
    else:
        _print_tables(validation, outcomes, comparisons)
        if kept:
            print(f"The reports of {kept} designs are in the store.")
    if any(outcome.problem is not None for outcome in outcomes):
        raise typer.Exit(EXIT_FAILED)


def _keep(outcomes: Sequence[Outcome], rebuilt: Mapping[str, BuiltDesign], folder: Path | None) -> int:
    from trigger_prune.synthesis.store.location import default_store_folder
    from trigger_prune.synthesis.store.reports import ReportStore
    from trigger_prune.synthesis.validate.keep import keep_reports

    store = ReportStore(folder or default_store_folder())
    known = [(rebuilt[outcome.entry.name], outcome.reports) for outcome in outcomes if outcome.entry.name in rebuilt]
    return sum(keep_reports(store, built, reports) is not None for built, reports in known)


def _print_tables(validation: ValidationFolder, outcomes: Sequence[Outcome], comparisons: Sequence[Comparison]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from trigger_prune.synthesis.validate.compare import summarise

    console = make_console()
    for stage in dict.fromkeys(entry.stage for entry in comparisons):
        entries = [entry for entry in comparisons if entry.stage is stage]
        title = f"{stage.label}: {_tool(entries[0].measured)}, {validation.part}, {validation.clock_period_ns:g} ns"
        table = Table("design", "", "predicted", "90 % interval", "measured", "error", "within", title=title)
        for entry in entries:
            for number, row in enumerate(entry.rows):
                interval = "-" if row.low is None or row.high is None else f"{row.low:.0f} .. {row.high:.0f}"
                error = "-" if row.relative_error is None else f"{100 * row.relative_error:+.0f} %"
                within = {None: "-", True: "yes", False: "NO"}[row.inside]
                first = entry.name if number == 0 else ""
                cells = (_number(row.predicted), interval, _number(row.measured), error, within)
                table.add_row(first, LABELS[row.quantity], *cells)
        console.print(table)
    lines = Table("stage", "", "designs", "within interval", "median error", "refined by the others", title="Summary")
    for line in summarise(comparisons):
        within = f"{line.inside} of {line.with_interval}" if line.with_interval else "-"
        errors = (f"{100 * value:.0f} %" if value is not None else "-" for value in (line.error, line.error_refined))
        lines.add_row(line.stage.value, LABELS[line.quantity], str(line.designs), within, *errors)
    if comparisons:
        console.print(lines)
    for outcome in outcomes:
        if outcome.problem is not None:
            console.print(escape(f"{outcome.entry.name}: {outcome.problem}"))
    for name, reason in validation.left_out.items():
        console.print(escape(f"{name}: left out, {reason}"))


def _print_json(outcomes: Sequence[Outcome], comparisons: Sequence[Comparison]) -> None:
    import json
    from dataclasses import asdict

    from trigger_prune.synthesis.validate.compare import summarise

    raw = {
        "comparisons": [
            {
                "design": entry.name,
                "stage": entry.stage.value,
                "tool": _tool(entry.measured),
                "rows": [{**asdict(row), "inside": row.inside} for row in entry.rows],
            }
            for entry in comparisons
        ],
        "summary": [asdict(line) for line in summarise(comparisons)],
        "problems": {outcome.entry.name: outcome.problem for outcome in outcomes if outcome.problem is not None},
    }
    print(json.dumps(raw, indent=2))


def _tool(report: HardwareReport) -> str:
    return f"{report.tool} {report.tool_version}".strip()


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


COMMANDS = (
    (
        "validate",
        validate,
        (
            "trigger-prune validate --backend vitis",
            "trigger-prune validate --backend vitis --run --steps csynth,vsynth --licences 2 --jobs 2",
            "trigger-prune validate --backend vivado --package validation --part xcku115-flvb2104-2-i",
            "trigger-prune validate --read validation",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
