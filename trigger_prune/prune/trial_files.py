"""Every trial of a pruning on disk: one table, and the network of each row, so that any of them can be exported."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trigger_prune.cost.report import BUDGETED
from trigger_prune.prune.measured import PruneResult
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.checkpoint import save_network
from trigger_prune.quantize.convert import input_type_of
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.state import load_network_state

TRIALS = "trials"
"""Folder of the table ``trials.csv`` (and ``trials.parquet``, where pyarrow is installed) and of the networks."""


def network_file(trial_round: int) -> str:
    """Name of a trial's network inside the folder."""
    return f"round{trial_round}.pt"


def save_trials(result: PruneResult, folder: Path, config: Mapping[str, Any]) -> None:
    """Write the table and the networks of all trials, unshrunk as they were trained, into the new folder ``folder``.

    config   keys of project.yaml that the trials share; a column of JSON text
    """
    folder.mkdir()
    network = copy.deepcopy(result.network)
    bits = {name: layer.weight_type.width for name, layer in weight_layers(network).items()}
    rows = []
    for trial, state in zip(result.trials, result.networks, strict=True):
        load_network_state(network, state)
        save_network(network, folder / network_file(trial.round))
        rows.append({**trial_row(trial), "input_bits": input_type_of(network).width, "weight_bits": json.dumps(bits)})
    for failure in result.failures:
        rows.append(
            {"round": failure.round, "phase": failure.phase, "nonzeros": failure.nonzeros, "error": failure.error}
        )
    text = json.dumps(dict(config), sort_keys=True, default=str)
    write_table([{**row, "config": text} for row in rows], folder / "trials")


def trial_row(trial: PruneTrial) -> dict[str, Any]:
    """The columns of one trial; what its report does not state is None."""
    cost = trial.cost
    return {
        "round": trial.round,
        "phase": trial.phase,
        "chosen": trial.chosen,
        "meets_budget": trial.meets_budget,
        "sparsity": trial.sparsity,
        "nonzeros": trial.nonzeros,
        "validation_loss": trial.validation_loss,
        "validation_accuracy": trial.validation_accuracy,
        "validation_merit": trial.validation_merit,
        "cost_stage": cost.stage.value,
        "cost_tool": f"{cost.tool} {cost.tool_version}",
        "part": cost.part,
        "clock_period_ns": cost.clock_period_ns,
        **{name: getattr(cost, name) for name in BUDGETED},
        **{f"predicted_{name}": value for name, value in trial.predicted.items()},
        **{f"sparsity_{name}": value for name, value in trial.layer_sparsity.items()},
        "layouts": json.dumps([asdict(layout) for layout in trial.layouts]),
        "content_hash": cost.content_hash,
        "network": network_file(trial.round),
    }


def write_table(rows: list[dict[str, Any]], stem: Path) -> None:
    """``stem``.csv, and ``stem``.parquet where pyarrow is installed; columns in order of first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with stem.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
    if find_spec("pyarrow") is not None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({name: [row.get(name) for row in rows] for name in columns})
        pyarrow.parquet.write_table(table, stem.with_suffix(".parquet"))
