"""Environment modules (Tcl) and Lmod (Lua): module files of Vivado and Vitis, read as text.

Only what is needed to find the tools is understood: absolute paths, put together from variables of the same file, and
licence variables. The module system itself is not run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TOOL_NAME = re.compile(r"vivado|vitis|xilinx", re.IGNORECASE)
_MAX_DEPTH = 4
_MAX_FILES = 200
_TCL_SET = re.compile(r"^\s*set\s+(\w+)\s+[\"{]?([^\"}\s]+)", re.M)
_LUA_SET = re.compile(r"^\s*(?:local\s+)?(\w+)\s*=\s*(.+?)\s*$", re.M)
_LICENCE = re.compile(
    r"^\s*(?:setenv|prepend-path|append-path|prepend_path|append_path)\s*\(?\s*\"?"
    r"(LM_LICENSE_FILE|XILINXD_LICENSE_FILE)\"?[\s,]+\"?([^\s\")]+)",
    re.M,
)
_PATH = re.compile(r"/[^\s\"'(){},;:]+")

LICENCE_VARIABLES = ("XILINXD_LICENSE_FILE", "LM_LICENSE_FILE")


@dataclass(frozen=True)
class ModuleFile:
    """A module: ``name`` as for ``module load``, folders that may hold ``bin/TOOL``, licence variables it sets."""

    name: str
    folders: tuple[Path, ...]
    licences: tuple[tuple[str, str], ...]


def find_module_files(module_path: str) -> list[ModuleFile]:
    """Module files with vivado, vitis or xilinx in their name, of all folders of MODULEPATH (colon-separated)."""
    found = []
    for text in filter(None, module_path.split(os.pathsep)):
        root = Path(text)
        for path in _candidates(root):
            module = _read(path, str(path.relative_to(root)).removesuffix(".lua"))
            if module is not None:
                found.append(module)
    return found


def _candidates(root: Path) -> Iterator[Path]:
    count = 0
    for folder, names, files in os.walk(root):
        here = Path(folder).relative_to(root)
        if len(here.parts) >= _MAX_DEPTH:
            names.clear()
        names.sort()
        for name in sorted(files):
            if _TOOL_NAME.search(str(here / name)) and not name.startswith("."):
                count += 1
                if count > _MAX_FILES:
                    return
                yield Path(folder) / name


def _read(path: Path, name: str) -> ModuleFile | None:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None  # not ours to read
    release = path.name.removesuffix(".lua")
    text = text.replace("myModuleVersion()", f'"{release}"')
    lua = path.suffix == ".lua"
    text = _join_lua(text) if lua else _expand_tcl(text, release)
    folders: dict[Path, None] = {}
    for match in _PATH.finditer(text):
        folder = Path(match.group(0))
        for candidate in (folder, folder.parent):
            if candidate.name not in ("", "bin"):
                folders[candidate] = None
    return ModuleFile(name, tuple(folders), tuple((m.group(1), m.group(2)) for m in _LICENCE.finditer(text)))


def _expand_tcl(text: str, release: str) -> str:
    variables = {"version": release}
    for match in _TCL_SET.finditer(text):
        variables[match.group(1)] = _substitute_tcl(match.group(2), variables)
    return _substitute_tcl(text, variables)


def _substitute_tcl(text: str, variables: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        return variables.get(match.group(1) or match.group(2), match.group(0))

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, text)


def _join_lua(text: str) -> str:
    """Replace ``pathJoin(a, b)`` and ``a .. b`` of known strings by the joined string."""
    variables: dict[str, str] = {}
    for match in _LUA_SET.finditer(text):
        value = _lua_string(match.group(2), variables)
        if value is not None:
            variables[match.group(1)] = value
    lines = []
    for line in text.splitlines():
        call = re.match(r"\s*(\w+)\s*\(\s*(.*)\)\s*$", line)
        if call is None:
            lines.append(line)
            continue
        name, rest = call.groups()
        variable, _, argument = rest.partition(",")
        value = _lua_string(argument.strip(), variables)
        lines.append(line if value is None else f'{name}({variable}, "{value}")')
    return "\n".join([*lines, *variables.values()])


def _lua_string(expression: str, variables: dict[str, str]) -> str | None:
    joined = re.fullmatch(r"pathJoin\s*\((.*)\)", expression)
    parts = joined.group(1).split(",") if joined else expression.split("..")
    values = []
    for part in map(str.strip, parts):
        literal = re.fullmatch(r"\"([^\"]*)\"|'([^']*)'", part)
        if literal:
            values.append(literal.group(1) or literal.group(2) or "")
        elif part in variables:
            values.append(variables[part])
        else:
            return None
    return ("/" if joined else "").join(values)
