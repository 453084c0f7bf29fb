"""Finds installations of Vitis, Vitis HLS, Vivado HLS and Vivado: PATH, environment, usual folders, modules.

Layouts: ``ROOT/Vitis_HLS/2022.2/bin`` (to 2024.2) and ``ROOT/2025.1/Vitis/bin`` (later). No tool is started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from trigger_prune.synthesis.hls.modules import ModuleFile, find_module_files
from trigger_prune.synthesis.hls.tools import HLS_KINDS, RELEASE, HlsInstallation, ToolKind, sort_installations

KINDS: tuple[ToolKind, ...] = (*HLS_KINDS, "vivado")
PRODUCTS = ("Vitis", "Vitis_HLS", "Vivado_HLS", "Vivado")
VARIABLES = ("XILINX_HLS", "XILINX_VITIS", "XILINX_VIVADO_HLS", "XILINX_VIVADO")
ROOTS_VARIABLE = "TRIGGER_PRUNE_XILINX"
"""Further folders to look under, separated by colons."""

ROOTS = tuple(
    f"{base}/{maker}"
    for base in ("/opt", "/tools", "/data", "/usr/local", "/software", "/eda", "/cad", "~", "/opt/local", "/mnt/tools")
    for maker in ("Xilinx", "xilinx", "AMD", "amd")
)


def find_installations(
    environment: Mapping[str, str] | None = None, roots: Iterable[str | Path] = ROOTS
) -> list[HlsInstallation]:
    """Every installed tool, best first, each launcher once. ``environment`` defaults to that of this process."""
    env = os.environ if environment is None else environment
    found: dict[tuple[Path, str], HlsInstallation] = {}
    for tool in (*_on_path(env), *_in_folders(_folders(env, roots)), *_in_modules(env)):
        # A link in a bin folder and the launcher it points to are the same installation.
        found.setdefault((tool.path.resolve(), tool.kind), tool)
    return sort_installations(list(found.values()))


def version_of(path: Path) -> str:
    """Release that a folder name on the path to a launcher states, or ""."""
    for part in reversed(path.resolve().parts):
        found = RELEASE.fullmatch(part)
        if found is not None:
            return found.group(0)
    return ""


def _on_path(env: Mapping[str, str]) -> Iterator[HlsInstallation]:
    for kind in KINDS:
        launcher = shutil.which(kind, path=env.get("PATH", ""))
        if launcher is not None:
            yield HlsInstallation(kind, version_of(Path(launcher)), Path(launcher), on_path=True)


def _folders(env: Mapping[str, str], roots: Iterable[str | Path]) -> Iterator[Path]:
    """Folders of one product and release."""
    for variable in VARIABLES:
        if env.get(variable):
            yield Path(env[variable])
    more = [part for part in env.get(ROOTS_VARIABLE, "").split(os.pathsep) if part]
    for root in (*more, *map(str, roots)):
        home = env.get("HOME")
        if root.startswith("~") and not home:
            continue
        folder = Path(root.replace("~", home or "", 1)) if root.startswith("~") else Path(root)
        for product in PRODUCTS:
            yield from _children(folder / product)
        for release in _children(folder):
            if RELEASE.fullmatch(release.name):
                yield from (release / product for product in PRODUCTS)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # not there, not a folder, or not ours to read


def _in_folders(folders: Iterable[Path], module: ModuleFile | None = None) -> Iterator[HlsInstallation]:
    for folder in folders:
        settings = folder / "settings64.sh"
        for kind in KINDS:
            launcher = folder / "bin" / kind
            if _is_executable(launcher):
                yield HlsInstallation(
                    kind,
                    version_of(launcher),
                    launcher,
                    settings if settings.is_file() else None,
                    module=module.name if module else None,
                    licences=module.licences if module else (),
                )


def _is_executable(launcher: Path) -> bool:
    try:
        return launcher.is_file() and os.access(launcher, os.X_OK)
    except OSError:
        return False


def _in_modules(env: Mapping[str, str]) -> Iterator[HlsInstallation]:
    for module in find_module_files(env.get("MODULEPATH", "")):
        yield from _in_folders(module.folders, module)
