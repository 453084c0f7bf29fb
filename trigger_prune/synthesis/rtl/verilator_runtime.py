"""What keeps the compilation of Verilator's C++ short: one library for all designs, one file for a small design."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from trigger_prune.synthesis.rtl.tools import Limits, run_tool

RUNTIME_SOURCES = ("verilated", "verilated_threads")

_ONE_FILE_BYTES = 4 << 20
"""A larger design is compiled file by file, as Verilator split it: the compiler's memory grows with the file."""

_lock = Lock()
_compiled: dict[tuple[str, ...], tuple[tempfile.TemporaryDirectory[str], list[Path]]] = {}
"""The folders go with the process."""


def runtime_objects(root: Path, compiler: str, flags: Sequence[str], limits: Limits) -> list[Path]:
    """Object files of the library below ``root``, to be linked with a simulation that is compiled with ``flags``.

    Raises ToolError when the compiler fails or breaks a limit.
    """
    key = (str(root), compiler, *flags)
    with _lock:
        if key not in _compiled or not all(path.exists() for path in _compiled[key][1]):
            folder = tempfile.TemporaryDirectory(prefix="trigger_prune_verilator_")
            include = root / "include"
            run_tool(
                [compiler, *flags, "-c", f"-I{include}", f"-I{include / 'vltstd'}"]
                + [include / f"{name}.cpp" for name in RUNTIME_SOURCES],
                tool=f"{Path(compiler).name} on Verilator's library",
                folder=Path(folder.name),
                error_lines="error",
                limits=limits,
            )
            _compiled[key] = (folder, [Path(folder.name) / f"{name}.o" for name in RUNTIME_SOURCES])
        return _compiled[key][1]


def design_sources(folder: Path) -> list[Path]:
    """The C++ that Verilator left in ``folder``, as the files to compile: the headers, which take longer than a small
    design itself, are read once where one file includes all others (Verilator's own makefile does so, too)."""
    generated = sorted(folder.glob("*.cpp"))
    if sum(path.stat().st_size for path in generated) > _ONE_FILE_BYTES:
        return generated
    every = folder / "every_file.cc"
    every.write_text("".join(f'#include "{path.name}"\n' for path in generated))
    return [every]
