"""The command sensitivity: which layers, structures, bits and inputs matter, as tables and figures."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trigger_prune.cli.output import (
    DebugOption,
    OutOption,
    ProjectArgument,
    SeedOption,
    SetOption,
    errors_shown,
    make_console,
    output_folder,
)

if TYPE_CHECKING:
    from trigger_prune.sensitivity.findings import SensitivityScan
    from trigger_prune.sensitivity.tolerance import LayerLimit

FOLDER = "sensitivity"
"""Folder of the results, inside the output folder."""


class Part(StrEnum):
    """Events that judge."""

    VALIDATION = "validation"
    TEST = "test"


def _list_option(what: str, example: str) -> Any:
    text = f"{what}, separated by commas, e.g. [cyan]{example}[/]."
    return typer.Option(metavar="LIST", help=text, show_default=False)


def sensitivity(
    project: ProjectArgument,
    criteria: Annotated[str | None, _list_option("Importance criteria", "magnitude_l1,taylor_fisher")] = None,
    structures: Annotated[str | None, _list_option("Structures", "weight,neuron")] = None,
    sparsities: Annotated[str | None, _list_option("Sparsities", "0.5,0.7,0.9")] = None,
    bits: Annotated[str | None, _list_option("Weight bits tried of each layer", "3,4,5")] = None,
    activation_bits: Annotated[str | None, _list_option("Activation bits tried behind each layer", "3,4,5")] = None,
    part: Annotated[Part, typer.Option(help="Events that judge.")] = Part.VALIDATION,
    max_events: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Judge on so many of them, drawn at random.")
    ] = None,
    interval_width: Annotated[
        float | None,
        typer.Option(
            metavar="WIDTH",
            help="Statistical mode: a point is done when the interval of its change of the objective is no wider than "
            "this, or than a fifth of the change.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, metavar="DROP", help="Drop of the objective that is allowed, for the limits.")
    ] = 0.01,
    cost: Annotated[bool, typer.Option(help="LUTs and latency of every point by the analytic model.")] = True,
    figures: Annotated[bool, typer.Option(help="Draw curves and heat maps.")] = True,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the files.")] = False,
    debug: DebugOption = False,
) -> None:
    """Prune, quantise or remove one thing at a time in the trained network, and measure what it costs.

    Trains the project first where that is not done. Writes tables (CSV, Parquet) and figures (SVG) into
    OUT/sensitivity: every network of layers x criteria x structures x bits x sparsities, every input, and the largest
    sparsity of each layer within the tolerance. Defaults come from the section `sensitivity` of project.yaml.
    """
    with errors_shown(debug, "stopped; finished stages are kept, the scan starts anew"):
        from trigger_prune.config.load import load_project
        from trigger_prune.pipeline.sensitivity_scan import ScanRequest, scan_project
        from trigger_prune.sensitivity.table import INPUTS, LIMITS, POINTS, input_rows, point_rows, write_tables
        from trigger_prune.sensitivity.tolerance import max_sparsities

        loaded = load_project(project, overrides or (), seed)
        request = ScanRequest(
            criteria=_words(criteria),
            structures=_words(structures),
            sparsities=_numbers(sparsities, "--sparsities", float),
            bits=_numbers(bits, "--bits", int),
            activation_bits=_numbers(activation_bits, "--activation-bits", int),
            part=part.value,
            max_events=max_events,
            interval_width=interval_width,
            with_cost=cost,
        )
        folder = output_folder(project, out)
        console = None if quiet else make_console()
        found, figure = scan_project(loaded, request, folder, console)
        limits = max_sparsities(found.points, tolerance, figure)
        tables = {
            POINTS: point_rows(found.points),
            INPUTS: input_rows(found.inputs),
            LIMITS: [vars(limit) for limit in limits],
        }
        written, note = write_tables(tables, folder / FOLDER)
        if figures:
            from trigger_prune.report.sensitivity_plots import save_figures

            written += save_figures(found.points, folder / FOLDER, None)
        if not quiet:
            _print(found, limits, figure, tolerance)
        for file in written:
            print(f"wrote {file}")
        if note is not None:
            print(note)


def _print(found: SensitivityScan, limits: list[LayerLimit], figure: str, tolerance: float) -> None:
    from rich.table import Table

    console = make_console()
    table = Table(
        title=f"Largest scanned sparsity that costs no more than {tolerance:g} of {figure}", title_justify="left"
    )
    for heading in ("layer", "criterion", "structure", "weight bits", "sparsity", "surely", "LUT of the network"):
        table.add_column(heading)
    for limit in limits:
        table.add_row(
            limit.layer,
            limit.criterion,
            limit.structure,
            "own" if limit.weight_bits is None else str(limit.weight_bits),
            *("none" if value is None else f"{value:g}" for value in (limit.sparsity, limit.sure_sparsity)),
            "" if limit.lut is None else f"{limit.lut}",
        )
    console.print(table)
    unpruned = ", ".join(
        f"{name} {value.value:.4f} ({value.low:.4f} to {value.high:.4f})" for name, value in found.baseline.items()
    )
    console.print(f"unpruned: {unpruned}; {len(found.points)} networks, {found.events} events")
    console.print(f"intervals: {found.intervals}")


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str | None, option: str, kind: type) -> tuple[Any, ...] | None:
    from trigger_prune.errors import ConfigError

    words = _words(text)
    if words is None:
        return None
    try:
        return tuple(kind(word) for word in words)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}", hint="numbers separated by commas") from error


COMMANDS = (
    (
        "sensitivity",
        sensitivity,
        (
            "trigger-prune sensitivity hls_projects/jet_tagger --criteria magnitude_l1,taylor_fisher",
            "trigger-prune sensitivity my_trigger --structures weight,neuron --bits 3,4 --sparsities 0.5,0.7,0.9",
            "trigger-prune sensitivity my_trigger --interval-width 0.01 --part test",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
