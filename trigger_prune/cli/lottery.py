"""The command lottery: tickets, the three-condition test, and the best ticket on the FPGA."""

from __future__ import annotations

from pathlib import Path
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
    from rich.console import Console

    from trigger_prune.prune.lottery.report import LotteryReport


def lottery(
    project: ProjectArgument,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", metavar="N", min=1, help="Set lottery.seeds; fewer than 5 give no verdict.", show_default=False
        ),
    ] = None,
    transfer: Annotated[
        Path | None,
        typer.Option(
            "--transfer",
            metavar="FILE",
            help="Also test the mask of this ticket (build/lottery/ticket.pt of another project or architecture).",
            show_default=False,
        ),
    ] = None,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Quantise, export, verify and measure the best ticket.")
    ] = False,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the report file.")] = False,
    debug: DebugOption = False,
) -> None:
    """Find lottery tickets of a project's network and test them against re-drawn weights and random masks.

    Finished seeds, and the finished rounds of a stopped one, are loaded, not computed again.
    """
    with errors_shown(debug, "stopped; run the same command to go on after the last finished network"):
        from trigger_prune.config.load import load_project
        from trigger_prune.pipeline.runner import run_pipeline

        settings = list(overrides or ())
        if seeds is not None:
            settings.append(f"lottery.seeds={seeds}")
        if transfer is not None:
            settings.append(f"lottery.transfer_from={_quoted(transfer.absolute())}")
        loaded = load_project(project, settings, seed)
        from trigger_prune.pipeline.stages.lottery import FOLDER, lottery_stages
        from trigger_prune.pipeline.stages.lottery_deploy import DEPLOY_FOLDER, deploy_stages

        folder = output_folder(project, out)
        console = None if quiet else make_console()
        stages = deploy_stages(loaded.config) if deploy else lottery_stages(loaded.config)
        result = run_pipeline(loaded, stages, folder, console=console)
        if console is not None:
            _show(console, result.result("lottery").report)
        print(f"Report: {folder / FOLDER / 'lottery.md'}")
        if deploy:
            print(f"Deployed ticket: {folder / FOLDER / DEPLOY_FOLDER / 'deploy.md'}")


def _quoted(path: Path) -> str:
    """A path as YAML text, whatever characters it has."""
    import json

    return json.dumps(str(path))


def _show(console: Console, report: LotteryReport) -> None:
    from rich.table import Table
    from rich.text import Text

    from trigger_prune.prune.lottery.report import (
        CONDITION_COLUMNS,
        condition_rows,
        difference_columns,
        difference_rows,
        early_bird_text,
    )

    merit = f"Merit: {report.merit_label} on test events, {len(report.seeds)} seeds"
    tables: tuple[tuple[Any, Any, str], ...] = (
        (CONDITION_COLUMNS, condition_rows(report), merit),
        (difference_columns(report), difference_rows(report), "Differences, seed by seed"),
    )
    for columns, rows, title in tables:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
    for text in (report.verdict.text, early_bird_text(report)):
        console.print(Text(text))


COMMANDS = (
    (
        "lottery",
        lottery,
        (
            "trigger-prune lottery hls_projects/jet_tagger",
            "trigger-prune lottery my_trigger --seeds 10 --set lottery.sparsity=0.95 --set lottery.rewind_step=0",
            "trigger-prune lottery my_trigger --deploy",
            "trigger-prune lottery my_trigger --set model.args.hidden='[64, 64, 32]' "
            "--transfer my_trigger/build/lottery/ticket.pt --out wider",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
