"""The command budget: the best network for every budget of a grid."""

from __future__ import annotations

from typing import Annotated, Any

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


def budget(
    project: ProjectArgument,
    lut: Annotated[
        str | None, typer.Option("--lut", metavar="N,N,...", help="Numbers of LUTs.", show_default=False)
    ] = None,
    latency_ns: Annotated[
        str | None, typer.Option("--latency-ns", metavar="NS,NS,...", help="Latencies in ns.", show_default=False)
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the folder.")] = False,
    debug: DebugOption = False,
) -> None:
    """Find the best network for every pair of a latency and a number of LUTs, in one go.

    Training is done once, what a report teaches holds for all budgets, and a network that fits several serves them all.
    The solver chooses every layer's sparsity (prune.scope=solver); section refine holds for every budget. A stopped
    run goes on with the same command.
    """
    with errors_shown(debug, "stopped; run the same command to resume"):
        from trigger_prune.config.load import load_project
        from trigger_prune.pipeline.runner import run_pipeline

        settings = ["prune.scope=solver", *(overrides or ())]
        settings += [f"front.lut={_numbers('--lut', lut, int)}"] if lut else []
        settings += [f"front.latency_ns={_numbers('--latency-ns', latency_ns, float)}"] if latency_ns else []
        loaded = load_project(project, settings, seed)
        from trigger_prune.pipeline.stages.front import FOLDER, FRONT_STAGES, grid

        grid(loaded.config)
        folder = output_folder(project, out)
        console = None if quiet else make_console()
        result = run_pipeline(loaded, FRONT_STAGES, folder, console=console)
        if console is not None:
            _show(console, result.result("front"))
        print(f"Front: {folder / FOLDER}")


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> str:
    """A list in YAML from numbers with commas between them."""
    from trigger_prune.errors import ConfigError

    try:
        return str([kind(part) for part in text.split(",")])
    except ValueError:
        raise ConfigError(
            f"{option} {text}: not numbers with commas between them", hint=f"{option} 2000,5000,10000"
        ) from None


def _show(console: Any, rows: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("LUT limit", "latency limit", "merit (test)", "accuracy", "LUT", "latency", "II", "model")
    for row in rows:
        cost = row.cost
        limit = "-" if row.latency_limit_ns is None else f"{row.latency_limit_ns:g} ns"
        if row.network is None:
            table.add_row(_text(row.lut_limit), limit, *[""] * 5, Text(row.error.splitlines()[0]))
            continue
        latency = cost.get("latency_ns")
        table.add_row(
            _text(row.lut_limit),
            limit,
            f"{abs(row.test_merit):.4f}",
            "-" if row.test_accuracy is None else f"{row.test_accuracy:.4f}",
            _text(cost.get("lut")),
            "-" if latency is None else f"{latency:g} ns",
            _text(cost.get("ii")),
            row.network,
        )
    console.print(table)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


COMMANDS = (
    (
        "budget",
        budget,
        (
            "trigger-prune budget hls_projects/jet_tagger --lut 2000,5000,10000,20000 --latency-ns 50,75,100,150",
            "trigger-prune budget my_trigger --lut 5000,10000 --set prune.structure=neuron",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
