"""A project before it is known to be right: raw values, where each came from, and what is wrong with them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trigger_prune.config.keys import keys_by_name, section_model, suggest
from trigger_prune.config.project import ProjectConfig
from trigger_prune.config.yaml_source import Where, parse_yaml
from trigger_prune.errors import ConfigError

_LONGEST_VALUE = 60


@dataclass
class Draft:
    """Raw ``values``, the line or the override each path came from, and ``problems`` so far (text by line)."""

    file: Path
    shown: str
    values: dict[str, Any]
    origins: dict[Where, int | str] = field(default_factory=dict)
    found: list[tuple[int, str]] = field(default_factory=list)
    bad_sections: set[str] = field(default_factory=set)

    def validate(self) -> ProjectConfig | None:
        """The checked project, or None when there are problems; new ones are added to ``problems``."""
        config = None
        try:
            config = ProjectConfig.model_validate(self.values, strict=True)
        except ValidationError as error:
            seen: set[str] = set()
            for detail in error.errors(include_url=False):
                # Keys that are not text were reported, with their line, when the file was read.
                if detail["type"] != "invalid_key":
                    self._add(detail, seen)
        return None if self.problems else config

    def repaired(self) -> ProjectConfig:
        """The project with every faulty section at its defaults, to find out what else is wrong."""
        good = {name: value for name, value in self.values.items() if str(name) not in self.bad_sections}
        return ProjectConfig.model_validate({"project": "unnamed"} | good, strict=True)

    @property
    def problems(self) -> list[str]:
        """What is wrong, in the order of the file, the overrides last."""
        return [text for _, text in sorted(self.found, key=lambda problem: problem[0] or 2**62)]

    def add_problem(self, origin: int | str | None, text: str) -> None:
        """Note a problem at a line of the file (0 or None: the file as a whole) or at an override."""
        line = origin if isinstance(origin, int) else 0
        self.found.append((line, f"{self.show_origin(origin)}: {text}"))

    def origin(self, path: Where) -> int | str | None:
        """Line or override that gave the value at ``path``: the nearest one from there upwards."""
        known = (path[:length] for length in range(len(path), 0, -1) if path[:length] in self.origins)
        return next((self.origins[at] for at in known), None)

    def show_origin(self, origin: int | str | None) -> str:
        """``file:line``, the override, or the file."""
        if isinstance(origin, str):
            return origin
        return f"{self.shown}:{origin}" if origin else self.shown

    def _add(self, detail: Any, seen: set[str]) -> None:
        path = detail["loc"] or _key_in(detail["msg"])
        self.bad_sections.add(str(path[0]))
        name = _declared_part(path)
        if name in seen and detail["type"] != "extra_forbidden":
            # A value that fits none of several types gives one error per type.
            return
        seen.add(name)
        text = _explain(name, path, detail)
        origin = self.origin(path)
        below = {o for at, o in self.origins.items() if at[: len(path)] == path and isinstance(o, str)} - {origin}
        self.add_problem(origin, text + "".join(f" (with {override})" for override in sorted(map(str, below))))


def _key_in(message: str) -> tuple[str, ...]:
    """The key that a rule over several sections names first; its error has no place of its own."""
    found = re.search(r"[a-z_]+(\.[a-z_]+)+", message)
    return tuple(found.group().split(".")) if found else ("project",)


def read_draft(file: Path, overrides: Sequence[str] = (), seed: int | None = None) -> Draft:
    """Read ``file`` and lay the overrides over it.

    Raises ConfigError when the file cannot be read or is not YAML; everything else is left in ``problems``.
    """
    shown = _shown(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown} cannot be read: {error}") from None
    source = parse_yaml(text, shown)
    values = {} if source.values is None else source.values
    if not isinstance(values, dict):
        raise ConfigError(
            f"{shown}: holds {_show(values)}, not keys", hint="`trigger-prune init NAME` shows the layout"
        )
    # A section whose keys are all commented out reads as null.
    values = {k: {} if v is None and section_model(str(k)) is not None else v for k, v in values.items()}
    draft = Draft(file, shown, values, dict(source.lines))
    for line, problem in source.problems:
        draft.add_problem(line, problem)
    for override in overrides:
        _override(draft, override, f"--set {override}")
    if seed is not None:
        _override(draft, f"seed={seed}", f"--seed {seed}")
    return draft


def _override(draft: Draft, text: str, origin: str) -> None:
    dotted, equals, value_text = text.partition("=")
    dotted = dotted.strip()
    if not equals or not dotted:
        draft.add_problem(origin, "write --set key=value, e.g. --set train.epochs=20")
        return
    path = tuple(dotted.split("."))
    if problem := _unknown(path):
        draft.add_problem(origin, problem)
        return
    try:
        value = parse_yaml(value_text, origin).values
    except ConfigError as error:
        draft.found.append((0, error.message))
        return
    if value is None and section_model(dotted) is not None:
        value = {}
    if dotted in ("data.path", "cost.store") and isinstance(value, str) and not value.startswith("builtin:"):
        value = str(Path(value).expanduser().absolute())
    inner = draft.values
    for depth, part in enumerate(path[:-1], start=1):
        below = inner.get(part)
        if below is not None and not isinstance(below, dict):
            where = draft.show_origin(draft.origin(path[:depth]))
            draft.add_problem(origin, f"{'.'.join(path[:depth])} is {_show(below)} ({where}), not keys")
            return
        inner[part] = dict(below or {})
        inner = inner[part]
    inner[path[-1]] = value
    draft.origins = {at: where for at, where in draft.origins.items() if at[: len(path)] != path}
    draft.origins[path] = origin


def _unknown(path: tuple[str, ...]) -> str | None:
    """Why ``path`` is not a key that can be set, or None when it is."""
    keys = keys_by_name()
    dotted = ".".join(path)
    if dotted in keys or section_model(dotted) is not None:
        return None
    for length in range(len(path) - 1, 0, -1):
        above = keys.get(".".join(path[:length]))
        if above is not None:
            return None if above.free and all(path) else f"{above.name} has no keys below it, it is {above.expected}"
    return f"unknown key {dotted}; {suggest(dotted)}"


def _declared_part(path: Where) -> str:
    """The dotted name of the key at or above ``path``; the path itself when it names no key."""
    keys = keys_by_name()
    for length in (1, 2):
        if ".".join(str(part) for part in path[:length]) in keys:
            return ".".join(str(part) for part in path[:length])
    return ".".join(str(part) for part in path)


def _explain(name: str, path: Where, detail: Any) -> str:
    key = keys_by_name().get(name)
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f"unknown key {name}; {suggest(name)}"
    if kind == "missing":
        return f"{name} is missing; it must be {key.expected if key else 'given'}"
    if kind == "value_error":
        return f"{name}: {detail['ctx']['error']}"
    if key is None:
        model = section_model(name)
        return f"{name} is {_show(value)}, but must hold keys: {', '.join(model.model_fields if model else ())}"
    entries = [part for part in path[len(name.split(".")) :] if isinstance(part, int)]
    entry = f"entry {entries[0] + 1} of {name}" if entries else name
    return f"{entry} is {_show(value)}, but {name if entries else 'it'} must be {key.expected}"


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _shown(file: Path) -> str:
    """The path as short as it can be said: relative when it lies below the current directory."""
    here = Path(os.curdir).absolute()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
