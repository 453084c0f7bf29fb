"""The generated Verilog, clock by clock in Verilator, against the cycle model and the networks in torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from firmware_toys import FEATURES, FULL_INPUTS, INPUT, event_pool, needs_verilator, network, small_design
from torch import nn

from trigger_prune.errors import ConfigError, DataError, ExportError
from trigger_prune.physics.filling import named_filling
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.tools import Limits, run_tool, worker_command
from trigger_prune.synthesis.rtl.verilator import find_verilator
from trigger_prune.target import Target
from trigger_prune.two_stage.firmware.cycle_model import LOST, TO_FULL, IntegerThresholds, simulate_firmware
from trigger_prune.two_stage.firmware.design import FirmwareDesign, FirmwareModel
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors, make_vectors, objects_in_crossings
from trigger_prune.two_stage.firmware.verilog.compare import VerilogVerdict, compare_with_model
from trigger_prune.two_stage.firmware.verilog.cores import Cores, make_cores, timing_of
from trigger_prune.two_stage.firmware.verilog.project import (
    VerilogFirmware,
    read_vectors,
    write_vectors,
    write_verilog_firmware,
)
from trigger_prune.two_stage.firmware.verilog.run import simulate_verilog_firmware
from trigger_prune.two_stage.traffic import Engine
from trigger_prune.units import BUNCH_CROSSING_NS

TARGET = Target()


@cache
def toy(full_outputs: int) -> tuple[FirmwareDesign, Cores]:
    """Both networks are the same for every engine, and so are their cores."""
    design = small_design(Engine(1, 1, 0), full_outputs=full_outputs)
    if full_outputs == 4:  # weights with which each output of either side is sometimes the larger one
        full = FirmwareModel(network(6, (8, 4), 4, 7), Score("difference", (2, 0), (1, 3)), FULL_INPUTS)
        design = replace(design, full=full)
    light, full_scores = (model.integer_scores(event_pool()) for model in (design.light, design.full))
    thresholds = IntegerThresholds(
        common(light, 0.4), common(light, 0.97), common(full_scores, 0.5), common(light, 0.75)
    )
    design = replace(design, thresholds=thresholds)
    return design, make_cores(design.light, design.full, TARGET)


def pool_of(design: FirmwareDesign) -> np.ndarray:
    """The event pool, a fifth of it objects that lie exactly at a threshold."""
    pool, thresholds = event_pool(), design.thresholds
    light, full = (model.integer_scores(pool) for model in (design.light, design.full))
    at = [(light, thresholds.t_reject), (light, thresholds.t_accept), (light, thresholds.t_overflow)]
    picked = [np.resize(np.flatnonzero(scores == value), 190) for scores, value in [*at, (full, thresholds.t_full)]]
    return np.concatenate([pool, *(pool[rows] for rows in picked)])


def common(scores: np.ndarray, share: float) -> int:
    """The most frequent score near a quantile: only objects exactly at a threshold tell >= from >."""
    low, high = np.quantile(scores, [share - 0.02, share + 0.02])
    values, counts = np.unique(scores[(scores >= low) & (scores <= high)], return_counts=True)
    return int(values[counts.argmax()])


@dataclass(frozen=True)
class Case:
    engine: Engine
    objects: int
    full_outputs: int = 1
    without: tuple[str, ...] = ()
    pad: int = 0
    light_copies: int | None = None


def write(
    folder: Path, case: Case, crossings: int, multiplicity: tuple[float, ...] | None = None, mask: str = "72b"
) -> VerilogFirmware:
    design, cores = toy(case.full_outputs)
    thresholds = replace(design.thresholds, **dict.fromkeys(case.without, None))
    declared = replace(design.timing, full_cycles=cores.full.score_cycles + case.pad)
    design = replace(
        design, engine=case.engine, objects_per_crossing=case.objects, thresholds=thresholds, timing=declared
    )
    pool = pool_of(toy(case.full_outputs)[0])
    shares = multiplicity or tuple(np.full(case.objects + 1, 1 / (case.objects + 1)))
    objects = objects_in_crossings(named_filling(mask).filled, crossings, shares, 4)
    vectors = make_vectors(design, objects, pool, 2)
    return write_verilog_firmware(folder, design, vectors, TARGET, cores=cores, light_copies=case.light_copies)


def verdict_of(firmware: VerilogFirmware) -> VerilogVerdict:
    run = simulate_verilog_firmware(firmware.folder)
    verdict = compare_with_model(firmware.design, firmware.vectors, run)
    assert run.passed == verdict.ok  # the test bench judges by itself
    return verdict


CASES = {
    "one object per crossing, an engine faster than that": Case(Engine(7, 9, 1), 1, 4),
    "several objects, an interval of three crossings": Case(Engine(27, 9, 3), 5, pad=17),
    "two copies of the light network, no accept threshold": Case(Engine(40, 4, 3), 5, 4, ("t_accept",), 60),
    "no place to wait": Case(Engine(27, 9, 0), 5, 1, (), 1),
}
SLOW_CASES = {
    "a start in every cycle": Case(Engine(1, 9, 0), 5, 4),
    "a fast engine, batches beyond the FIFO": Case(Engine(7, 4, 1), 16, 1, ("t_overflow",), 5),
    "a crossing is a cycle": Case(Engine(1, 1, 1), 3, 4, ("t_full",)),
    "an interval of many crossings": Case(Engine(40, 1, 6), 1, 1, ("t_accept", "t_overflow"), 200),
    "a copy of the light network for every object": Case(Engine(20, 9, 2), 6, 4, (), 3, 6),
    "a slot that is not full": Case(Engine(13, 6, 3), 7, 1, (), 0, 4),
}


def check(case: Case, folder: Path) -> None:
    firmware = write(folder / "two_stage", case, 3000)
    counters = firmware.vectors.trace.counters
    if case.engine.ii_cycles > case.engine.clock_multiple:
        assert counters["most_waiting"] == case.engine.fifo_depth and counters["lost"] > 20
    assert (counters["accepted_at_once"] > 20) == ("t_accept" not in case.without)
    assert (counters["passed_full"] > 20) == ("t_full" not in case.without)
    verdict = verdict_of(firmware)
    assert verdict.ok, str(verdict)
    assert verdict.crossings == 3000 and verdict.started == counters["escalated"] - counters["lost"] > 50


@needs_verilator
@pytest.mark.parametrize("name", CASES)
def test_every_cycle_is_that_of_the_model(name: str, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_CASES)
def test_every_cycle_is_that_of_the_model_for_other_engines(name: str, tmp_path: Path) -> None:
    check(SLOW_CASES[name], tmp_path)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("mask", ["72b", "36b"])
def test_a_hundred_thousand_crossings(mask: str, tmp_path: Path) -> None:
    case = Case(Engine(20, 9, 2), 3, 4, pad=11)
    firmware = write(tmp_path / "two_stage", case, 110_000, (0.3, 0.4, 0.2, 0.1), mask)
    counters = firmware.vectors.trace.counters
    assert min(counters[name] for name in ("lost", "passed_full", "passed_overflow", "accepted_at_once")) > 1000
    run = simulate_verilog_firmware(firmware.folder)
    verdict = compare_with_model(firmware.design, firmware.vectors, run)
    assert verdict.ok and run.passed, str(verdict)
    assert verdict.crossings == 110_000
    # said once more without the code that compares
    trace, stream = firmware.vectors.trace, firmware.vectors.stream
    assert run.accepted.tolist() == trace.accepted.tolist()
    assert run.waiting.tolist() == trace.waiting.tolist()
    latency = run.output_cycle - 9 * np.arange(110_000)
    assert set(latency.tolist()) == {firmware.design.timing.output_cycles(case.engine)}
    assert run.start_cycle.tolist() == trace.start_cycle.tolist()
    assert run.score_cycle.tolist() == trace.score_cycle.tolist()
    assert run.light.tolist() == stream.light.tolist()
    started = trace.start_cycle >= 0
    assert run.full[started].tolist() == stream.full[started].tolist()
    assert run.counters == trace.counters


# file, what is there, what a mistake makes of it, and what then must differ
MUTANTS = {
    "full threshold": ("two_stage_top.v", "full_score >= T_FULL", "full_score > T_FULL", "decision"),
    "accept threshold": ("two_stage_top.v", "score >= T_ACCEPT", "score > T_ACCEPT", "fate"),
    "reject threshold": ("two_stage_top.v", "score >= T_REJECT", "score > T_REJECT", "fate"),
    "overflow threshold": ("two_stage_top.v", "score >= T_OVERFLOW", "score > T_OVERFLOW", "decision"),
    "one place less": ("two_stage_queue.v", "next_count != DEPTH", "next_count != DEPTH - 1", "waiting"),
    "no place freed": ("two_stage_queue.v", "next_count != DEPTH", "count != DEPTH", "start cycle"),
    "late engine": ("two_stage_queue.v", "busy <= 19", "busy <= 20", "start cycle"),
    "early engine": ("two_stage_queue.v", "busy <= 19", "busy <= 18", "start cycle"),
    "wrong order": ("two_stage_queue.v", "next_count == place", "DEPTH - 1 - next_count == place", "start cycle"),
    "no bypass": ("two_stage_queue.v", "free && !start", "free && !start && position > 0", "start cycle"),
    "late output": ("two_stage_top.v", "due = bx[OUTPUT_CYCLES-1]", "due = bx[OUTPUT_CYCLES-2]", "output cycle"),
    "stale decision": ("two_stage_top.v", "<= passes_without_full;", "<= 1'b1;", "decision"),
    "late score": ("two_stage_top.v", "FULL_CYCLES - FULL_CORE_CYCLES", "FULL_CYCLES - FULL_CORE_CYCLES + 1", "full"),
    "wrong crossing": ("two_stage_top.v", "full_tag[TAG-1 -: INDEX]", "full_tag[TAG-2 -: INDEX]", "decision"),
    "wrong features": ("two_stage_top.v", ".features(started[READ-1:0])", ".features(started[READ:1])", "full score"),
    "signal maximum": ("full_network.v", "signal_1 - background_1", "signal_0 - background_1", "full score"),
    "background maximum": ("full_network.v", "signal_1 - background_1", "signal_1 - background_0", "full score"),
    "lost counter": ("two_stage_top.v", "count_lost + ones(mon_lost)", "count_lost + |mon_lost", "counter lost"),
}
QUICK_MUTANTS = ("full threshold", "one place less")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> VerilogFirmware:
    return write(tmp_path_factory.mktemp("mutants") / "two_stage", Case(Engine(20, 9, 2), 3, 4, pad=5), 3000)


def require_caught(original: VerilogFirmware, name: str, folder: Path) -> None:
    file, old, new, what = MUTANTS[name]
    shutil.copytree(original.folder, folder / "mutant")
    source = folder / "mutant" / "src" / file
    text = source.read_text()
    assert text.count(old) == 1
    source.write_text(text.replace(old, new))
    verdict = verdict_of(replace(original, folder=folder / "mutant"))
    assert not verdict.ok
    assert verdict.first is not None or verdict.counters
    seen = [each for each, count in verdict.differences.items() if count]
    seen += [f"counter {each}" for each in verdict.counters]
    assert any(each.startswith(what) for each in seen), f"{name}: {verdict}"


def test_the_vectors_reach_every_comparator(original: VerilogFirmware) -> None:
    """Otherwise equal results would say nothing about it."""
    stream, trace, design = original.vectors.stream, original.vectors.trace, original.design
    thresholds = design.thresholds
    lost, started = trace.fate == LOST, trace.fate == TO_FULL
    assert (stream.light == thresholds.t_reject).sum() >= 20
    assert (stream.light == thresholds.t_accept).sum() >= 20
    assert (stream.light[lost] == thresholds.t_overflow).sum() >= 20
    assert (stream.full[started] == thresholds.t_full).sum() >= 20
    kept = original.vectors.features[started][:, list(design.full.kept_inputs)]
    with torch.no_grad():
        outputs = freeze(design.full.network, double=True)(torch.from_numpy(kept * INPUT.lsb)).numpy()
    for first, second in (design.full.score.signal_outputs, design.full.score.background_outputs):
        assert 0.1 < (outputs[:, first] > outputs[:, second]).mean() < 0.9


@needs_verilator
@pytest.mark.parametrize("name", QUICK_MUTANTS)
def test_a_mistake_is_found(original: VerilogFirmware, name: str, tmp_path: Path) -> None:
    require_caught(original, name, tmp_path)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in QUICK_MUTANTS])
def test_every_other_mistake_is_found(original: VerilogFirmware, name: str, tmp_path: Path) -> None:
    require_caught(original, name, tmp_path)


@needs_verilator
def test_wrong_golden_vectors_are_found(original: VerilogFirmware, tmp_path: Path) -> None:
    """Another stream of the same design, of which one decision, one start cycle and one counter are changed."""
    shutil.copytree(original.folder, tmp_path / "two_stage")
    vectors = original.vectors
    trace = vectors.trace
    accepted, start = trace.accepted.copy(), trace.start_cycle.copy()
    accepted[1234] ^= True
    changed = int(np.flatnonzero(start >= 0)[700])
    start[changed] += 1
    counters = trace.counters | {"objects": trace.counters["objects"] + 1}
    wrong = replace(vectors, trace=replace(trace, accepted=accepted, start_cycle=start, counters=counters))
    run = simulate_verilog_firmware(tmp_path / "two_stage", wrong)
    verdict = compare_with_model(original.design, wrong, run)
    assert not run.passed
    assert {what: count for what, count in verdict.differences.items() if count} == {"decision": 1, "start cycle": 1}
    assert verdict.counters == {"objects": (counters["objects"], counters["objects"] - 1)}
    crossing = int(np.repeat(np.arange(3000), vectors.stream.objects)[changed])
    assert verdict.first is not None
    assert f"crossing {min(crossing, 1234)}" in verdict.first
    assert not compare_with_model(original.design, vectors, replace(run, accepted=run.accepted[:-1])).ok


def test_the_folder_tells_what_it_is(original: VerilogFirmware) -> None:
    folder, design = original.folder, original.design
    readme, top = (folder / "README.md").read_text(), (folder / "src" / "two_stage_top.v").read_text()
    assert "never quote a synthesis of this folder" in readme
    assert "must never be quoted for the shared one" in " ".join(top.replace("//", " ").split())
    assert "Never quote them" in (folder / "vivado" / "README.md").read_text()
    output = design.timing.output_cycles(design.engine)
    assert f"| **{output}** |" in readme and f"{output // 9} bunch crossings" in readme
    assert f"{original.vectors.trace.counters['lost']} of them" in readme
    script = (folder / "vivado" / "run_vivado.tcl").read_text()
    assert all(f"read_verilog [file join $here src {{{path.name}}}]" in script for path in original.sources)
    assert "synth_design -top two_stage_top" in script
    assert f"-period {BUNCH_CROSSING_NS / 9:g} " in (folder / "vivado" / "clock.xdc").read_text()
    stored = read_vectors(folder)
    assert np.array_equal(stored.features, original.vectors.features)
    assert stored.trace.counters == original.vectors.trace.counters
    again = simulate_firmware(stored.stream, design.thresholds, design.engine, design.timing)
    assert np.array_equal(again.start_cycle, stored.trace.start_cycle)
    with pytest.raises(DataError, match="no two-stage firmware"):
        read_vectors(folder / "src")


@pytest.mark.parametrize("case", [Case(Engine(20, 9, 2), 3, 4), Case(Engine(1, 4, 0), 5)])
def test_it_is_plain_synthesisable_verilog(case: Case, tmp_path: Path) -> None:
    """Yosys without SystemVerilog: no latches, no loops, no undriven or doubly driven wires."""
    sources = write(tmp_path / "two_stage", case, 50).sources
    own = [path for path in sources if path.name.startswith(("two_stage_", "delay_", "light_net", "full_net"))]
    assert len(own) == 5
    (tmp_path / "run.ys").write_text(
        f"read_verilog -defer {' '.join(map(str, own))}\n"
        f"read_verilog -sv -defer {' '.join(str(path) for path in sources if path not in own)}\n"
        "hierarchy -check -top two_stage_top\nproc\nselect -assert-none t:$dlatch t:$adlatch\ncheck -assert\n"
        "flatten\nopt_expr\nopt_clean\ncheck -assert -noinit\nselect -assert-min 40 t:$dff t:$sdff t:$dffe\n"
    )
    command, env = worker_command("_yosys_script", tmp_path / "run.ys")
    run_tool(command, tool="Yosys", folder=tmp_path, limits=Limits(120, 4096), env=env)


def verilator_on_path(folder: Path) -> dict[str, str]:
    """Environment in which ``verilator`` is the compiler proper, as an installed Verilator has it."""
    tool = find_verilator()
    folder.mkdir()
    shim = folder / "verilator"
    shim.write_text(f'#!/bin/sh\nVERILATOR_ROOT="{tool.root}" exec "{tool.command}" "$@"\n')
    shim.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "VERILATOR_ROOT": str(tool.root)}


@needs_verilator
@pytest.mark.slow
def test_both_test_benches_run_without_this_package(original: VerilogFirmware, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(original.folder, folder)
    environment = verilator_on_path(tmp_path / "bin")

    def run(*command: str, cwd: Path = folder) -> tuple[int, str]:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    status, text = run("./simulate.sh")
    assert status == 0 and "3000 crossings" in text and ": 0 differences" in text, text

    root = Path(environment["VERILATOR_ROOT"]) / "include"
    flags = ("--cc", "--main", "--exe", "--timing", "--prefix", "Vtb", "--Mdir", "bench", "-Wno-fatal", "-Wno-lint")
    status, text = run("sh", "-c", f"verilator {' '.join(flags)} --top-module two_stage_tb two_stage_tb.v src/*.v")
    assert status == 0, text
    library = " ".join(str(root / f"{name}.cpp") for name in ("verilated", "verilated_threads", "verilated_timing"))
    options = f"-O0 -std=c++20 -fcoroutines -w -pthread -Ibench -I{root} -I{root / 'vltstd'}"
    status, text = run("sh", "-c", f"g++ {options} -o tb bench/*.cpp {library}")
    assert status == 0, text
    assert "PASSED: 3000 crossings" in run("./tb")[1]

    golden = folder / "tb_data" / "golden.dat"
    lines = golden.read_text().splitlines()
    lines[2000] = f"{1 - int(lines[2000][0])}{lines[2000][1:]}"
    golden.write_text("\n".join(lines) + "\n")
    assert "FAILED: 1 differences" in run("./tb")[1]
    status, text = run("./simulation")
    assert status == 1 and "decision of crossing 2000" in text
    (folder / "tb_data" / "objects.dat").unlink()
    assert run("./simulation")[0] == 2


class Image(nn.Module):
    """4 positions of 2 channels, a positive output beside two of either sign."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out, self.positive = nn.Conv1d(2, 3, 1), nn.Linear(12, 2), nn.Linear(12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).relu().flatten(1)
        return torch.cat([self.out(y), self.positive(y).relu()], dim=1)


@needs_verilator
@pytest.mark.slow
def test_words_and_outputs_of_another_form(tmp_path: Path) -> None:
    torch.manual_seed(1)
    shape = (3, 4)
    generator = np.random.default_rng(1)
    models = []
    for kept, score in (((0, 2), Score("difference", (2,), (0, 1))), ((2, 1), Score("difference", (1, 0), (2,)))):
        calibration = torch.tensor(INPUT.quantize(generator.normal(size=(300, 2, 4)))).float()
        precision = SimpleNamespace(weight_bits=5, activation_bits=5, rounding="AP_TRN")
        models.append(FirmwareModel(quantize_model(Image().eval(), calibration, INPUT, precision), score, kept))
    pool = generator.integers(INPUT.min_code, INPUT.max_code, (500, *shape), endpoint=True)
    light, full = models
    cuts = [int(np.quantile(light.integer_scores(pool), q)) for q in (0.4, 0.9, 0.7)]
    thresholds = IntegerThresholds(cuts[0], cuts[1], int(np.quantile(full.integer_scores(pool), 0.6)), cuts[2])
    timing = replace(toy(1)[0].timing, full_cycles=30)
    design = FirmwareDesign("image", light, full, thresholds, Engine(12, 6, 1), timing, 2, shape)
    objects = objects_in_crossings(named_filling("48b").filled, 2000, (0.3, 0.4, 0.3), 1)
    firmware = write_verilog_firmware(tmp_path / "two_stage", design, make_vectors(design, objects, pool, 2), TARGET)
    counters = firmware.vectors.trace.counters
    assert min(counters[name] for name in ("passed_full", "passed_overflow", "accepted_at_once", "rejected")) > 20
    verdict = verdict_of(firmware)
    assert verdict.ok, str(verdict)


def test_the_timing_adds_up_and_impossible_ones_are_refused(tmp_path: Path) -> None:
    _, cores = toy(4)
    assert cores.full.score_cycles == cores.full.core_cycles + 1  # the register behind the subtraction
    assert toy(1)[1].full.score_cycles == toy(1)[1].full.core_cycles
    engine = Engine(20, 9, 2)
    one, five, twelve = (timing_of(cores, engine, n) for n in (1, 5, 12))
    assert one.light_cycles == cores.light.core_cycles
    assert five.light_cycles == one.light_cycles + 4
    assert twelve.light_cycles == one.light_cycles + 5  # two copies take six objects each
    assert timing_of(cores, engine, 5, light_copies=5) == one
    assert timing_of(cores, engine, 1, full_cycles=99).full_cycles == 99
    assert one.full_cycles == cores.full.score_cycles
    with pytest.raises(ConfigError, match=f"to take 2 cycles, its stand-in in Verilog takes {cores.full.score_cycles}"):
        timing_of(cores, engine, 1, full_cycles=2)
    for copies in (1, 13):
        with pytest.raises(ConfigError, match="2 to 12 make sense"):
            timing_of(cores, engine, 12, light_copies=copies)


def test_what_cannot_be_written(tmp_path: Path, original: VerilogFirmware) -> None:
    design, cores = original.design, original.cores
    vectors: FirmwareVectors = original.vectors

    def attempt(folder: Path, **changes: object) -> None:
        write_verilog_firmware(folder, replace(design, **changes), vectors, TARGET, cores=cores)  # type: ignore[arg-type]

    with pytest.raises(ExportError, match="exists already"):
        attempt(original.folder)
    with pytest.raises(ConfigError, match="cannot name a project"):
        attempt(tmp_path / "new", name="two stage")
    with pytest.raises(ConfigError, match="its stand-in in Verilog takes"):
        attempt(tmp_path / "new", timing=replace(design.timing, full_cycles=1))
    other = FirmwareModel(network(FEATURES, (3,), 1, 9), Score("head"), tuple(range(FEATURES)))
    with pytest.raises(ConfigError, match="light_core is of another network"):
        attempt(tmp_path / "new", light=other)
    assert not list(tmp_path.iterdir())


def test_vectors_are_written_as_the_test_bench_reads_them(tmp_path: Path, original: VerilogFirmware) -> None:
    write_vectors(original.vectors, tmp_path / "data")
    trace, stream = original.vectors.trace, original.vectors.stream
    rows = np.loadtxt(tmp_path / "data" / "objects.dat", dtype=np.int64)
    assert rows[:, 0].tolist() == trace.fate.tolist() and rows[:, 4].tolist() == stream.full.tolist()
    assert rows[:, 2].tolist() == trace.start_cycle.tolist()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "counters.dat",
        "golden.dat",
        "inputs.dat",
        "objects.dat",
        "vectors.npz",
    ]
