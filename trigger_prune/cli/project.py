"""Commands about project.yaml: check, init, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trigger_prune.cli.output import (
    EXIT_BAD_INPUT,
    DebugOption,
    ProjectArgument,
    SeedOption,
    SetOption,
    errors_shown,
    make_console,
    show_error,
)


def check(
    project: ProjectArgument, overrides: SetOption = None, seed: SeedOption = None, debug: DebugOption = False
) -> None:
    """Tell whether a project can run: keys, events, model, tools. Trains nothing and writes nothing."""
    with errors_shown(debug):
        from rich.table import Table

        from trigger_prune.config.check import check_project

        report = check_project(project, overrides or (), seed)
        table = Table(show_header=False, box=None)
        for row in report.rows:
            table.add_row(*row)
        make_console().print(table)
        for problem in report.problems:
            show_error(problem)
        if report.problems:
            print(f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}")
            raise typer.Exit(EXIT_BAD_INPUT)
        print("ok")


def init(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Folder to make.", show_default=False)],
    debug: DebugOption = False,
) -> None:
    """Write a new project: a project.yaml in which every key is explained, and a README. Overwrites nothing."""
    with errors_shown(debug):
        from trigger_prune.config.template import init_project

        for file in init_project(name):
            print(f"wrote {file}")
        print(f"next: trigger-prune check {name}")


def schema(
    section: Annotated[
        str | None, typer.Argument(metavar="[SECTION]", help="Only this section.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON schema, for editors.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Markdown, for documents.")] = False,
    debug: DebugOption = False,
) -> None:
    """Explain every key of project.yaml: type, default, allowed values, meaning."""
    with errors_shown(debug):
        from trigger_prune.config import schema as document

        if as_json or as_markdown:
            print(document.schema_json() if as_json else document.schema_markdown())
            return
        from rich.table import Column, Table
        from rich.text import Text

        from trigger_prune.config.keys import key_blocks
        from trigger_prune.errors import ConfigError

        blocks = [block for block in key_blocks() if section is None or block.name == section]
        if not blocks:
            known = ", ".join(block.name for block in key_blocks() if block.name)
            raise ConfigError(f"there is no section {section}", hint=f"the sections are {known}")
        console = make_console()
        for block in blocks:
            key, *others = document.HEADINGS
            table = Table(
                Column(key, no_wrap=True), *others, title=f"{block.name or 'top of the file'}: {block.description}"
            )
            for row in document.schema_rows(block.name):
                table.add_row(*(Text(cell) for cell in row))
            console.print(table)


COMMANDS = (
    ("check", check, ("trigger-prune check my_trigger", "trigger-prune check my_trigger --set data.path=events.npz")),
    ("init", init, ("trigger-prune init my_trigger",)),
    ("schema", schema, ("trigger-prune schema prune", "trigger-prune schema --json > project.schema.json")),
)
"""Name, function and examples of every command of this file."""
