"""Stages that ``trigger-prune lottery --deploy`` adds: the best ticket quantised, exported, verified and measured.

The ticket takes the place of what stage ``prune`` finds, so export, verification and cost are those of every run; only
their files go to ``lottery/deploy``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trigger_prune.config.project import ProjectConfig, make_budget
from trigger_prune.cost.report import HardwareReport
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.deployment import COST, EXPORT, VERIFY, deployed_network
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, goal_of, make_batches
from trigger_prune.pipeline.stages.lottery import FOLDER, lottery_stages, seed_numbers, seed_stage_name
from trigger_prune.pipeline.stages.pruning import Pruned
from trigger_prune.pipeline.stages.training import (
    BASELINE,
    MODEL_KEYS,
    TRAIN,
    TRAIN_KEYS,
    calibration_features,
    epoch_bar,
    fit_settings,
    float_model,
    load_history,
    model_files,
    save_history,
    trained_float_model,
)
from trigger_prune.prune.inputs import DroppedInput, drop_unused
from trigger_prune.prune.lottery.deploy import deploy_ticket
from trigger_prune.prune.lottery.training import set_state
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.describe import describe_network
from trigger_prune.train.evaluate import evaluate

DEPLOY_FOLDER = "deploy"
"""Below the folder of the lottery."""


@dataclass(frozen=True)
class DeployedTicket:
    """What the deployment came to. Merits are on test events; ``costs`` those of the dense and the ticket's network.

    float_merit       of the ticket in floating point, deployed_merit after quantisation-aware training, dense_merit of
                      the quantised dense baseline
    nonzeros          integer weights that are not zero
    over_budget       limits that the ticket's measured cost exceeds: use / limit
    unstated          limited quantities that the cost model says nothing about
    """

    seed: int
    merit_label: str
    float_merit: float
    deployed_merit: float
    dense_merit: float
    sparsity: float
    nonzeros: int
    verified: bool
    representations: tuple[str, ...]
    dense_cost: dict[str, Any]
    deployed_cost: dict[str, Any]
    over_budget: dict[str, float]
    unstated: tuple[str, ...] = ()


def _quantise(context: StageContext) -> Any:
    config, events, goal = context.config, context.result("load"), goal_of(context)
    section = config.quantize
    stored = context.result(seed_stage_name(context.result("lottery").chosen_seed))
    ticket = stored.ticket()
    network = float_model(context, events)
    set_state(network, stored.trained())
    train = make_batches(events, "train", goal)
    context.progress.note(f"ticket of seed {ticket.seed}, sparsity {ticket.sparsity:.4f}")
    with epoch_bar(context, section.epochs, "quantisation-aware training of the ticket") as advance:
        quantised, history = deploy_ticket(
            network,
            ticket.masks,
            train,
            make_batches(events, "validation", goal),
            fit_settings(context, events, goal, "ticket", section.epochs, section.learning_rate),
            calibration=calibration_features(train),
            input_type=events.transform.fixed,
            precision=section,
            progress=advance,
        )
    kept, unused = drop_unused(quantised, events.train.feature_names)
    return quantised, history, kept, unused


def _save_quantised(result: Any, folder: Path) -> None:
    network, history, kept, unused = result
    save_network(network, folder / "network.pt")
    save_history(history, folder)
    payload = {"kept_inputs": kept, "dropped_inputs": [asdict(item) for item in unused]}
    (folder / "inputs.json").write_text(json.dumps(payload, indent=1))


def _load_quantised(folder: Path) -> Pruned:
    payload = json.loads((folder / "inputs.json").read_text())
    return Pruned(
        network=lambda model: load_network(folder / "network.pt", model),
        kept_inputs=tuple(payload["kept_inputs"]),
        dropped_inputs=tuple(DroppedInput(**item) for item in payload["dropped_inputs"]),
        trials=(),
        histories=(load_history(folder),),
    )


def _sum_up(context: StageContext) -> DeployedTicket:
    config, events, goal = context.config, context.result("load"), goal_of(context)
    lottery, kept = context.result("lottery"), context.result("prune").kept_inputs
    network = deployed_network(context)
    dense = context.result("baseline").network(trained_float_model(context, events))
    plain = goal.task == "classify"
    costs, verdict = context.result("cost"), context.result("verify")
    spec = describe_network(network)
    seed = context.result(seed_stage_name(lottery.chosen_seed))
    deployed: HardwareReport = costs.deployed
    budget = make_budget(config.budget, config.target)
    excess = deployed.excess(budget)

    def merit(of: Any, inputs: tuple[int, ...] | None) -> float:
        return evaluate(
            of, make_batches(events, "test", goal, inputs, plain_weights=plain), goal.task, goal.objective
        ).merit

    return DeployedTicket(
        seed=lottery.chosen_seed,
        merit_label=lottery.report.merit_label,
        float_merit=seed.result.conditions["ticket"].figures["test_merit"],
        deployed_merit=merit(network, kept),
        dense_merit=merit(dense, None),
        sparsity=seed.result.conditions["ticket"].sparsity,
        nonzeros=spec.nonzeros,
        verified=verdict.ok,
        representations=tuple(pair.name for pair in verdict.pairs),
        dense_cost=json.loads(costs.dense.to_json()),
        deployed_cost=json.loads(deployed.to_json()),
        over_budget={name: ratio for name, ratio in excess.items() if ratio > 1.0},
        unstated=deployed.unstated(budget),
    )


def _save_summary(result: DeployedTicket, folder: Path) -> None:
    (folder / "deploy.json").write_text(json.dumps(asdict(result), indent=1))
    (folder / "deploy.md").write_text(deploy_text(result))


def _load_summary(folder: Path) -> DeployedTicket:
    raw = json.loads((folder / "deploy.json").read_text())
    return DeployedTicket(**{**raw, "representations": tuple(raw["representations"])})


def deploy_text(result: DeployedTicket) -> str:
    """The deployment for a reader (Markdown)."""
    dense, deployed = (HardwareReport.from_json(json.dumps(raw)) for raw in (result.dense_cost, result.deployed_cost))
    rows: list[tuple[str, ...]] = [("", "dense baseline", "ticket")]
    rows.append((f"{result.merit_label} (test)", f"{result.dense_merit:.4f}", f"{result.deployed_merit:.4f}"))
    for name in ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii", "latency_p99_us"):
        pair = getattr(dense, name), getattr(deployed, name)
        if pair != (None, None):
            rows.append((name, *("-" if value is None else f"{value:g}" for value in pair)))
    over = ", ".join(f"{name} by a factor {ratio:.2f}" for name, ratio in result.over_budget.items())
    compared = ", ".join(result.representations)
    lines = [
        f"# Deployed ticket of seed {result.seed}",
        "",
        f"Sparsity {result.sparsity:.4f}, {result.nonzeros} integer weights are not zero. In floating point its "
        f"{result.merit_label} on test events was {result.float_merit:.4f}.",
        "",
        *(f"| {' | '.join(row)} |" for row in (rows[0], ("---",) * 3, *rows[1:])),
        "",
        f"Cost: {deployed.stage.label}.",
        "",
        f"Every representation agrees bit by bit: {compared}."
        if result.verified
        else f"REPRESENTATIONS DIFFER among: {compared}; see verify.json.",
        "",
        _budget_line(over, result.unstated),
        "",
    ]
    return "\n".join(lines)


def _budget_line(over: str, unstated: tuple[str, ...]) -> str:
    if over:
        return f"Over the budget: {over}."
    if unstated:
        return f"Whether it is within the budget is not known: the cost model does not state {', '.join(unstated)}."
    return "Within the budget."


def _below(stage: Stage[Any]) -> Stage[Any]:
    """``stage``, its files published below the lottery's folder."""
    publish: Callable[[Path, Path], list[Path]] | None = stage.publish
    if publish is None:
        return stage
    return replace(stage, publish=lambda folder, out: publish(folder, out / FOLDER / DEPLOY_FOLDER))


def deploy_stages(config: ProjectConfig) -> tuple[Stage[Any], ...]:
    """The stages of ``lottery_stages``, then those of the deployment."""
    seeds = tuple(map(seed_stage_name, seed_numbers(config)))
    ticket: Stage[Any] = Stage(
        name="prune",
        title="quantisation-aware training of the best ticket, mask frozen",
        inputs=("load", "teacher", *seeds, "lottery"),
        config_keys=(*MODEL_KEYS, *TRAIN_KEYS, "quantize"),
        compute=_quantise,
        save=_save_quantised,
        load=_load_quantised,
        files=model_files,
        tools=("torch",),
    )
    summary: Stage[Any] = Stage(
        name="lottery_deploy",
        title="what the deployed ticket came to",
        inputs=("load", "teacher", "train", "baseline", *seeds, "lottery", "prune", "verify", "cost"),
        config_keys=(*MODEL_KEYS, *GOAL_KEYS, "budget", "target"),
        compute=_sum_up,
        save=_save_summary,
        load=_load_summary,
        publish=lambda folder, out: [
            copy_atomically(folder / name, out / FOLDER / DEPLOY_FOLDER / name) for name in ("deploy.md", "deploy.json")
        ],
        files=model_files,
        tools=("torch",),
    )
    return (*lottery_stages(config), TRAIN, BASELINE, ticket, *map(_below, (EXPORT, VERIFY, COST)), summary)
