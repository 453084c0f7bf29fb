"""The findings as flat tables, one dictionary per line: for CSV and Parquet."""

from __future__ import annotations

from typing import Any

from trigger_prune.cost.report import RESOURCES, HardwareReport
from trigger_prune.two_stage.findings import TwoStageFindings
from trigger_prune.two_stage.latency import FixedLatency


def comparison_table(findings: TwoStageFindings) -> list[dict[str, Any]]:
    """The lines of the comparison."""
    found = []
    for row in findings.rows:
        loss = row.loss
        found.append(
            {
                "kind": row.kind,
                "name": row.name,
                "efficiency": row.efficiency.value,
                "efficiency_error": row.efficiency.error,
                "rate": row.rate.rate_hz,
                "rate_error": row.rate.error_hz,
                "relative_loss": None if loss is None else loss.relative_loss.value,
                "relative_loss_error": None if loss is None else loss.relative_loss.error,
                "relative_loss_limit90": None if loss is None else loss.relative_loss_limit90,
                **_resources("", row.cost),
                **_resources("buffer_", row.buffer),
                **_latency(row.latency),
                "note": row.note,
            }
        )
    return found


def design_table(findings: TwoStageFindings) -> list[dict[str, Any]]:
    """Every design of the search."""
    front, best = set(findings.front), findings.best
    return [
        {
            "light": design.light_name,
            "full": design.full_name,
            "reuse_factor": design.reuse_factor,
            "full_stage": design.full_stage,
            "ii_cycles": design.engine.ii_cycles,
            "clock_multiple": design.engine.clock_multiple,
            "fifo_depth": design.engine.fifo_depth,
            "escalated_wanted": design.escalated_wanted,
            "escalated": design.escalated,
            "overflow": design.overflow,
            "efficiency": design.efficiency,
            findings.resource: design.resource_used,
            **_latency(design.latency),
            "on_front": number in front,
            "chosen": best is not None and design == best.point,
            "problems": "; ".join(design.problems),
        }
        for number, design in enumerate(findings.designs)
    ]


def single_table(findings: TwoStageFindings) -> list[dict[str, Any]]:
    """The full model alone at every reuse factor."""
    return [
        {
            "full": single.full_name,
            "reuse_factor": single.reuse_factor,
            "full_stage": single.full_stage,
            "copies": single.copies,
            findings.resource: single.resource_used,
            **_latency(single.latency),
            "problems": "; ".join(single.problems),
        }
        for single in findings.singles
    ]


def budget_table(findings: TwoStageFindings) -> list[dict[str, Any]]:
    """Latency budgets, where several were asked for."""
    found = []
    for budget in findings.budgets:
        design, row = budget.design, budget.row
        loss = None if row is None else row.loss
        found.append(
            {
                "latency_budget_ns": budget.latency_budget_ns,
                "verdict": budget.recommendation.verdict,
                "saving": budget.recommendation.saving,
                "light": None if design is None else design.light_name,
                "full": None if design is None else design.full_name,
                "reuse_factor": None if design is None else design.reuse_factor,
                "clock_multiple": None if design is None else design.engine.clock_multiple,
                "fifo_depth": None if design is None else design.engine.fifo_depth,
                "escalated_wanted": None if design is None else design.escalated_wanted,
                findings.resource + "_used": None if design is None else design.resource_used,
                **_resources("", None if row is None else row.cost),
                **_resources("buffer_", None if row is None else row.buffer),
                **_latency(None if design is None else design.latency),
                "relative_loss": None if loss is None else loss.relative_loss.value,
                "relative_loss_error": None if loss is None else loss.relative_loss.error,
                "relative_loss_limit90": None if loss is None else loss.relative_loss_limit90,
                "recommendation": " ".join(budget.recommendation.sentences),
            }
        )
    return found


def _resources(prefix: str, cost: HardwareReport | None) -> dict[str, Any]:
    values = {f"{prefix}{name}": None if cost is None else getattr(cost, name) for name in RESOURCES}
    return {**values, f"{prefix}stage": None if cost is None else cost.source}


def _latency(latency: FixedLatency | None) -> dict[str, Any]:
    return {
        "latency_cycles": None if latency is None else latency.total_cycles,
        "latency_bx": None if latency is None else latency.output_bx,
        "latency_ns": None if latency is None else latency.output_ns,
    }
