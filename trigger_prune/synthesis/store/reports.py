"""``ReportStore``: a folder of finished syntheses, shared by any number of processes and machines.

    STORE/entries/ab/abcd...   one folder per key, complete from the moment it has this name
    STORE/scratch/...          entries being written, and entries on their way out
    STORE/claims/abcd...       somebody is synthesising this key right now (``claim.py``)

Nothing is ever changed in place: an entry is written beside, flushed, and renamed. No locks: a rename is atomic on
local and network file systems, and of several writers of one key the first wins.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from trigger_prune.errors import ArtefactError
from trigger_prune.synthesis.store.entry import (
    StoredRun,
    entry_files,
    flush_folder,
    is_key,
    portable,
    read_entry,
    write_entry,
)

_ABANDONED_S = 24 * 3600.0
"""Age from which a scratch folder belongs to a process that was killed."""

_ATTEMPTS = 5


class ReportStore:
    """The store in ``folder``; it is made by the first ``put``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries = folder / "entries"
        self._scratch = folder / "scratch"

    def __repr__(self) -> str:
        return f"ReportStore({str(self.folder)!r})"

    def path(self, key: str) -> Path:
        """Folder of an entry, whether it exists or not."""
        return self._entries / key[:2] / key

    def claim_path(self, key: str) -> Path:
        """File that says that somebody works on ``key``."""
        return self.folder / "claims" / key

    def get(self, key: str) -> StoredRun | None:
        """The entry of ``key``, or None. Raises ArtefactError, naming the folder, when it is damaged."""
        run = read_entry(self.path(key))
        if run is not None and run.key != key:
            raise ArtefactError(f"{self.path(key)} holds the entry {run.key}")
        return run

    def put(self, run: StoredRun, *, replace_existing: bool = False) -> StoredRun:
        """Store a run (without folder, host and user names); returns what the store holds afterwards.

        Of several writers of one key the first is kept, unless it is damaged, remembers a failure where this one has
        reports, or lacks a stage, the network or its counts that this one has: then both are merged, the stored first.
        ``replace_existing`` always takes the new run. Raises ArtefactError when the store cannot be written.
        """
        run = portable(run)
        key = run.key
        try:
            self.path(key).parent.mkdir(parents=True, exist_ok=True)
            self._scratch.mkdir(parents=True, exist_ok=True)
            for _ in range(_ATTEMPTS):
                existing = None if replace_existing else self._undamaged(key)
                if existing is not None:
                    merged = _merge(existing, run)
                    if merged is existing:
                        return existing
                    run = merged
                if self._publish(key, run, expect_none=existing is None and not replace_existing):
                    return run
        except OSError as error:
            raise ArtefactError(
                f"the store {self.folder} cannot be written: {error}",
                hint="set cost.store or TRIGGER_PRUNE_STORE to a folder of yours, or cost.use_store: false",
            ) from error
        raise ArtefactError(f"the entry {self.path(key)} keeps changing while it is being replaced")

    def discard(self, key: str) -> bool:
        """Remove an entry; False when there is none. Its name disappears first, in one step."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        aside = self._new_scratch("old")
        try:
            self.path(key).rename(aside)
        except FileNotFoundError:
            return False
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def keys(self) -> list[str]:
        """Keys of all entries, sorted; damaged ones too."""
        found = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for shelf in self._entries.iterdir():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    found += [entry.name for entry in shelf.iterdir() if is_key(entry.name)]
        return sorted(found)

    def runs(self, on_damage: Callable[[str, ArtefactError], None] | None = None) -> Iterator[StoredRun]:
        """All undamaged entries, in order of their keys; ``on_damage`` gets key and error of the others."""
        for key in self.keys():
            try:
                run = self.get(key)
            except ArtefactError as error:
                if on_damage is not None:
                    on_damage(key, error)
                continue
            if run is not None:
                yield run

    def find(self, prefix: str) -> str:
        """The one key that starts with ``prefix``. Raises ArtefactError when none or several do."""
        matches = [key for key in self.keys() if key.startswith(prefix.lower())]
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise ArtefactError(f"no entry of {self.folder} starts with {prefix!r}", hint="trigger-prune store ls")
        shown = ", ".join(key[:12] for key in matches[:4])
        raise ArtefactError(f"{len(matches)} entries start with {prefix!r}: {shown}", hint="give more digits")

    def sweep(self) -> None:
        """Delete what killed processes left half-written a day ago or longer."""
        with contextlib.suppress(FileNotFoundError):
            for left_over in self._scratch.iterdir():
                with contextlib.suppress(OSError):
                    if time.time() - left_over.stat().st_mtime > _ABANDONED_S:
                        shutil.rmtree(left_over)

    def _undamaged(self, key: str) -> StoredRun | None:
        try:
            return self.get(key)
        except ArtefactError:
            self.discard(key)
            return None

    def _publish(self, key: str, run: StoredRun, *, expect_none: bool) -> bool:
        """Give the entry its name; False when another process was quicker."""
        scratch = self._new_scratch("new")
        try:
            write_entry(scratch, entry_files(run))
            if not expect_none:
                self.discard(key)
            try:
                scratch.rename(self.path(key))
            except OSError:
                # Renaming onto a folder that holds files fails: somebody else's entry is there.
                if self.path(key).is_dir():
                    return False
                raise
            flush_folder(self.path(key).parent)
            return True
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _new_scratch(self, kind: str) -> Path:
        return self._scratch / f"{kind}-{os.getpid()}-{uuid.uuid4().hex}"


def _merge(existing: StoredRun, new: StoredRun) -> StoredRun:
    """``existing`` itself when ``new`` adds nothing to it."""
    if not new.reports:
        if existing.reports or existing.failure == new.failure:
            return existing
        return new  # the same design failed again, under limits of today
    if not existing.reports:
        return new
    added = {stage: report for stage, report in new.reports.items() if stage not in existing.reports}
    tells_more = existing.network is None and (new.network is not None or (new.design and not existing.design))
    if not added and not tells_more:
        return existing
    return replace(
        existing,
        reports={**existing.reports, **added},
        log=new.log or existing.log,
        raw={**new.raw, **existing.raw},
        network=existing.network or new.network,
        design=None if existing.network or new.network else existing.design or new.design,
    )
