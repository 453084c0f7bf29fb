"""The stand-in for ``vitis-run``, installed on a PATH of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trigger_prune.synthesis.hls.search import find_installations

STAND_IN = Path(__file__).parents[1] / "stand_in" / "stand_in_vitis.py"


@dataclass(frozen=True)
class StandIn:
    """``launcher`` is the only vendor tool there is; ``counter`` has a line per call."""

    launcher: Path
    counter: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def calls(self) -> int:
        return len(self.counter.read_text().splitlines()) if self.counter.exists() else 0

    def behave(self, **variables: str) -> None:
        """Set ``STAND_IN_*`` variables: bias, seed, fail, silent."""
        for name, value in variables.items():
            self.monkeypatch.setenv(f"STAND_IN_{name.upper()}", value)

    def remove(self) -> None:
        """The machine has no HLS compiler any more."""
        self.monkeypatch.setenv("PATH", f"/usr/bin{os.pathsep}/bin")

    def synthesise(self, script: Path) -> subprocess.CompletedProcess[str]:
        """Run a script of a bundle where the tools are."""
        path = f"{self.launcher.parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return subprocess.run(
            ["sh", str(script)], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    folder = tmp_path / "Vitis" / "2024.1" / "bin"
    folder.mkdir(parents=True)
    launcher = folder / "vitis-run"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in (
        *("XILINX_HLS", "XILINX_VITIS", "XILINX_VIVADO_HLS", "XILINX_VIVADO", "MODULEPATH", "TRIGGER_PRUNE_XILINX"),
        *("XILINXD_LICENSE_FILE", "LM_LICENSE_FILE", "STAND_IN_BIAS", "STAND_IN_SEED", "STAND_IN_FAIL"),
        "STAND_IN_SILENT",
    ):
        monkeypatch.delenv(name, raising=False)
    counter = tmp_path / "calls"
    monkeypatch.setenv("STAND_IN_COUNTER", str(counter))
    monkeypatch.setenv("TRIGGER_PRUNE_LICENCES", str(tmp_path / "licences"))
    monkeypatch.setattr(find_installations, "__defaults__", (None, ()))
    return StandIn(launcher, counter, monkeypatch)


@pytest.fixture(autouse=True)
def few_solutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small networks of these tests need no finer ramp."""
    monkeypatch.setattr("trigger_prune.prune.budget.ramp._SOLUTIONS", 6)
