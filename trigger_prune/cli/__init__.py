"""The command ``trigger-prune``: thin commands over the library, one file per group. Heavy imports are inside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from trigger_prune.cli import (
    budget,
    cost,
    data,
    doctor,
    entry,
    lottery,
    precision,
    project,
    qkeras,
    reports,
    run,
    sensitivity,
    store,
    trials,
    two_stage,
    validate,
    verify,
)

app = typer.Typer(
    name="trigger-prune",
    help="Prune, quantise, export and prove neural networks for FPGA level-1 triggers.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import trigger_prune

        print(f"trigger-prune {trigger_prune.__version__}")
        raise typer.Exit


@app.callback(
    epilog="Examples: [cyan]trigger-prune init my_trigger[/] | [cyan]trigger-prune check my_trigger[/] | "
    "[cyan]trigger-prune run my_trigger[/]"
)
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Prune, quantise, export and prove neural networks for FPGA level-1 triggers."""


Commands = Iterable[tuple[str, Callable[..., None], tuple[str, ...]]]


def _add(to: typer.Typer, commands: Commands) -> None:
    for name, command, examples in commands:
        to.command(name, epilog="Examples:\n\n" + "\n\n".join(f"[cyan]{line}[/]" for line in examples))(command)


def _group(commands: Commands, name: str, description: str) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=description)
    _add(group, commands)
    app.add_typer(group, name=name)


_add(app, (*run.COMMANDS, *project.COMMANDS, *budget.COMMANDS, *sensitivity.COMMANDS, *lottery.COMMANDS))
_add(app, (*trials.COMMANDS, *entry.COMMANDS, *precision.COMMANDS, *two_stage.COMMANDS))
_add(app, (*doctor.COMMANDS, *validate.COMMANDS, *verify.COMMANDS))
_group(reports.COMMANDS, "reports", "Read and compare reports of Vivado HLS, Vitis HLS and Vivado.")
_group(cost.COMMANDS, "cost", "Estimates of the HLS cost: predict, calibrate on reports, evaluate.")
_group(qkeras.COMMANDS, "qkeras", "QKeras models with the same bits: write, read, train, verify.")
_group(data.COMMANDS, "data", "Simulated events: make them with Pythia 8, and what made them.")
_group(store.COMMANDS, "store", "The store of measured reports: list, share, clean up.")


def main() -> None:
    """Entry point of the command."""
    app()
