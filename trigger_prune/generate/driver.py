"""Production of event files: numbered shards in several processes, resumed after a kill, merged into one file.

A shard depends on the settings, the seed and its number alone, so a file has the same bytes for any number of processes
and however often the production was stopped. Finished shards lie in ``OUT/.shards-HASH``, where the hash is that of
all that decides their content; when all are there they become ``OUT/NAME.npz`` and are removed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ArtefactError, ConfigError, ToolError, TriggerPruneError
from trigger_prune.generate.event_files import (
    PROVENANCE,
    READ_ERRORS,
    is_whole,
    package_versions,
    read_npz,
    read_provenance,
    remove_unfinished,
    write_npz,
)
from trigger_prune.generate.workers import ShardError, ShardFailure, make_shards, shard_path
from trigger_prune.pipeline.artefacts import locked
from trigger_prune.pipeline.progress import Progress, QuietProgress

SHARDS_PREFIX = ".shards-"
_IDENTITY_FILE = "identity.json"
_RESUME = "run the same command again"


class ShardMaker(Protocol):
    """One event file to produce. Sent to worker processes by pickle, before ``prepare``.

    name        the file is ``NAME.npz``
    n_shards    shards are numbered from 0
    n_events    what the progress bar counts, spread evenly over the shards
    """

    @property
    def name(self) -> str: ...

    @property
    def n_shards(self) -> int: ...

    @property
    def n_events(self) -> int: ...

    def identity(self) -> Mapping[str, Any]:
        """Settings that decide the content, as JSON values; no paths, no numbers of processes."""

    def prepare(self) -> None:
        """Called once per worker process before its first shard."""

    def make(self, shard: int, seed: int) -> dict[str, NDArray[Any]]:
        """Arrays of one shard, the same whatever was made before."""

    def merge(self, shards: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Arrays of the file from those of all shards, in their order."""


def produce(
    makers: Sequence[ShardMaker],
    out: Path,
    seed: int,
    jobs: int = 1,
    force: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> list[Path]:
    """Make the files of ``makers``, one after the other, in ``jobs`` processes each. Returns their paths.

    A file that is there with the same settings, seed and versions is kept. ``command`` goes into the provenance; it
    must not name folders or the number of processes. ``force`` replaces files and drops unfinished shards of other
    settings.

    Raises ConfigError on a negative seed or no process, ArtefactError when ``out`` holds other files or unfinished
    shards of the same name, is in use or cannot be written, ToolError when a worker dies or fails. Finished shards stay
    on every error and on Ctrl-C, and the same call goes on from there.
    """
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative", hint="give a seed >= 0")
    if jobs < 1:
        raise ConfigError(f"{jobs} processes can make nothing", hint="give --jobs 1 or more")
    shown = progress or QuietProgress()
    with locked(out):
        for i, maker in enumerate(makers):
            position = f"{i + 1}/{len(makers)}"
            path = out / f"{maker.name}.npz"
            # asked in turn: the settings of a maker may be known only after the files before it
            if _is_ready(maker, out, seed, force):
                shown.note(f"[{position}] {path} is there already")
            else:
                _produce_file(maker, path, seed, jobs, command, shown, position)
    return [out / f"{maker.name}.npz" for maker in makers]


def identity_of(maker: ShardMaker, seed: int) -> dict[str, Any]:
    """All that decides the bytes of a file but the command: name, seed, shards, settings, versions."""
    identity = {
        "name": maker.name,
        "seed": seed,
        "shards": maker.n_shards,
        "settings": dict(maker.identity()),
        "versions": package_versions(),
    }
    # as it will be read back: tuples become lists
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def shards_folder(out: Path, identity: Mapping[str, Any]) -> Path:
    """Where finished shards of an unfinished file lie."""
    text = json.dumps(identity, sort_keys=True)
    return out / f"{SHARDS_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _is_ready(maker: ShardMaker, out: Path, seed: int, force: bool) -> bool:
    """Whether the file is there as wanted. Raises ArtefactError when something else is in its place."""
    identity = identity_of(maker, seed)
    for other in sorted(out.glob(f"{SHARDS_PREFIX}*/{_IDENTITY_FILE}")):
        found = _read_identity(other)
        if found.get("name") == maker.name and found != identity:
            if not force:
                raise ArtefactError(
                    f"{out} holds unfinished shards of {maker.name} made with other settings: "
                    f"{_difference(found, identity)}",
                    hint="finish them with their settings, drop them with --force, or choose another --out",
                )
            shutil.rmtree(other.parent)
    path = out / f"{maker.name}.npz"
    if not path.exists():
        return False
    difference = "it is damaged or was not written by `data make`"
    if is_whole(path):
        provenance = read_provenance(path)
        if provenance is not None:
            provenance.pop("command", None)
            if provenance == identity:
                return True
            difference = f"it was made with other settings: {_difference(provenance, identity)}"
    if not force:
        raise ArtefactError(
            f"{path} is there already, and {difference}", hint="replace it with --force, or choose another --out"
        )
    return False


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> str:
    """Which values differ, in words."""
    words = []
    for key in dict.fromkeys((*wanted, *found)):
        there, here = found.get(key), wanted.get(key)
        if there == here:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            words.append(_difference(there, here, f"{prefix}{key}."))
        else:
            words.append(f"{prefix}{key} {_short(there)} there, {_short(here)} here")
    return "; ".join(words)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _produce_file(
    maker: ShardMaker, path: Path, seed: int, jobs: int, command: str, progress: Progress, position: str
) -> None:
    identity = identity_of(maker, seed)
    folder = shards_folder(path.parent, identity)
    try:
        folder.mkdir(exist_ok=True)
        # of a run that was killed: the lock says that nobody else is at work here
        remove_unfinished(folder)
        remove_unfinished(path.parent, path.name)
        (folder / _IDENTITY_FILE).write_text(json.dumps(identity, indent=1), encoding="utf-8")
    except OSError as error:
        raise _unwritten(folder, error, 0, maker) from error
    finished = {shard for shard in range(maker.n_shards) if is_whole(shard_path(folder, shard))}
    with progress.stage(position, maker.name, f"{maker.n_events} events, shards: {maker.n_shards}"):
        if finished:
            progress.note(f"{len(finished)} of {maker.n_shards} shards are there already")
        _make_missing(maker, folder, seed, jobs, finished, progress)
        shards = [_read_shard(folder, shard, maker) for shard in range(maker.n_shards)]
        arrays = maker.merge(shards)
        arrays[PROVENANCE] = np.array(json.dumps(identity | {"command": command}, sort_keys=True))
        try:
            write_npz(path, arrays)
        except OSError as error:
            raise _unwritten(path, error, maker.n_shards, maker) from error
    shutil.rmtree(folder, ignore_errors=True)


def _make_missing(
    maker: ShardMaker, folder: Path, seed: int, jobs: int, finished: set[int], progress: Progress
) -> None:
    missing = [shard for shard in range(maker.n_shards) if shard not in finished]
    per_shard = maker.n_events / maker.n_shards
    start = time.monotonic()
    with progress.track(maker.n_events, "events") as tracker:
        tracker.advance(per_shard * len(finished))
        try:
            for made, shard in enumerate(make_shards(maker, missing, seed, jobs, folder), start=1):
                finished.add(shard)
                rate = made * per_shard / max(time.monotonic() - start, 1e-9)
                tracker.advance(per_shard, speed=f"{rate:.0f} events/s")
        except ShardError as error:
            raise _failed(error.failure, maker, len(finished)) from error


def _failed(failure: ShardFailure, maker: ShardMaker, n_finished: int) -> TriggerPruneError:
    what = f"shard {failure.shard} of {maker.name} was not made: {failure.reason}"
    kept = f"{n_finished} of {maker.n_shards} shards are kept"
    if failure.os_error:
        return ArtefactError(what, hint=f"{kept}; make room or repair the folder, then {_RESUME}")
    if failure.died:
        return ToolError(what, hint=f"{kept}; {_RESUME}, with fewer --jobs if memory ran out")
    return ToolError(what, hint=failure.hint or f"{kept}; {_RESUME} with --debug for the traceback")


def _unwritten(path: Path, error: OSError, n_finished: int, maker: ShardMaker) -> ArtefactError:
    return ArtefactError(
        f"{path} cannot be written: {error.strerror or error}",
        hint=f"{n_finished} of {maker.n_shards} shards are kept; make room or repair the folder, then {_RESUME}",
    )


def _read_shard(folder: Path, shard: int, maker: ShardMaker) -> dict[str, NDArray[Any]]:
    path = shard_path(folder, shard)
    try:
        return read_npz(path)
    except READ_ERRORS as error:
        raise ArtefactError(
            f"shard {shard} of {maker.name} cannot be read: {error}", hint=f"{_RESUME}: this shard is made once more"
        ) from error
