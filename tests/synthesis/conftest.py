"""Stand-in vendor tools, installed where a test wants them. Their figures are invented, never a synthesis."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trigger_prune.synthesis.hls.search import find_installations

HERE = Path(__file__).parent


@dataclass(frozen=True)
class StandIns:
    """``path_folder`` is the only place on PATH for vendor tools; the usual folders are not looked at."""

    path_folder: Path

    def install(self, name: str, folder: Path | None = None) -> Path:
        """Put a launcher ``name`` into ``folder`` (default: on PATH); returns it."""
        place = folder or self.path_folder
        place.mkdir(parents=True, exist_ok=True)
        script = HERE / ("stand_in_vivado.py" if name == "vivado" else "stand_in_vitis_run.py")
        launcher = place / name
        launcher.write_text(f'#!/bin/sh\nSTAND_IN_NAME={name} exec "{sys.executable}" "{script}" "$@"\n')
        launcher.chmod(0o755)
        return launcher


@pytest.fixture
def stand_ins(tmp_path, monkeypatch) -> StandIns:
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in (
        *("XILINX_HLS", "XILINX_VITIS", "XILINX_VIVADO_HLS", "XILINX_VIVADO", "MODULEPATH", "TRIGGER_PRUNE_XILINX"),
        *("XILINXD_LICENSE_FILE", "LM_LICENSE_FILE", "STAND_IN_MODE"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRIGGER_PRUNE_LICENCES", str(tmp_path / "licences"))
    monkeypatch.setattr(find_installations, "__defaults__", (None, ()))
    return StandIns(folder)


@pytest.fixture
def hls_project(tmp_path) -> Path:
    """The outline of a project of hls4ml's Vitis backend, whose top function is ``network``."""
    folder = tmp_path / "project"
    (folder / "firmware").mkdir(parents=True)
    (folder / "firmware" / "network.cpp").write_text("")
    (folder / "project.tcl").write_text(
        'set project_name "network"\nset part "xcvu13p-flga2577-2-e"\nset clock_period 5.0\n'
    )
    (folder / "build_prj.tcl").write_text("source build_opt.tcl\n")
    (folder / "vivado_synth.tcl").write_text("")
    return folder
