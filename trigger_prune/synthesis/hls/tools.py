"""Which HLS compilers and Vivado releases are installed, and which of them is taken."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trigger_prune.errors import ToolError

ToolKind = Literal["vitis-run", "vitis_hls", "vivado_hls", "vivado"]
Backend = Literal["Vitis", "Vivado"]

HLS_KINDS: tuple[ToolKind, ...] = ("vitis-run", "vitis_hls", "vivado_hls")
RELEASE = re.compile(r"(?<![\d.])(20\d\d\.\d)(\.\d+)?(?![\d.])")
_FIRST_VITIS_RUN = (2024, 1)


@dataclass(frozen=True)
class HlsInstallation:
    """One installed tool.

    kind      ``vitis-run`` (Vitis 2024.1 and later), ``vitis_hls`` (2020.2 to 2023.2), ``vivado_hls`` (to 2020.1), or
              ``vivado`` itself
    version   as ``2022.2``; "" when the folder does not tell (``with_version`` asks the tool)
    path      the launcher
    settings  ``settings64.sh`` to be sourced first; None where there is none or the environment is set already
    on_path   found on PATH, in an environment that somebody has set up
    module    environment module in which it was found
    licences  licence variables that the module sets, (name, value)
    """

    kind: ToolKind
    version: str
    path: Path
    settings: Path | None = None
    on_path: bool = False
    module: str | None = None
    licences: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of the command."""
        return self.kind

    @property
    def backend(self) -> Backend | None:
        """hls4ml backend whose projects it builds; None for Vivado."""
        if self.kind == "vivado":
            return None
        return "Vivado" if self.kind == "vivado_hls" else "Vitis"

    @property
    def release(self) -> tuple[int, int]:
        """Year and number; (0, 0) when unknown."""
        found = RELEASE.search(self.version)
        if found is None:
            return 0, 0
        year, number = found.group(1).split(".")
        return int(year), int(number)

    def command(self, *arguments: str | Path, beside: HlsInstallation | None = None) -> list[str]:
        """The command line that runs the tool with ``arguments``, settings script included.

        ``beside`` is a second tool that the first one calls by name: it is put on PATH.
        """
        plain = [str(self.path), *map(str, arguments)]
        scripts = [tool.settings for tool in (beside, self) if tool is not None and tool.settings is not None]
        if not scripts and beside is None:
            return plain
        # Without arguments of its own, a sourced script sees no positional parameters.
        lines = [f"source {shlex.quote(str(script))}" for script in dict.fromkeys(scripts)]
        if beside is not None:
            lines.append(f'export PATH="$PATH":{shlex.quote(str(beside.path.parent))}')
        return ["bash", "-c", "\n".join([*lines, f"exec {shlex.join(plain)}"])]


def sort_installations(found: Sequence[HlsInstallation]) -> list[HlsInstallation]:
    """Best first: what is on PATH, then newest release, then the launcher that hls4ml uses for that release."""
    return sorted(found, key=lambda tool: (not tool.on_path, _descending(tool.release), _launcher_rank(tool)))


def choose_installation(
    found: Sequence[HlsInstallation], *, version: str | None = None, backend: Backend | None = None
) -> HlsInstallation:
    """The HLS compiler to use, of all that were found.

    version   ``2022.2``, or ``2022`` for any of that year; None = the best (``sort_installations``)
    backend   hls4ml backend of the project, if it is fixed already
    Raises ToolError when none matches; it lists those that are there.
    """
    compilers = [tool for tool in sort_installations(found) if tool.kind in HLS_KINDS]
    if not compilers:
        raise ToolError(
            "no HLS compiler: none of vitis-run, vitis_hls, vivado_hls is on PATH, under the usual folders or in the "
            "environment modules",
            hint="source the settings64.sh of your Vitis or Vivado installation, or set cost.backend to rtl; "
            "trigger-prune doctor lists what was looked for",
        )
    matching = [
        tool
        for tool in compilers
        if (version is None or tool.version == version or tool.version.startswith(f"{version}."))
        and (backend is None or tool.backend == backend)
    ]
    if not matching:
        wanted = " ".join(filter(None, (backend and f"{backend} HLS", version and f"version {version}")))
        there = ", ".join(f"{tool.kind} {tool.version or '(unknown version)'} ({tool.path})" for tool in compilers)
        raise ToolError(f"no {wanted} is installed", hint=f"installed: {there}")
    return matching[0]


def find_hls_tool(version: str | None = None, backend: Backend | None = None) -> HlsInstallation | None:
    """The HLS compiler that ``choose_installation`` takes on this machine; None when there is none that matches."""
    try:
        return require_hls_tool(version, backend)
    except ToolError:
        return None


def require_hls_tool(version: str | None = None, backend: Backend | None = None) -> HlsInstallation:
    """``find_hls_tool``, or a ToolError that says what to do."""
    from trigger_prune.synthesis.hls.search import find_installations

    return choose_installation(find_installations(), version=version, backend=backend)


def require_vivado(beside: HlsInstallation | None = None) -> HlsInstallation:
    """The best Vivado, or the one of the same release as ``beside``. Raises ToolError when there is none."""
    from trigger_prune.synthesis.hls.search import find_installations

    found = [tool for tool in sort_installations(find_installations()) if tool.kind == "vivado"]
    wanted = beside.release if beside is not None and beside.version else None
    for number, tool in enumerate(found):
        if wanted is not None:
            tool = found[number] = with_version(tool)
        if wanted is None or tool.release == wanted:
            return tool
    there = ", ".join(f"{tool.version or '(unknown version)'} ({tool.path})" for tool in found)
    raise ToolError(
        f"Vivado{f' {wanted[0]}.{wanted[1]}' if wanted else ''} is not installed",
        hint=f"installed: {there}" if there else "source the settings64.sh of a Vivado installation",
    )


def with_version(tool: HlsInstallation, timeout_s: float = 60.0) -> HlsInstallation:
    """The same tool with its version; asks the tool itself when its folder does not say. Unknown stays ""."""
    if tool.version:
        return tool
    option = "--version" if tool.kind == "vitis-run" else "-version"
    try:
        answer = subprocess.run(
            tool.command(option), capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return tool
    found = RELEASE.search(answer.stdout + answer.stderr)
    return tool if found is None else replace(tool, version=found.group(0))


def _descending(release: tuple[int, int]) -> tuple[int, int]:
    return -release[0], -release[1]


def _launcher_rank(tool: HlsInstallation) -> int:
    # Vitis 2023.2 has both launchers; hls4ml took up vitis-run with 2024.1.
    old = (0, 0) < tool.release < _FIRST_VITIS_RUN
    order = ("vitis_hls", "vitis-run", "vivado_hls") if old else ("vitis-run", "vitis_hls", "vivado_hls")
    return (*order, "vivado").index(tool.kind)
