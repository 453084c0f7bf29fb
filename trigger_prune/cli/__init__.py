"""The command ``trigger-prune``: thin commands over the library, one file per group. Heavy imports are inside them."""

from __future__ import annotations

from typing import Annotated

import typer

from trigger_prune.cli import project, run

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


for _name, _command, _examples in (*run.COMMANDS, *project.COMMANDS):
    app.command(_name, epilog="Examples:\n\n" + "\n\n".join(f"[cyan]{line}[/]" for line in _examples))(_command)


def main() -> None:
    """Entry point of the command."""
    app()
