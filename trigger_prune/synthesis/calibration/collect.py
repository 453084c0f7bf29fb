"""Reports in any form below some folders -> one set of samples, each report once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trigger_prune.cost.calibration.rows import read_rows
from trigger_prune.cost.calibration.samples import Samples, joined, with_weights
from trigger_prune.cost.calibration.sweep_tables import READERS
from trigger_prune.cost.calibration.tables import DESIGNS, LAYERS, read_tables
from trigger_prune.errors import DataError, TriggerPruneError
from trigger_prune.synthesis.calibration.instance_tables import find_report, read_instance_table
from trigger_prune.synthesis.calibration.project_folder import find_projects, read_project

TABLES = (DESIGNS, LAYERS, *READERS)


def collect_samples(paths: Sequence[Path]) -> Samples:
    """Samples of every published table and every synthesised hls4ml project below ``paths``.

    A report that a table and a folder both hold is one sample: described by the table, with the folder's weights.
    ``skipped`` lists what was found but not used. Raises DataError for a path that is not there, and when nothing at
    all was found.
    """
    tables: list[Samples] = []
    folders: list[Samples] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist")
    roots = [path.resolve() if path.is_dir() else path.resolve().parent for path in paths]
    for root in roots:
        for folder in _table_folders(root):
            table = read_tables(folder)
            reports, used = _instance_tables(folder, roots)
            tables += [replace(table, skipped=tuple(s for s in table.skipped if s[0] not in used)), reports]
        folders += [_project(folder, root) for folder in find_projects(root)]
    projects = joined(folders)
    samples = joined([*(with_weights(table, projects) for table in tables), projects])
    if not (samples.layers or samples.designs or samples.runs or samples.skipped):
        raise DataError(
            f"no report below {', '.join(map(str, paths))}",
            hint=f"give folders of synthesised hls4ml projects, or of the tables {', '.join(TABLES)}",
        )
    return samples


def _table_folders(root: Path) -> tuple[Path, ...]:
    return tuple(sorted({path.parent for name in TABLES for path in root.rglob(name)}))


def _instance_tables(folder: Path, roots: Sequence[Path]) -> tuple[Samples, set[str]]:
    """Designs of a table whose layers are known by the report of the network alone, and the rows that were read."""
    if not (folder / DESIGNS).is_file():
        return Samples(), set()
    parts: list[Samples] = []
    used: set[str] = set()
    for row in read_rows(folder / DESIGNS, ("project", "design", "layers", "tool", "LUT")):
        if row.flag("usable_full") or row.text("duplicate_of") is not None:
            continue
        path = find_report(row, roots)
        if path is None:
            continue
        used.add(row.source)
        try:
            parts.append(read_instance_table(path, row))
        except TriggerPruneError as error:
            parts.append(Samples(skipped=((str(path), error.message),)))
    return joined(parts), used


def _project(folder: Path, root: Path) -> Samples:
    name = _design_name(folder, root)
    try:
        return read_project(folder, name.split("/")[0], name)
    except TriggerPruneError as error:
        return Samples(skipped=((str(folder), error.message),))


def _design_name(folder: Path, root: Path) -> str:
    """Path of a design from the folder that stands for its project: ``owner+repository`` where there is one, else the
    first folder below ``root``."""
    parts = folder.parts
    for i, part in enumerate(parts):
        if "+" in part:
            return "/".join(parts[i:])
    below = folder.relative_to(root).parts
    return "/".join(below) if below else root.name
