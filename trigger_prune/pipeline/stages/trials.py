"""What ``trigger-prune trials`` shows and exports of a finished stage ``prune``."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import make_target
from trigger_prune.errors import ArtefactError
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.model_folder import write_model_folder
from trigger_prune.pipeline.runner import RunResult
from trigger_prune.prune.measured import describe_cost
from trigger_prune.prune.trial_files import network_file
from trigger_prune.quantize.checkpoint import load_network
from trigger_prune.train.outputs import output_count


def trial_table(result: RunResult) -> Table:
    """One row per measured or failed round."""
    pruned = result.result("prune")
    table = Table("round", "phase", "sparsity", "weights", "merit (validation)", "measured cost", "")
    for trial in pruned.trials:
        remark = "deployed" if trial.chosen else "within the budget" if trial.meets_budget else ""
        table.add_row(
            str(trial.round),
            trial.phase,
            f"{trial.sparsity:.3f}",
            str(trial.nonzeros),
            f"{abs(trial.validation_merit):.4f}",
            describe_cost(trial.cost),
            remark,
        )
    for failure in pruned.failures:
        first = failure.error.splitlines()[0]
        table.add_row(str(failure.round), failure.phase, "", str(failure.nonzeros), "", first, "not measured")
    return table


def export_trial(project: LoadedProject, result: RunResult, number: int, into: Path) -> str | None:
    """Write the model folder of round ``number``; returns why there is no hls4ml project, or None.

    Raises ArtefactError for a round that was not measured, ExportError when ``into`` exists.
    """
    pruned, events, config = result.result("prune"), result.result("load"), project.config
    trial = next((trial for trial in pruned.trials if trial.round == number), None)
    if trial is None or pruned.trials_folder is None:
        rounds = ", ".join(str(each.round) for each in pruned.trials)
        raise ArtefactError(f"no network was measured in round {number}", hint=f"measured rounds: {rounds}")
    model = build_model(
        config.model,
        events.train.event_shape,
        output_count(events.train, config.task, config.teacher),
        project.project_dir,
    )
    return write_model_folder(
        load_network(pruned.trials_folder / network_file(number), model),
        trial,
        into,
        transform=events.transform,
        kept_inputs=pruned.trial_inputs,
        target=make_target(config.target),
        project=config.project,
    )
