"""The compiled run-time library is kept, made anew when it is gone, and never taken for one of other flags; what
Verilator wrote is compiled whole, in one file or in many."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.rtl.tools import Limits
from trigger_prune.synthesis.rtl.verilator_runtime import design_sources, runtime_objects

LIMITS = Limits(60.0, 1024.0)


def compiler_of(folder: Path, *, fails: bool = False) -> Path:
    """A stand-in for a C++ compiler: writes its arguments into the objects, and a line into ``calls``."""
    command = folder / "stand-in-compiler"
    end = "exit 3" if fails else 'for name in verilated verilated_threads; do echo "$@" > $name.o; done'
    command.write_text(f"#!/bin/sh\necho run >> {folder / 'calls'}\n{end}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_one_compilation_serves_until_the_objects_are_gone_or_the_flags_change(tmp_path: Path) -> None:
    compiler = str(compiler_of(tmp_path))
    first = runtime_objects(tmp_path, compiler, ["-O0"], LIMITS)
    assert [path.name for path in first] == ["verilated.o", "verilated_threads.o"]
    assert str(tmp_path / "include" / "verilated.cpp") in first[0].read_text()
    assert runtime_objects(tmp_path, compiler, ["-O0"], LIMITS) == first and calls(tmp_path) == 1
    other = runtime_objects(tmp_path, compiler, ["-O2"], LIMITS)
    assert other != first and "-O2" in other[0].read_text() and calls(tmp_path) == 2
    shutil.rmtree(first[0].parent)
    again = runtime_objects(tmp_path, compiler, ["-O0"], LIMITS)
    assert all(path.exists() for path in again) and calls(tmp_path) == 3


def test_a_failed_compilation_is_not_kept(tmp_path: Path) -> None:
    compiler = str(compiler_of(tmp_path, fails=True))
    with pytest.raises(ToolError, match="on Verilator's library"):
        runtime_objects(tmp_path, compiler, ["-O0"], LIMITS)
    compiler_of(tmp_path)
    assert runtime_objects(tmp_path, compiler, ["-O0"], LIMITS)[1].exists() and calls(tmp_path) == 2


@pytest.mark.parametrize("filler", [0, 5 << 20])
def test_a_program_of_one_file_or_of_many_is_whole(tmp_path: Path, filler: int) -> None:
    """Compiled and run by the real compiler; a large design stays split, or the compiler runs out of memory."""
    (tmp_path / "Vdesign.h").write_text("#pragma once\nint first();\nint second();\n")
    for name, value in (("first", 30), ("second", 12)):
        text = f'#include "Vdesign.h"\nint {name}() {{ return {value}; }}\n'
        (tmp_path / f"Vdesign_{name}.cpp").write_text(text + "//" + "x" * filler + "\n")
    main = tmp_path / "main.cc"
    main.write_text('#include "Vdesign.h"\nint main() { return first() + second(); }\n')
    sources = design_sources(tmp_path)
    assert len(sources) == (2 if filler else 1)
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    subprocess.run([compiler, "-o", tmp_path / "program", main, *sources], check=True)
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 42
