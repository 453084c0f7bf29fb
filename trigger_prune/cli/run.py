"""Commands about the pipeline: run, stages, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

REPORT_STAGE = "report"
REPORT_FILE = "report.html"


def run(
    project: ProjectArgument,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Stop after this stage.", show_default=False)
    ] = None,
    from_stage: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            help="Compute this stage, and all that depend on it, again.",
            show_default=False,
        ),
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the report file.")] = False,
    debug: DebugOption = False,
) -> None:
    """Run a project: train, quantise, prune to the budget, export, verify, measure, report.

    Finished stages are loaded, not computed again. A stopped or killed run goes on where it was with the same command;
    so does one that waits for reports of tools on another machine (cost.offline; exit code 3).
    """
    resume = "stopped; run the same command to resume"
    if from_stage is not None:
        resume = "stopped; run the same command without --from to resume"
    with errors_shown(debug, resume):
        from trigger_prune.config.load import load_project
        from trigger_prune.pipeline.runner import run_pipeline

        loaded = load_project(project, overrides or (), seed)
        from trigger_prune.pipeline.stages import STAGES

        folder = output_folder(project, out)
        console = None if quiet else make_console()
        result = run_pipeline(loaded, STAGES, folder, until, from_stage, console)
        if REPORT_STAGE in result.runs and (folder / REPORT_FILE).is_file():
            print(f"Report: {folder / REPORT_FILE}")
        elif not quiet:
            print(f"Stopped after {list(result.runs)[-1]}; results are in {folder}")


def stages(
    project: Annotated[
        Path | None,
        typer.Argument(metavar="[PROJECT]", help="Also tell which stages are finished.", show_default=False),
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """List the stages in order: what each reads, and which keys of project.yaml re-run it."""
    with errors_shown(debug):
        from rich.table import Table

        from trigger_prune.config.load import load_project
        from trigger_prune.pipeline.runner import stored_stages
        from trigger_prune.pipeline.stages import STAGES

        stored: dict[str, bool] = {}
        if project is not None:
            stored = stored_stages(load_project(project, overrides or (), seed), STAGES, output_folder(project, out))
        table = Table("stage", "what it does", "reads", "re-run by a change of", *(["finished"] if stored else []))
        for stage in STAGES:
            finished = [("yes" if stored[stage.name] else "no")] if stored else []
            keys = ", ".join((*stage.config_keys, *(["files"] if stage.files else [])))
            table.add_row(stage.name, stage.title, ", ".join(stage.inputs), keys, *finished)
        make_console().print(table)


def clean(project: ProjectArgument, out: OutOption = None, debug: DebugOption = False) -> None:
    """Remove all stored results of a project; the next run computes everything. Reports stay."""
    with errors_shown(debug):
        from trigger_prune.config.load import find_project_file
        from trigger_prune.pipeline.artefacts import ArtefactStore, locked

        find_project_file(project)
        folder = output_folder(project, out)
        freed = 0
        if folder.is_dir():
            with locked(folder):
                freed = ArtefactStore(folder, print).clear()
        print(f"removed {freed / 2**20:.1f} MiB of stored results from {folder}")


COMMANDS = (
    (
        "run",
        run,
        (
            "trigger-prune run hls_projects/jet_tagger",
            "trigger-prune run my_trigger --until train --set train.epochs=20",
            "trigger-prune run my_trigger --set data.path=events.npz --seed 2 --out trial2",
            "trigger-prune run my_trigger --from prune",
        ),
    ),
    ("stages", stages, ("trigger-prune stages", "trigger-prune stages my_trigger --set budget.lut=2000")),
    ("clean", clean, ("trigger-prune clean my_trigger",)),
)
"""Name, function and examples of every command of this file."""
