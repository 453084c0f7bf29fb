"""A new project: a commented project.yaml written from the models, and a short README."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from trigger_prune.config.keys import Key, key_blocks, yaml_text
from trigger_prune.config.load import FILE_NAME
from trigger_prune.errors import ConfigError

_WIDTH = 110

_HEAD = """\
Project of trigger_prune. Every key stands here with its default; one that is commented out is not set.
Relative paths start at the folder of this file. `trigger-prune check FOLDER` says what is wrong with it."""

_README = """\
# {name}

`project.yaml` says which events, which network, which FPGA and which budget. Every key is explained in the file.

    trigger-prune check {folder}     # is everything there?
    trigger-prune run {folder}       # train, prune, quantise, export, verify; the report is in build/report.html

Set `budget.lut` (or another limit) before the run: pruning goes on until the measured cost is below it.
Generated files go to `build/`. An interrupted run is resumed by the same command.
"""


def project_template(name: str) -> str:
    """Text of a project.yaml in which every key has its default value."""
    lines = [*_comment(_HEAD, ""), ""]
    for block in key_blocks():
        indent = ""
        if block.name:
            lines += [*_comment(block.description, ""), f"{block.name}:"]
            indent = "  "
        for key in block.keys:
            lines += [*_comment(f"{key.description} [{key.expected}]", indent), indent + _assignment(key, name)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def init_project(folder: Path) -> tuple[Path, ...]:
    """Write project.yaml and README.md into ``folder`` (made when missing); returns the files.

    Raises ConfigError when one of them exists already: nothing is overwritten.
    """
    name = folder.absolute().name
    texts = {FILE_NAME: project_template(name), "README.md": _README.format(name=name, folder=folder)}
    for file_name in texts:
        if (folder / file_name).exists():
            raise ConfigError(f"{folder / file_name} exists already", hint="choose another name, or remove the file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, text in texts.items():
            temporary = folder / f".{file_name}.{os.getpid()}"
            temporary.write_text(text, encoding="utf-8")
            temporary.rename(folder / file_name)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from None
    return tuple(folder / file_name for file_name in texts)


def _assignment(key: Key, project: str) -> str:
    if key.required:
        return f"{key.leaf}: {yaml_text(project)}"
    if key.default is None:
        return f"# {key.leaf}: null"
    return f"{key.leaf}: {yaml_text(key.default)}"


def _comment(text: str, indent: str) -> list[str]:
    wrapped = [line for part in text.splitlines() for line in textwrap.wrap(part, _WIDTH - len(indent))]
    return [f"{indent}# {line}" for line in wrapped]
