"""Every key of project.yaml as plain data, read from the models: name, type, allowed values, default, description."""

from __future__ import annotations

import difflib
import inspect
import json
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from trigger_prune.config.project import ProjectConfig, Section

NEAR = 0.6
"""Two names are near when difflib finds at least this fraction of their letters in common."""


@dataclass(frozen=True)
class Key:
    """One key. ``kind``, ``allowed`` and ``expected`` (both in one phrase, for messages) are words for the user.

    A ``free`` key holds keys of the user's own, as ``model.args`` does.
    """

    name: str
    kind: str
    allowed: str
    expected: str
    required: bool
    default: Any
    description: str
    free: bool

    @property
    def section(self) -> str:
        """Name of the section the key is in; empty at the top."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """Last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def default_text(self) -> str:
        """The default as it is written in YAML."""
        return "(required)" if self.required else yaml_text(self.default)


@dataclass(frozen=True)
class KeyBlock:
    """The keys of one section; ``name`` is empty for the keys at the top of the file."""

    name: str
    description: str
    keys: tuple[Key, ...]


def yaml_text(value: Any) -> str:
    """A value on one line as YAML; JSON is YAML, and bare words stay bare."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    bare = text[1:-1]
    if isinstance(value, str) and bare == value and bare.replace("_", "").replace("-", "").isalnum():
        return text if bare.lower() in ("true", "false", "null", "yes", "no", "on", "off") or bare.isdigit() else bare
    return text


@cache
def key_blocks() -> tuple[KeyBlock, ...]:
    """All sections in the order of the models, the keys at the top first."""
    top = [name for name in ProjectConfig.model_fields if section_model(name) is None]
    blocks = [KeyBlock("", inspect.getdoc(ProjectConfig) or "", _keys_of(ProjectConfig, "", top))]
    for name in ProjectConfig.model_fields:
        model = section_model(name)
        if model is not None:
            blocks.append(KeyBlock(name, inspect.getdoc(model) or "", _keys_of(model, name, list(model.model_fields))))
    return tuple(blocks)


@cache
def keys_by_name() -> dict[str, Key]:
    """Every key under its dotted name."""
    return {key.name: key for block in key_blocks() for key in block.keys}


def section_model(name: str) -> type[Section] | None:
    """The model of section ``name``, or None when there is no such section."""
    field = ProjectConfig.model_fields.get(name)
    kind = None if field is None else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def is_declared(dotted: str) -> bool:
    """True for the name of a key or of a whole section."""
    return dotted in keys_by_name() or section_model(dotted) is not None


def suggest(unknown: str) -> str:
    """What the user may have meant by the unknown key ``unknown``: a phrase that follows the error, never empty.

    Keys of the same section come first, then the same or a near name in any other section.
    """
    section, _, leaf = unknown.rpartition(".")
    scores: dict[str, float] = {}
    for name, key in keys_by_name().items():
        initials = "".join(word[0] for word in key.leaf.split("_"))  # lr for learning_rate
        score = max(_ratio(leaf, key.leaf), 0.8 if leaf == initials else 0.0)
        scores[name] = max(score + 0.1 * _ratio(section, key.section), _ratio(unknown, name))
    if not section:
        scores |= {block.name: _ratio(unknown, block.name) for block in key_blocks()[1:]}
    best = max(scores.values())
    if best >= NEAR:
        # Equal names in several sections (epochs) are all offered.
        names = [name for name, score in scores.items() if score > best - 0.01][:4]
        return "did you mean " + " or ".join(filter(None, [", ".join(names[:-1]), names[-1]])) + "?"
    model = section_model(section)
    known = model.model_fields if model is not None else ProjectConfig.model_fields
    return f"known in {section or 'the file'}: {', '.join(known)}"


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _keys_of(model: type[Section], section: str, names: list[str]) -> tuple[Key, ...]:
    properties = model.model_json_schema()["properties"]
    keys = []
    for name in names:
        field, shape = model.model_fields[name], properties[name]
        kind, allowed, expected = _describe(shape)
        entry = _entry_model(field.annotation)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if entry is not None:
            default = [value.model_dump(exclude_defaults=True) for value in default or ()]
        keys.append(
            Key(
                name=f"{section}.{name}" if section else name,
                kind=kind,
                allowed=allowed,
                expected=expected,
                required=field.is_required(),
                default=default,
                description=(field.description or "") + ("" if entry is None else _entry_text(entry)),
                free=any(part.get("type") == "object" for part in shape.get("anyOf", [shape])),
            )
        )
    return tuple(keys)


def _entry_model(annotation: Any) -> type[Section] | None:
    """The model of the entries of a list of mappings, None for every other kind of key."""
    inner = get_args(annotation)[0] if get_origin(annotation) is list else None
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _entry_text(model: type[Section]) -> str:
    """Keys of one entry of a list of mappings, in words."""
    keys = _keys_of(model, "", list(model.model_fields))
    return " Keys of an entry:" + "".join(
        f" {key.name} ({key.expected}; {'required' if key.required else key.default_text}) - {key.description}"
        for key in keys
    )


def _describe(shape: dict[str, Any]) -> tuple[str, str, str]:
    """Kind, allowed values, and both in one phrase, of one JSON-schema property."""
    choices = shape.get("anyOf", [shape])
    parts = [_describe_one(part) for part in choices if part.get("type") != "null"]
    null = " or null" if len(parts) < len(choices) else ""
    kind = " or ".join(kind for kind, _ in parts) + null
    allowed = "; ".join(allowed for _, allowed in parts if allowed)
    return kind, allowed, " or ".join(" ".join(filter(None, part)) for part in parts) + null


def _describe_one(shape: dict[str, Any]) -> tuple[str, str]:
    if "enum" in shape:
        return "one of", ", ".join(str(choice) for choice in shape["enum"])
    if "$ref" in shape:
        return "mapping", ""
    if shape["type"] == "array":
        kind, allowed = _describe_one(shape["items"])
        return f"list of {kind}s" if kind != "text" else "list of text", allowed
    if shape["type"] == "object":
        values = shape.get("additionalProperties")
        return ("mapping of names to text" if isinstance(values, dict) else "mapping"), ""
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}[shape["type"]]
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return kind, " and ".join(f"{sign} {_plain(shape[bound])}" for bound, sign in bounds.items() if bound in shape)


def _plain(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
