"""The compiled run-time library is kept, made anew when it is gone, and never taken for one of other flags."""

import shutil
import stat
from pathlib import Path

import pytest

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.rtl.tools import Limits
from trigger_prune.synthesis.rtl.verilator_runtime import runtime_objects

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
