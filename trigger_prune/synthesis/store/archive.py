"""Entries as one portable file, to be shared between groups: a tar of the entries' own files.

    trigger_prune_store.json         format and number of entries
    entries/<key>/<file>             as in the store

Names, dates, owners and modes in the tar are fixed: the same entries give the same bytes, and nothing tells who made
it. Reading trusts nothing: only plain files of exactly these names are looked at, and every entry is checked whole
before any is stored.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trigger_prune.cost.report import FIELDS, HardwareReport
from trigger_prune.errors import ArtefactError
from trigger_prune.synthesis.store.entry import StoredRun, entry_files, read_files
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.synthesis.store.shared_design import without_network

FORMAT = 1
HEAD = "trigger_prune_store.json"

MAX_FILE_BYTES = 64 << 20
MAX_ARCHIVE_BYTES = 4 << 30
"""Largest content an archive may unpack to."""

FIGURES = tuple(name for name in FIELDS if name != "details")
"""What makes two reports of one design the same; details hold run times and the like."""

_MEMBER = re.compile(r"entries/([0-9a-f]{64})/([A-Za-z0-9][A-Za-z0-9_.-]*)")

OnConflict = Literal["error", "mine", "theirs"]


@dataclass(frozen=True)
class Imported:
    """Keys that were new, known before with the same figures, and in conflict (and resolved as asked)."""

    added: tuple[str, ...]
    known: tuple[str, ...]
    conflicts: tuple[str, ...]


def export_runs(runs: Iterable[StoredRun], path: Path, *, with_networks: bool = True) -> int:
    """Write the entries into the new file ``path`` (.tar.gz); returns their number.

    with_networks   include the integer weights that were synthesised; else counts over them, which tell no weight
    Raises ArtefactError when ``path`` exists or cannot be written.
    """
    if path.exists():
        raise ArtefactError(f"{path} exists already", hint="choose another name, or remove it")
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with scratch.open("xb") as plain, gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as packed:
            count = _write_tar(packed, runs, with_networks)
        scratch.rename(path)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        scratch.unlink(missing_ok=True)
    return count


def read_archive(path: Path) -> list[StoredRun]:
    """The entries of a file written by ``export_runs``, all checked.

    Raises ArtefactError for anything else: another format, paths that lead elsewhere, links, damaged entries.
    """
    try:
        files = _read_members(path)
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        raise ArtefactError(f"{path} is not an archive of stored reports: {error}") from None
    runs = [read_files(files[key], f"{path}: entry {key[:12]}") for key in sorted(files)]
    for key, run in zip(sorted(files), runs, strict=True):
        if run.key != key:
            raise ArtefactError(f"{path}: entry {key[:12]} holds {run.key[:12]}")
    return runs


def import_runs(
    store: ReportStore, runs: Iterable[StoredRun], *, on_conflict: OnConflict = "error", dry_run: bool = False
) -> Imported:
    """Put entries into the store; a key that is there already keeps its entry, and gains stages that it lacks.

    A conflict is the same key and stage with other figures: an error before anything is written (``error``), or the
    store's own (``mine``) or the new entry (``theirs``) is kept. Raises ArtefactError.
    """
    runs = list(runs)
    added, known, conflicts = [], [], []
    for run in runs:
        existing = _undamaged(store, run.key)
        if existing is None:
            added.append(run.key)
        elif differing_stages(existing, run):
            conflicts.append(run.key)
        else:
            known.append(run.key)
    if conflicts and on_conflict == "error":
        existing = store.get(conflicts[0])
        theirs = next(run for run in runs if run.key == conflicts[0])
        stages = "" if existing is None else ", ".join(differing_stages(existing, theirs))
        raise ArtefactError(
            f"{len(conflicts)} entries have other figures than the store's entry of the same key, the first is "
            f"{conflicts[0][:12]} ({stages}); nothing was imported",
            hint="look at both with `trigger-prune store show`; then --keep-mine or --take-theirs",
        )
    if not dry_run:
        for run in runs:
            if run.key not in conflicts:
                store.put(run)
            elif on_conflict == "theirs":
                store.put(run, replace_existing=True)
    return Imported(tuple(added), tuple(known), tuple(conflicts))


def differing_stages(first: StoredRun, second: StoredRun) -> list[str]:
    """Stages that both runs have, with other figures."""
    both = first.reports.keys() & second.reports.keys()
    return sorted(stage.value for stage in both if not _same(first.reports[stage], second.reports[stage]))


def _same(first: HardwareReport, second: HardwareReport) -> bool:
    return all(getattr(first, name) == getattr(second, name) for name in FIGURES)


def _undamaged(store: ReportStore, key: str) -> StoredRun | None:
    try:
        return store.get(key)
    except ArtefactError:
        return None


def _write_tar(packed: gzip.GzipFile, runs: Iterable[StoredRun], with_networks: bool) -> int:
    ordered = sorted(runs, key=lambda run: run.key)
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        head = json.dumps({"format": FORMAT, "entries": len(ordered)}) + "\n"
        _add(tar, HEAD, head.encode())
        for run in ordered:
            shared = run if with_networks else without_network(run)
            for name, content in sorted(entry_files(shared).items()):
                _add(tar, f"entries/{run.key}/{name}", content)
    return len(ordered)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o644, 0
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    tar.addfile(info, io.BytesIO(content))


def _read_members(path: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    head: bytes | None = None
    total = 0
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            match = _MEMBER.fullmatch(member.name)
            if not member.isreg() or (match is None and member.name != HEAD):
                raise ArtefactError(
                    f"{path} holds {member.name!r}, which is no file of a stored report",
                    hint="nothing was imported; ask for an export made by trigger-prune store export",
                )
            total += member.size
            if member.size > MAX_FILE_BYTES or total > MAX_ARCHIVE_BYTES:
                raise ArtefactError(f"{path}: {member.name} is too large to be a report")
            stream = tar.extractfile(member)
            content = b"" if stream is None else stream.read()
            if match is None:
                head = content
                continue
            entry = found.setdefault(match[1], {})
            if match[2] in entry:
                raise ArtefactError(f"{path} holds {member.name} twice")
            entry[match[2]] = content
    if head is None:
        raise ArtefactError(f"{path} is not an export of a report store: it has no {HEAD}")
    declared = json.loads(head)
    if not isinstance(declared, dict) or declared.get("format") != FORMAT:
        raise ArtefactError(f"{path} is an export of another format", hint="update trigger_prune on one side")
    if declared.get("entries") != len(found):
        raise ArtefactError(f"{path} holds {len(found)} of {declared.get('entries')} entries: it is incomplete")
    return found
