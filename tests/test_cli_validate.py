"""The command validate from end to end, with stand-in tools: every measured figure here is invented."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trigger_prune.cli.validate import COMMANDS
from trigger_prune.synthesis.hls.search import find_installations

STAND_IN = Path(__file__).parent / "synthesis" / "stand_in_vitis_run.py"


@pytest.fixture
def call():
    app = typer.Typer()
    for name, function, _ in COMMANDS:
        app.command(name)(function)
    app.command("other")(lambda: None)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["validate", *map(str, arguments)])


@pytest.fixture
def vitis(tmp_path, monkeypatch):
    """``vitis-run`` on PATH; returns the file that gets a line for each of its runs."""
    folder = tmp_path / "path"
    folder.mkdir()
    launcher = folder / "vitis-run"
    launcher.write_text(f'#!/bin/sh\nSTAND_IN_NAME=vitis-run exec "{sys.executable}" "{STAND_IN}" "$@"\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in ("XILINX_HLS", "XILINX_VITIS", "XILINX_VIVADO_HLS", "XILINX_VIVADO", "MODULEPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("STAND_IN_COUNTER", str(tmp_path / "calls"))
    monkeypatch.setenv("TRIGGER_PRUNE_STORE", str(tmp_path / "default_store"))
    monkeypatch.setattr(find_installations, "__defaults__", (None, ()))
    return tmp_path / "calls"


@pytest.mark.slow
def test_ten_designs_are_run_compared_kept_and_not_run_again(call, vitis, tmp_path):
    arguments = ("--run", "--out", tmp_path / "work", "--store", tmp_path / "store", "--json")
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["comparisons"]) >= 10 and found["problems"] == {}
    for entry in found["comparisons"]:
        rows = {row["quantity"]: row for row in entry["rows"]}
        assert entry["stage"] == "csynth"
        # What the stand-in has written, whatever the design.
        assert {name: row["measured"] for name, row in rows.items()} == {
            "lut": 12345,
            "ff": 3021,
            "dsp": 17,
            "bram18": 4,
            "latency_cycles": 11,
            "ii": 2,
        }
        lut = rows["lut"]
        assert lut["predicted"] > 0 and lut["inside"] is (lut["low"] <= 12345 <= lut["high"])
    # Ten designs differ, and so do their estimates.
    assert len({entry["rows"][0]["predicted"] for entry in found["comparisons"]}) >= 10
    runs = len(vitis.read_text().splitlines())
    assert runs == len(found["comparisons"])
    again = call(*arguments)
    assert json.loads(again.stdout) == found
    assert len(vitis.read_text().splitlines()) == runs
    shown = call("--read", tmp_path / "work", "--no-store")
    assert shown.exit_code == 0, shown.output
    assert "dense_8b_90" in shown.output and "Summary" in shown.output
    assert not (tmp_path / "default_store").exists()
    assert len(list((tmp_path / "store" / "entries").rglob("meta.json"))) == runs


@pytest.mark.slow
def test_a_package_is_written_run_elsewhere_and_read(call, vitis, tmp_path):
    package = tmp_path / "package"
    result = call("--package", package, "--part", "xcku115-flvb2104-2-i", "--clock", 4)
    assert result.exit_code == 0, result.output
    assert f"validate --read {package}" in result.output
    readme = (package / "README.md").read_text()
    assert "xcku115-flvb2104-2-i at 4 ns" in readme and "dense_8b_90" in readme
    early = call("--read", package)
    assert early.exit_code == 1 and "dense_8b: not run yet" in early.output
    subprocess.run([package / "run_all.sh"], check=True, capture_output=True)
    shown = call("--read", package)
    assert shown.exit_code == 0, shown.output
    assert "xcku115-flvb2104-2-i, 4 ns" in shown.output
    assert (tmp_path / "default_store" / "entries").is_dir()


def test_without_a_tool_it_says_so_before_writing_anything(call, vitis, tmp_path):
    (tmp_path / "path" / "vitis-run").unlink()
    result = call("--run", "--out", tmp_path / "work")
    assert result.exit_code == 1 and "no HLS compiler" in result.output
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--run", "--package", "x"), "exclude each other"),
        (("--steps", "cosim"), "lack csynth"),
        (("--steps", "synth"), "no HLS step named 'synth'"),
        (("--clock", "0"), "makes no sense"),
        (("--read", "/nonexistent"), "no validation folder"),
    ],
)
def test_wrong_calls_are_explained(arguments, message, call):
    result = call(*arguments)
    assert result.exit_code in (1, 2) and message in result.output
