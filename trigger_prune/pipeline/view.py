"""What a stage may read of the project: the keys it declares, and nothing else.

A stage's result is stored under the hash of its declared keys. If a stage could read another key, a change of that key
would not re-run it. The view makes that impossible instead of asking for care.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from trigger_prune.config.project import ProjectConfig, Section


class UndeclaredAccessError(RuntimeError):
    """A stage reads a config key or an upstream result that it does not declare: an error in the stage's code."""


class ConfigView:
    """Attribute access to ``section``, limited to the names in ``allowed``; a section's name gives all of it."""

    __slots__ = ("_allowed", "_prefix", "_section", "_stage")

    def __init__(self, section: Section, allowed: Sequence[str], stage: str, prefix: str = "") -> None:
        self._section = section
        self._allowed = frozenset(allowed)
        self._stage = stage
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        if name in self._allowed:
            return getattr(self._section, name)
        inner = [key.partition(".")[2] for key in self._allowed if key.startswith(name + ".")]
        if inner:
            return ConfigView(getattr(self._section, name), inner, self._stage, f"{self._prefix}{name}.")
        raise UndeclaredAccessError(
            f"stage {self._stage!r} reads {self._prefix}{name}, which is not among its config_keys "
            f"({', '.join(sorted(self._prefix + key for key in self._allowed)) or 'none'})"
        )


def view_of(config: ProjectConfig, keys: Sequence[str], stage: str) -> ProjectConfig:
    """``config`` reduced to ``keys``; whole declared sections are the real ones. Other access raises."""
    return cast("ProjectConfig", ConfigView(config, keys, stage))


def values_of(config: ProjectConfig, keys: Sequence[str]) -> dict[str, Any]:
    """Plain JSON values of the dotted ``keys``."""
    dumped = config.model_dump(mode="json")
    values = {}
    for key in sorted(keys):
        value = dumped
        for part in key.split("."):
            value = value[part]
        values[key] = value
    return values
