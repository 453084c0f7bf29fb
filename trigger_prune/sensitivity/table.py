"""The scan as a tidy table, one row per network: CSV always, Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from trigger_prune.errors import ToolError
from trigger_prune.sensitivity.findings import Figure, InputFinding, ScanPoint

POINTS = "sensitivity"
INPUTS = "sensitivity_inputs"
LIMITS = "sensitivity_limits"
"""Names of the files, without ending."""


def point_rows(points: Sequence[ScanPoint]) -> list[dict[str, Any]]:
    """Columns of ScanPoint, its figures as ``loss``, ``loss_low``, ``loss_change_high`` and so on."""
    plain = [column.name for column in fields(ScanPoint) if column.name != "figures"]
    rows = []
    for point in points:
        row = {name: getattr(point, name) for name in plain}
        for name, figure in point.figures.items():
            row |= _flat(name, figure)
        rows.append(row)
    return rows


def input_rows(findings: Sequence[InputFinding]) -> list[dict[str, Any]]:
    """One row per input, figures as ``shuffled_loss``, ``removed_auc_change_low`` and so on."""
    rows = []
    for finding in findings:
        row: dict[str, Any] = {
            column.name: getattr(finding, column.name)
            for column in fields(InputFinding)
            if column.name not in ("shuffled", "removed")
        }
        for how in ("shuffled", "removed"):
            for name, figure in getattr(finding, how).items():
                row |= _flat(f"{how}_{name}", figure)
        rows.append(row)
    return rows


def _flat(name: str, figure: Figure) -> dict[str, float]:
    return {
        name if column.name == "value" else f"{name}_{column.name}": getattr(figure, column.name)
        for column in fields(Figure)
    }


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """CSV (RFC 4180) with a heading; an empty cell is a value there is none of. Whole or not at all."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The same as Parquet, typed. Raises ToolError without pyarrow, naming the extra that brings it."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ToolError(
            f"{path.name} needs pyarrow, which is not installed", hint="pip install 'trigger_prune[parquet]'"
        ) from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        parquet.write_table(
            pyarrow.table({name: pyarrow.array([row.get(name) for row in rows]) for name in names}), temporary
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tables(tables: Mapping[str, Sequence[dict[str, Any]]], folder: Path) -> tuple[list[Path], str | None]:
    """``NAME.csv`` and ``NAME.parquet`` of every table with rows. Returns the files, and why Parquet is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    note: str | None = None
    for name, rows in tables.items():
        if not rows:
            continue
        write_csv(rows, folder / f"{name}.csv")
        written.append(folder / f"{name}.csv")
        try:
            write_parquet(rows, folder / f"{name}.parquet")
        except ToolError as error:
            note = f"no Parquet: {error.message} ({error.hint})"
        else:
            written.append(folder / f"{name}.parquet")
    return written, note
