"""YAML with line numbers: values as ``yaml.safe_load`` gives them, the line of every key, and every repeated key.

Two differences from YAML 1.1 as PyYAML reads it: ``1e-3`` is a number (PyYAML wants ``1.0e-3``), and dates stay text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from trigger_prune.errors import ConfigError

Where = tuple[str | int, ...]
"""Keys and list positions from the top of the document down to a value."""


@dataclass
class YamlSource:
    """``values`` of the document, the line (from 1) of every path, and problems as (line, text)."""

    values: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(("timestamp", "float"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(
    r"^[-+]?(?:(?:\d[\d_]*)?\.\d[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*\.?[eE][-+]?\d+|\d[\d_]*\.)$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
# Added last, so that 12 is still an integer.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str, source: str) -> YamlSource:
    """Parse one YAML document.

    ``source`` names it in errors. Raises ConfigError with the line when the text is not YAML; repeated keys and keys
    that are not text are collected in ``problems``.
    """
    found = YamlSource()
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _note_lines(node, (), found, set())
                found.values = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark is not None else source
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(
            f"{where}: not valid YAML: {what}", hint="indent with spaces, one `key: value` per line"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None
    return found


def _note_lines(node: Node, path: Where, found: YamlSource, above: set[int]) -> None:
    found.lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "a value contains itself", node.start_mark)
    inside = above | {id(node)}
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, index), found, inside)
    elif isinstance(node, MappingNode):
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            key = key_node.value
            if key_node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                found.problems.append((line, f"key {key} is not text for YAML; write '{key}' in quotes"))
            if key in first_line:
                dotted = ".".join(str(part) for part in (*path, key))
                found.problems.append((line, f"{dotted} is given twice, first on line {first_line[key]}"))
            first_line.setdefault(key, line)
            found.lines[(*path, key)] = line
            _note_lines(value_node, (*path, key), found, inside)
