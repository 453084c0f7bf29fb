"""What the commands share: the console, options, and errors without tracebacks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.errors import AwaitingReportsError, ConfigError, DataError, TriggerPruneError, WrongReportError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_WAITING = 3
"""Nothing went wrong: the run waits for reports that are made on another machine."""
EXIT_INTERRUPTED = 130

ProjectArgument = Annotated[
    Path, typer.Argument(metavar="PROJECT", help="Folder with project.yaml, or the file itself.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of project.yaml for this call, e.g. [cyan]train.epochs=20[/]; may be repeated.",
        show_default=False,
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Set the key `seed`.", show_default=False)]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Output folder; default PROJECT/build, of another file than project.yaml PROJECT/build/NAME.",
        show_default=False,
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def make_console() -> Console:
    """A console on standard output that takes nothing but a terminal for a terminal, whatever FORCE_COLOR says."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(force_terminal=terminal, width=None if terminal else 120, highlight=False)


def output_folder(path: Path, out: Path | None) -> Path:
    """``out`` if given, else ``build`` beside project.yaml; of any other file, NAME.yaml, ``build/NAME``."""
    from trigger_prune.config.load import FILE_NAME

    if out is not None:
        return out
    if path.is_dir():
        return path / "build"
    return path.parent / "build" if path.name == FILE_NAME else path.parent / "build" / path.stem


@contextmanager
def errors_shown(debug: bool, resume: str = "stopped") -> Iterator[None]:
    """Turn errors raised on purpose into a message and an exit code; ``resume`` is said after Ctrl-C."""
    try:
        yield
    except AwaitingReportsError as waiting:
        # no error, so no traceback either
        print(f"waiting: {waiting.message}\n  -> {waiting.hint}")
        raise typer.Exit(EXIT_WAITING) from None
    except TriggerPruneError as error:
        if debug:
            raise
        show_error(error.message, error.hint)
        bad_input = isinstance(error, ConfigError | DataError | WrongReportError)
        raise typer.Exit(EXIT_BAD_INPUT if bad_input else EXIT_FAILED) from None
    except KeyboardInterrupt:
        print(f"\n{resume}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def show_error(message: str, hint: str | None = None) -> None:
    """Print ``error: message`` and the hint on standard error."""
    red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}error:{plain} {message}", file=sys.stderr)
    if hint:
        print(f"  -> {hint}", file=sys.stderr)
