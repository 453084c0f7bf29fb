"""One folder of the store: the reports of one tool run, its log and raw texts, and what it is the result of."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trigger_prune.cost.hls.design import HlsDesign
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ArtefactError, TriggerPruneError
from trigger_prune.synthesis.store.design_file import design_from_json, design_to_json
from trigger_prune.synthesis.store.key import key_of
from trigger_prune.synthesis.store.network_file import network_from_json, network_to_json
from trigger_prune.synthesis.store.scrub import scrub, scrub_values

FORMAT, FORMAT_WITH_DESIGN = 1, 2
"""An entry with a design is of a format of its own: versions that cannot read it say so."""
META = "meta.json"
LOG = "log.txt.gz"
NETWORK = "network.json.gz"
DESIGN = "design.json.gz"
RAW = "raw-"

MAX_TEXT_BYTES = 64 << 20
"""Longest text an entry may hold, unpacked."""

_ATTEMPTS = 4
_PAUSE_S = 0.02
_LOG_CHARACTERS = 200_000
_RAW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Failure:
    """A run that ended without a report and would do so again.

    cause    as the tool's logs classify it (``unroll_limit``, ``compile_error``, ``out_of_memory`` ...)
    limits   limits it ran under: option -> value; a run with a higher limit may succeed
    """

    message: str
    cause: str
    hint: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """What one run of a tool gave.

    parts     of ``key_parts``; ``key`` follows from them
    reports   by stage; empty exactly when ``failure`` says why there is none
    created   date and time, UTC, ISO 8601
    log       end of the tool's log; ``raw`` the report files as the tool wrote them, by file name
    network   the integers that were synthesised, or None when the entry was shared without them
    design    where there is no network: its layers with counts in place of the weights (``cost.hls.weightless``), or
              None when they are not known
    """

    parts: Mapping[str, Any]
    reports: Mapping[CostStage, HardwareReport]
    created: str
    log: str = ""
    raw: Mapping[str, str] = field(default_factory=dict)
    network: NetworkSpec | None = None
    failure: Failure | None = None
    design: HlsDesign | None = None

    @property
    def key(self) -> str:
        """Name of the entry."""
        return key_of(self.parts)


def now() -> str:
    """The present, as ``StoredRun.created`` writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def is_key(text: str) -> bool:
    """Whether ``text`` can be the key of an entry."""
    return _KEY.fullmatch(text) is not None


def portable(run: StoredRun) -> StoredRun:
    """The same run without folders, host and user names in its texts."""
    reports = {}
    for stage, report in run.reports.items():
        raw = json.loads(report.to_json())
        raw["details"] = scrub_values(raw["details"])
        reports[stage] = HardwareReport.from_json(json.dumps(raw))
    failure = run.failure
    if failure is not None:
        hint = None if failure.hint is None else scrub(failure.hint)
        failure = Failure(scrub(failure.message), failure.cause, hint, failure.limits)
    texts = {name: scrub(text) for name, text in run.raw.items()}
    log = scrub(run.log)[-_LOG_CHARACTERS:]
    return replace(run, reports=reports, log=log, raw=texts, failure=failure)


def entry_files(run: StoredRun) -> dict[str, bytes]:
    """Files of the entry: name -> content; the same run gives the same bytes.

    Raises ArtefactError for a run that cannot be stored: nothing in it, or a raw text with an impossible name.
    """
    if bool(run.reports) == (run.failure is not None):
        raise ArtefactError("a stored run has either reports or a failure")
    files = {f"{stage.value}.json": report.to_json().encode() for stage, report in run.reports.items()}
    if run.log:
        files[LOG] = _pack(run.log)
    if run.network is not None:
        files[NETWORK] = _pack(network_to_json(run.network))
    if run.design is not None:
        files[DESIGN] = _pack(design_to_json(run.design))
    for name, text in run.raw.items():
        if not _RAW_NAME.fullmatch(name):
            raise ArtefactError(f"{name!r} cannot name a raw report", hint="letters, digits, dots and dashes")
        files[f"{RAW}{name}.gz"] = _pack(text)
    meta: dict[str, Any] = {
        "format": FORMAT if run.design is None else FORMAT_WITH_DESIGN,
        "key": run.key,
        "parts": dict(run.parts),
        "created": run.created,
        "failure": None if run.failure is None else {**vars(run.failure), "limits": dict(run.failure.limits)},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }
    meta["check"] = _check(meta)
    files[META] = (json.dumps(meta, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    return files


def read_files(files: Mapping[str, bytes], source: str) -> StoredRun:
    """Inverse of ``entry_files``. Raises ArtefactError naming ``source`` and the file that is missing or damaged."""
    try:
        meta = _read_meta(files, source)
        listed: dict[str, str] = meta["files"]
        for name in files:
            if name != META and name not in listed:
                raise ArtefactError(f"{source}: {name} is not a file of this entry")
        for name, digest in listed.items():
            if name not in files:
                raise ArtefactError(f"{source}: {name} is missing")
            if hashlib.sha256(files[name]).hexdigest() != digest:
                raise ArtefactError(f"{source}: {name} was altered or is incomplete")
        run = _assemble(files, meta, source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{source}: {META} is damaged: {error}") from None
    _require_consistent(run, source)
    return run


def read_entry(folder: Path) -> StoredRun | None:
    """The entry in ``folder``, or None when there is none. Raises ArtefactError when it is damaged."""
    failure = ""
    for attempt in range(_ATTEMPTS):
        # Another process may have replaced the entry between two reads: what stays wrong is damage.
        time.sleep(_PAUSE_S * attempt)
        try:
            meta = (folder / META).read_bytes()
            names = sorted(json.loads(meta)["files"])
            files = {META: meta} | {name: (folder / name).read_bytes() for name in names if Path(name).name == name}
            return read_files(files, str(folder))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not folder.is_dir():
                return None
            failure = f"{folder}: {Path(str(error.filename)).name} is missing"
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            failure = f"{folder}: {META} cannot be read: {error}"
        except ArtefactError as error:
            failure = error.message
    raise ArtefactError(failure, hint="trigger-prune store prune --damaged removes it")


def write_entry(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into the new folder and flush everything to disk."""
    folder.mkdir()
    for name, content in files.items():
        with (folder / name).open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems flush names on their own and refuse this
    finally:
        os.close(descriptor)


def _read_meta(files: Mapping[str, bytes], source: str) -> dict[str, Any]:
    if META not in files:
        raise ArtefactError(f"{source}: {META} is missing")
    meta = json.loads(files[META])
    if not isinstance(meta, dict) or "format" not in meta:
        raise ArtefactError(f"{source}: {META} is not that of a stored run")
    if meta["format"] not in (FORMAT, FORMAT_WITH_DESIGN):
        raise ArtefactError(
            f"{source}: format {meta['format']} is not {FORMAT} or {FORMAT_WITH_DESIGN}",
            hint="it was written by another version",
        )
    if _check({name: value for name, value in meta.items() if name != "check"}) != meta.get("check"):
        raise ArtefactError(f"{source}: {META} was altered or is incomplete")
    if key_of(meta["parts"]) != meta["key"]:
        raise ArtefactError(f"{source}: the key does not belong to its parts")
    return meta


def _assemble(files: Mapping[str, bytes], meta: dict[str, Any], source: str) -> StoredRun:
    reports: dict[CostStage, HardwareReport] = {}
    raw: dict[str, str] = {}
    log, network, design = "", None, None
    for name in meta["files"]:
        try:
            if name == LOG:
                log = _unpack(files[name])
            elif name == NETWORK:
                network = network_from_json(_unpack(files[name]))
            elif name == DESIGN:
                design = design_from_json(_unpack(files[name]))
            elif name.startswith(RAW):
                raw[name.removeprefix(RAW).removesuffix(".gz")] = _unpack(files[name])
            else:
                reports[CostStage(name.removesuffix(".json"))] = HardwareReport.from_json(files[name].decode())
        except (TriggerPruneError, ValueError, OSError, EOFError, zlib.error) as error:
            raise ArtefactError(f"{source}: {name} is damaged: {error}") from None
    failure = None if meta["failure"] is None else Failure(**meta["failure"])
    datetime.fromisoformat(meta["created"])
    return StoredRun(meta["parts"], reports, meta["created"], log, raw, network, failure, design)


def _require_consistent(run: StoredRun, source: str) -> None:
    if bool(run.reports) == (run.failure is not None):
        raise ArtefactError(f"{source}: it holds neither a report nor a failure, or both")
    content_hash = run.parts.get("content_hash")
    for stage, report in run.reports.items():
        if report.stage is not stage:
            raise ArtefactError(f"{source}: {stage.value}.json holds a report of stage {report.stage.value}")
        if report.content_hash != content_hash:
            raise ArtefactError(f"{source}: {stage.value}.json belongs to another network")
    if run.network is not None and run.network.content_hash() != content_hash:
        raise ArtefactError(f"{source}: {NETWORK} holds another network")


def _check(meta: Mapping[str, Any]) -> str:
    canonical = json.dumps(meta, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _pack(text: str) -> bytes:
    # A fixed date: the same text gives the same bytes.
    return gzip.compress(text.encode("utf-8", errors="replace"), mtime=0)


def _unpack(content: bytes) -> str:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        text = stream.read(MAX_TEXT_BYTES + 1)
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"unpacked it is longer than {MAX_TEXT_BYTES >> 20} MiB")
    return text.decode()
