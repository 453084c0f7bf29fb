"""The identity of a stage's result: a hash over everything that can change it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trigger_prune.config.load import LoadedProject
from trigger_prune.errors import ArtefactError, ConfigError
from trigger_prune.pipeline.stage import Stage
from trigger_prune.pipeline.view import values_of

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Identity:
    """``parts`` is everything that enters ``key``, the SHA-256 of its canonical JSON."""

    stage: str
    key: str
    parts: dict[str, Any]

    @property
    def folder_name(self) -> str:
        """Name of the artefact's folder: stage and first 12 digits of the key."""
        return f"{self.stage}-{self.key[:12]}"


def identities(project: LoadedProject, stages: Sequence[Stage[Any]]) -> dict[str, Identity]:
    """Identity of every stage's result, known before any stage runs.

    Raises ConfigError when a file that a stage reads cannot be read.
    """
    known: dict[str, Identity] = {}
    versions: dict[str, str] = {}
    digests: dict[Path, str] = {}
    for stage in stages:
        files = [] if stage.files is None else stage.files(project)
        parts = {
            "stage": stage.name,
            "version": stage.version,
            "config": values_of(project.config, stage.config_keys),
            "files": [[path.name, _input_digest(path, digests)] for path in files],
            "upstream": {name: known[name].key for name in sorted(stage.inputs)},
            "tools": {name: _tool_version(name, versions) for name in sorted(stage.tools)},
            "package": _tool_version("trigger_prune", versions),
        }
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        known[stage.name] = Identity(stage.name, hashlib.sha256(canonical.encode()).hexdigest(), parts)
    return known


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content. Raises ArtefactError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _input_digest(path: Path, digests: dict[Path, str]) -> str:
    if path not in digests:
        try:
            digests[path] = file_digest(path)
        except ArtefactError as error:
            raise ConfigError(error.message, hint="data.path and model.name say which files are read") from None
    return digests[path]


def _tool_version(name: str, versions: dict[str, str]) -> str:
    if name not in versions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions[name]
