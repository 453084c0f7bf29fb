"""The command trials: every network that a project's pruning measured."""

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


def trials(
    project: ProjectArgument,
    export: Annotated[
        int | None,
        typer.Option("--export", metavar="ROUND", help="Write the model of this round.", show_default=False),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Folder to make; default OUT/trials/roundN.", show_default=False),
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """List every network that the pruning of a project measured, and export any of them.

    The project must have been run up to stage prune, with the same keys.
    """
    with errors_shown(debug):
        from trigger_prune.config.load import load_project
        from trigger_prune.errors import ArtefactError
        from trigger_prune.pipeline.runner import run_pipeline, stored_stages
        from trigger_prune.pipeline.stages import STAGES
        from trigger_prune.pipeline.stages.trials import export_trial, trial_table

        loaded = load_project(project, overrides or (), seed)
        folder = output_folder(project, out)
        if not stored_stages(loaded, STAGES, folder)["prune"]:
            raise ArtefactError(
                f"stage prune of this project is not in {folder}", hint=f"trigger-prune run {project} --until prune"
            )
        result = run_pipeline(loaded, STAGES, folder, "prune")
        if export is None:
            make_console().print(trial_table(result))
            return
        into = to or folder / "trials" / f"round{export}"
        problem = export_trial(loaded, result, export, into)
        print(f"wrote {into}" + (f", but no hls4ml project: {problem}" if problem else ""))


COMMANDS = (
    (
        "trials",
        trials,
        (
            "trigger-prune trials hls_projects/jet_tagger",
            "trigger-prune trials hls_projects/jet_tagger --export 2 --to smaller_model",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
