"""The matrix as a page of documentation and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trigger_prune.export.support import BACKENDS, IO_TYPES, RULES, STRATEGIES
from trigger_prune.verify.matrix.cells import WISHED_REUSE, Cell
from trigger_prune.verify.matrix.refused_layers import REFUSED_LAYERS
from trigger_prune.verify.matrix.runner import CellResult
from trigger_prune.verify.verdict import Verdict

Results = Mapping[str, Sequence[CellResult]]
"""Cells by row."""


def figures(results: Results) -> dict[str, float]:
    """How many cells ended how, and the events of each."""
    cells = [cell for row in results.values() for cell in row]
    found: dict[str, float] = {"cells": len(cells)}
    for state in ("agrees", "refused", "differs", "failed"):
        found[f"cells_{state}"] = sum(cell.state == state for cell in cells)
    compared = [cell.pair.events for cell in cells if cell.pair is not None and cell.pair.events]
    found["events_per_cell"] = min(compared, default=0)
    found["mismatches"] = sum(cell.pair.mismatches or 0 for cell in cells if cell.pair is not None)
    return found


def markdown(results: Results, others: Mapping[str, Verdict], titles: Mapping[str, str]) -> str:
    """The page: one table per strategy, the other representations, and why cells and layers are refused."""
    found = figures(results)
    lines = [
        "# What deploys with the same bits",
        "",
        "Written by `make matrix`. Every number counts events whose outputs differ in any bit between the fixed-point "
        "torch network and hls4ml's C simulation of the exported project; a cell without number is refused, with the "
        "rule below, before hls4ml is called. "
        f"{found['cells']:.0f} cells, {found['events_per_cell']:.0f} events of the shipped samples in each: "
        f"{found['cells_agrees']:.0f} agree, {found['cells_refused']:.0f} are refused, {found['cells_differs']:.0f} "
        f"differ, {found['cells_failed']:.0f} failed. Reuse factor {WISHED_REUSE} (the nearest that each layer allows) "
        "for Resource and Resource_Unrolled, 1 for the others.",
        "",
    ]
    for strategy in STRATEGIES:
        columns = [(backend, io_type) for backend in BACKENDS for io_type in IO_TYPES]
        rows = [
            [titles[name], *(_shown(cells, Cell(backend, io_type, strategy)) for backend, io_type in columns)]
            for name, cells in results.items()
        ]
        lines += [f"## {strategy}", "", *_table(["network", *(" ".join(column) for column in columns)], rows), ""]
    lines += [
        "## Representations that are the same in every cell",
        "",
        *_table(
            ["network", "torch float32", "qonnx", "lowered ONNX", "alkaid", "accumulator bits"],
            [[titles[name], *_pairs(verdict), str(verdict.accumulator_bits)] for name, verdict in others.items()],
        ),
        "",
        "## Designs that are refused",
        "",
        *_table(["rule", "applies to", "because", "use instead"], [_rule(rule) for rule in RULES]),
        "",
        "## Layers that are refused",
        "",
        "When the network is quantised, long before an export:",
        "",
        *_table(
            ["layer", "because", "use instead"],
            [[layer.layer, layer.reason, layer.instead] for layer in REFUSED_LAYERS],
        ),
        "",
    ]
    return "\n".join(lines)


def to_json(results: Results, others: Mapping[str, Verdict], **more: Any) -> str:
    """Flat figures, every cell, every other representation, and ``more``."""
    content = {
        "command": "make matrix",
        "figures": figures(results),
        **more,
        "cells": [{"network": name, **cell.to_dict()} for name, cells in results.items() for cell in cells],
        "others": {
            name: {pair.name: pair.mismatches for pair in verdict.pairs} | {"events": verdict.events}
            for name, verdict in others.items()
        },
    }
    return json.dumps(content, indent=1) + "\n"


def write(text: str, path: Path) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _shown(cells: Sequence[CellResult], wanted: Cell) -> str:
    result = next((cell for cell in cells if cell.cell == wanted), None)
    if result is None:
        return "not run"
    if result.refusal is not None:
        return f"refused: {result.refusal.rule}"
    if result.pair is None or result.pair.mismatches is None:
        return "**failed**"
    return "0" if result.ok else f"**{result.pair.mismatches}**"


def _pairs(verdict: Verdict) -> list[str]:
    found = {pair.name: pair for pair in verdict.pairs}
    shown = []
    for name in ("torch_float32", "qonnx", "onnxruntime", "alkaid"):
        pair = found.get(name)
        if pair is None:
            shown.append("not needed")
        else:
            shown.append("**failed**" if pair.mismatches is None else f"{pair.mismatches} of {pair.events}")
    return shown


def _rule(rule: Any) -> list[str]:
    return [rule.name, rule.applies_to, rule.reason, rule.instead]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]
