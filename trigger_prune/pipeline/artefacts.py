"""The store of finished results: ``<out>/artefacts/<stage>-<key>/`` with a manifest.

A result is written into a folder with a temporary name, flushed to disk and renamed, so a folder with a final name is
complete. Readers check it all the same: the manifest lists every file with size and SHA-256.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trigger_prune.errors import ArtefactError
from trigger_prune.pipeline.keys import Identity, file_digest

MANIFEST = "manifest.json"
HASHED_BELOW_BYTES = 64 << 20
"""Larger files are checked by size only when they are read back."""

_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Manifest:
    """What a finished artefact is: its identity, files (path -> size and SHA-256), seconds of work, date (UTC)."""

    key: str
    identity: dict[str, Any]
    files: dict[str, dict[str, Any]]
    seconds: float
    date: str


class ArtefactStore:
    """Artefacts and scratch folders below ``out``. ``warn`` gets one line for every artefact that is not usable."""

    def __init__(self, out: Path, warn: Callable[[str], None]) -> None:
        self.out = out
        self.artefacts = out / "artefacts"
        self._scratch = out / "scratch"
        self._warn = warn

    def folder(self, identity: Identity) -> Path:
        """Where the artefact is, or will be."""
        return self.artefacts / identity.folder_name

    def find(self, identity: Identity) -> Manifest | None:
        """Manifest of a complete, undamaged artefact, or None. Reads only."""
        folder = self.folder(identity)
        if not folder.is_dir():
            return None
        problem, manifest = _inspect(folder, identity)
        if problem:
            self._warn(f"stored result {folder} is not usable ({problem}); it is computed again")
        return manifest

    def remove(self, identity: Identity) -> None:
        """Remove an artefact, if there is one; its final name disappears first, in one step."""
        folder = self.folder(identity)
        if folder.exists():
            aside = self._temporary(identity)
            folder.rename(aside)
            shutil.rmtree(aside)

    def write(self, identity: Identity, seconds: float, save: Callable[[Path], None]) -> Manifest:
        """Let ``save`` fill a folder, then make it the artefact of ``identity``, replacing what was there."""
        folder, temporary = self.folder(identity), self._temporary(identity)
        temporary.mkdir(parents=True)
        try:
            save(temporary)
            manifest = _describe(temporary, identity, seconds)
            (temporary / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
            _flush(temporary)
            self.remove(identity)
            temporary.rename(folder)
            _flush_one(self.artefacts)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return manifest

    def scratch(self, identity: Identity) -> Path:
        """The folder for partial work of ``identity``; made when missing."""
        folder = self._scratch / identity.folder_name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_scratch(self, identity: Identity) -> None:
        """Delete the partial work of ``identity``."""
        shutil.rmtree(self._scratch / identity.folder_name, ignore_errors=True)

    def sweep(self) -> None:
        """Delete what killed runs left half-written. Call under the lock: then no living run owns any of it."""
        for folder in (self.artefacts, self.out):
            for left_over in folder.glob(f"{_TEMPORARY}*"):
                if left_over.is_dir():
                    shutil.rmtree(left_over, ignore_errors=True)
                else:
                    left_over.unlink()

    def clear(self) -> int:
        """Delete all artefacts and partial work; returns the bytes freed."""
        size = 0
        for folder in (self.artefacts, self._scratch):
            if folder.is_dir():
                size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                shutil.rmtree(folder)
        return size

    def _temporary(self, identity: Identity) -> Path:
        return self.artefacts / f"{_TEMPORARY}{identity.folder_name}-{os.getpid()}-{os.urandom(4).hex()}"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the output folder (made when missing) for this run.

    Raises ArtefactError when another run holds it or the folder cannot be written. The lock ends with the process,
    however it ends.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ArtefactError(f"{out} cannot be written: {error.strerror}", hint="choose another --out") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            raise ArtefactError(
                f"{out} is in use by another run ({holder})", hint="wait until it ends, or choose another --out"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(descriptor)


def copy_atomically(source: Path, destination: Path) -> Path:
    """Copy a file or a whole folder so that ``destination`` is never seen half-written; returns ``destination``."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f"{_TEMPORARY}{destination.name}-{os.urandom(4).hex()}")
    if source.is_dir():
        shutil.copytree(source, temporary)
        shutil.rmtree(destination, ignore_errors=True)
    else:
        shutil.copyfile(source, temporary)
    return temporary.rename(destination)


def _inspect(folder: Path, identity: Identity) -> tuple[str, Manifest | None]:
    """What is wrong with an artefact (empty: nothing), and its manifest when nothing is."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        listed = [(name, entry["bytes"], entry["sha256"]) for name, entry in manifest.files.items()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "its manifest is missing or damaged", None
    if manifest.key != identity.key:
        return "it belongs to another key", None
    for name, size, digest in listed:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing", None
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}", None
        if size < HASHED_BELOW_BYTES and file_digest(path) != digest:
            return f"{name} was altered", None
    return "", manifest


def _describe(folder: Path, identity: Identity, seconds: float) -> Manifest:
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(identity.key, identity.parts, files, seconds, date)


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() or path.is_dir():
            _flush_one(path)
    _flush_one(folder)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
