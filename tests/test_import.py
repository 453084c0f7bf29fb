"""Importing the package is cheap, and its public names are what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trigger_prune

ROOT = Path(trigger_prune.__file__).parents[1]
HEAVY = {
    "tensorflow", "keras", "torch", "numpy", "scipy", "pydantic", "yaml", "onnx", "onnxruntime", "qonnx", "hls4ml",
    "alkaid", "pyosys", "matplotlib", "jinja2", "h5py", "pyarrow", "uproot", "awkward",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    script = f"import json, sys\n{statement}\nprint(json.dumps(list(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert modules_after("import trigger_prune") & (HEAVY | {"typer", "rich"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_the_help_of_the_command_imports_nothing_heavy(arguments: list[str]) -> None:
    statement = f"""
from trigger_prune.cli import main
sys.argv = ["trigger-prune", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code
"""
    # typer itself checks the options of a command with pydantic.
    assert modules_after(statement) & HEAVY <= ({"pydantic"} if "run" in arguments else set())


def test_keras_and_tensorflow_are_not_imported_by_any_public_name() -> None:
    names = list(trigger_prune.__all__)
    statement = f"import trigger_prune\nfor name in {names!r}: getattr(trigger_prune, name)"
    assert modules_after(statement) & {"tensorflow", "keras", "torch", "matplotlib", "onnx", "hls4ml"} == set()


def test_public_names_are_sorted_and_resolve_to_what_they_are_called() -> None:
    assert trigger_prune.__all__ == sorted(trigger_prune.__all__)
    for name in trigger_prune.__all__:
        thing = getattr(trigger_prune, name)
        assert name == "__version__" or thing.__name__ == name
    assert set(trigger_prune.__all__) <= set(dir(trigger_prune))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        trigger_prune.nonsense  # noqa: B018


def test_the_version_is_that_of_the_project_file() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert trigger_prune.__version__ == declared
