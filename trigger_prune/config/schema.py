"""The keys of project.yaml as documentation: Markdown for the docs, JSON schema for editors."""

from __future__ import annotations

import json

from trigger_prune.config.keys import Key, key_blocks
from trigger_prune.config.project import ProjectConfig

HEADINGS = ("key", "type", "default", "allowed", "meaning")


def schema_rows(section: str) -> list[tuple[str, str, str, str, str]]:
    """One row (``HEADINGS``) per key of ``section``; the empty name holds the keys at the top of the file."""
    return [_row(key) for block in key_blocks() if block.name == section for key in block.keys]


def schema_markdown() -> str:
    """Every key of project.yaml as Markdown, one table per section."""
    parts = ["# Keys of project.yaml\n"]
    for block in key_blocks():
        parts.append(f"## {block.name or 'top of the file'}\n\n{block.description}\n")
        parts.append("| " + " | ".join(HEADINGS) + " |\n|" + " --- |" * len(HEADINGS))
        for row in schema_rows(block.name):
            name, kind, default, allowed, meaning = (cell.replace("|", "\\|") for cell in row)
            parts.append(f"| `{name}` | {kind} | `{default}` | {allowed} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def schema_json() -> str:
    """JSON schema of project.yaml, for editors that complete and check YAML."""
    return json.dumps(ProjectConfig.model_json_schema(), indent=2)


def _row(key: Key) -> tuple[str, str, str, str, str]:
    return key.name, key.kind, key.default_text, key.allowed, key.description
