"""The generated HLS C++, compiled with g++, against the cycle model and against hls4ml's own arithmetic.

The control (comparators, FIFO, scheduler, delay line, counters) is compiled for many engines, with stand-ins for the
networks whose scores are words of the object; the whole with two hls4ml projects for a hundred thousand crossings.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import hls4ml
import numpy as np
import pytest
import torch
from firmware_toys import (
    FEATURES,
    INPUT,
    TIMING,
    event_pool,
    network,
    small_design,
    targets,
)
from torch import nn

from trigger_prune.errors import ConfigError, DataError, ExportError, ModelError
from trigger_prune.physics.filling import named_filling
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.two_stage.firmware.cycle_model import (
    CrossingStream,
    FirmwareTiming,
    IntegerThresholds,
    simulate_firmware,
)
from trigger_prune.two_stage.firmware.design import FirmwareDesign, FirmwareModel
from trigger_prune.two_stage.firmware.hls.compare import HlsVerdict, compare_with_model
from trigger_prune.two_stage.firmware.hls.project import firmware_in, write_hls_firmware
from trigger_prune.two_stage.firmware.hls.render import FLAGS, write_sources
from trigger_prune.two_stage.firmware.hls.run import build_bench, play, run_hls_firmware
from trigger_prune.two_stage.firmware.hls.sources import Port, Stage
from trigger_prune.two_stage.firmware.vectors import (
    FirmwareVectors,
    load_vectors,
    make_vectors,
    objects_in_crossings,
    vectors_of,
    write_text_vectors,
)
from trigger_prune.two_stage.traffic import Engine

LIGHT_WORD, FULL_WORD = 3, 6
"""Words of the object that the stand-ins take for scores."""

STAND_IN = {
    "light_stage.cpp": """#include "light_stage.h"
void light_stage(const feature_t object[OBJECT_WORDS], light_score_t &score) { score = object[LIGHT]; }
""",
    "full_stage.cpp": """#include "full_stage.h"
void full_stage(hls::stream<job_t> &jobs, hls::stream<full_score_t> &scores) {
    scores.write(full_score_t(jobs.read().words[FULL]));
}
""",
}


@dataclass(frozen=True)
class Control:
    """A project whose networks are stand-ins, with its vectors."""

    folder: Path
    design: FirmwareDesign
    vectors: FirmwareVectors

    def verdict(self, work: Path) -> HlsVerdict:
        run = play(build_bench(self.folder, work), self.folder / "tb_data")
        verdict = compare_with_model(self.design, self.vectors.trace, run)
        assert run.passed == verdict.ok  # the test bench judges by itself
        return verdict


def control_project(
    folder: Path,
    engine: Engine,
    objects: int,
    thresholds: IntegerThresholds,
    timing: FirmwareTiming = TIMING,
    crossings: int = 4000,
) -> Control:
    generator = np.random.default_rng(8)
    probability = np.full(objects + 1, 1 / (objects + 1))
    in_crossing = objects_in_crossings(named_filling("36b").filled, crossings, tuple(probability), 4)
    features = generator.integers(INPUT.min_code, INPUT.max_code, (in_crossing.sum(), FEATURES), endpoint=True)
    stream = CrossingStream(in_crossing, features[:, LIGHT_WORD].copy(), features[:, FULL_WORD].copy())
    design = replace(
        small_design(engine, objects=objects), thresholds=thresholds, timing=timing, objects_per_crossing=objects
    )
    vectors = FirmwareVectors(features, stream, simulate_firmware(stream, thresholds, engine, timing))
    words = (5, FULL_WORD, 0)
    stages = {
        role: Stage(role, "none", "none", words, (), Port("int", "out", 1), Score("head"), "a word", 0, 9)
        for role in ("light", "full")
    }
    folder.mkdir()
    write_sources(folder, design, stages, targets(engine)[1], vectors)
    for name, text in STAND_IN.items():
        (folder / name).write_text(text.replace("LIGHT]", f"{LIGHT_WORD}]").replace("FULL]", "1]"))
    write_text_vectors(vectors, folder / "tb_data")
    (folder / "light" / "firmware").mkdir(parents=True)
    headers = Path(hls4ml.__file__).parent / "templates" / "vivado" / "ap_types"
    (folder / "light" / "firmware" / "ap_types").symlink_to(headers)
    return Control(folder, design, vectors)


ALL = IntegerThresholds(t_reject=-20, t_accept=115, t_full=10, t_overflow=60)
NO_TIME = FirmwareTiming(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("engine", "objects", "thresholds", "timing"),
    [
        (Engine(20, 9, 2), 3, ALL, TIMING),  # the interval is no multiple of a crossing
        (Engine(4, 9, 3), 16, ALL, TIMING),  # several starts per crossing
        (Engine(9, 9, 0), 2, IntegerThresholds(-20, None, 10, None), TIMING),  # no FIFO, two comparators less
        (Engine(1, 1, 0), 4, IntegerThresholds(0, None, 50, 90), NO_TIME),  # decided in the crossing itself
        (Engine(37, 6, 5), 1, IntegerThresholds(-100, 120, None, 0), TIMING),  # the full network accepts nothing
    ],
)
def test_the_control_equals_the_cycle_model(
    tmp_path: Path, engine: Engine, objects: int, thresholds: IntegerThresholds, timing: FirmwareTiming
) -> None:
    project = control_project(tmp_path / "two_stage", engine, objects, thresholds, timing)
    counters = project.vectors.trace.counters
    assert counters["lost"] > 100 and counters["most_waiting"] == engine.fifo_depth
    verdict = project.verdict(tmp_path / "build")
    assert verdict.ok, str(verdict)
    assert verdict.crossings == 4000


MUTANTS = {
    "one place less": ("work <= FIFO_DEPTH * II_CYCLES", "work < FIFO_DEPTH * II_CYCLES", "decisions waiting stream"),
    "shorter interval": ("work = work + II_CYCLES;", "work = work + II_CYCLES - 1;", "waiting"),
    "slow clock": ("backlog_t(work - CLOCK_MULTIPLE)", "backlog_t(work - CLOCK_MULTIPLE + 1)", "decisions waiting"),
    "reject": ("score >= T_REJECT", "score > T_REJECT", "waiting"),
    "accept": ("score >= T_ACCEPT", "score > T_ACCEPT", "counters"),
    "full": ("score >= T_FULL", "score > T_FULL", "decisions counters"),
    "overflow": ("score >= T_OVERFLOW", "score > T_OVERFLOW", "decisions counters"),
    "owner": ("owners.write(now)", "owners.write(now == 0 ? owner_t(0) : owner_t(now - 1))", "decisions"),
    "early output": ("valid = seen == OUTPUT_CROSSINGS;", "valid = seen == OUTPUT_CROSSINGS - 1;", "decisions"),
    "stale decision": ("    decisions[now] = false;\n", "", "decisions"),
    "engine": ("busy += II_CYCLES", "busy += II_CYCLES - 1", "stream"),
    "order": ("jobs.write(job);", "if (i != 1) jobs.write(job);", "stream decisions"),
    "lost": ("++count.lost;", "", "counters"),
}


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> tuple[Control, Path]:
    folder = tmp_path_factory.mktemp("control")
    project = control_project(folder / "two_stage", Engine(20, 9, 2), 3, ALL)
    build_bench(project.folder, folder / "build")
    return project, folder / "build"


def mutant_verdict(control: tuple[Control, Path], name: str) -> HlsVerdict:
    project, build = control
    old, new, _ = MUTANTS[name]
    source = (project.folder / "two_stage_top.cpp").read_text()
    assert source.count(old) == 1
    (build / "two_stage_top.cpp").write_text(source.replace(old, new))
    units = ("light_stage.o", "full_stage.o", "two_stage_test.o")
    command = ["g++", *FLAGS, "-O0", "two_stage_top.cpp", *units, "-o", "mutant"]
    subprocess.run(command, cwd=build, check=True, timeout=120)
    run = play(build / "mutant", project.folder / "tb_data")
    verdict = compare_with_model(project.design, project.vectors.trace, run)
    assert run.passed == verdict.ok
    return verdict


def require_caught(control: tuple[Control, Path], name: str) -> HlsVerdict:
    verdict = mutant_verdict(control, name)
    assert not verdict.ok
    for what in MUTANTS[name][2].split():
        assert getattr(verdict, what), f"{name}: {verdict}"
    return verdict


def test_a_wrong_place_of_the_fifo_is_found(control: tuple[Control, Path]) -> None:
    verdict = require_caught(control, "one place less")
    waiting = control[0].vectors.trace.waiting
    assert verdict.first is not None and waiting[verdict.first] > 0
    assert f"crossing {verdict.first}" in str(verdict)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MUTANTS if name != "one place less"])
def test_every_other_mistake_is_found(control: tuple[Control, Path], name: str) -> None:
    require_caught(control, name)


def written(folder: Path, design: FirmwareDesign, vectors: FirmwareVectors) -> Path:
    return write_hls_firmware(folder, design, vectors, *targets(design.engine)).folder


def verdict_of(folder: Path, design: FirmwareDesign, vectors: FirmwareVectors) -> HlsVerdict:
    return compare_with_model(design, vectors.trace, run_hls_firmware(folder))


@pytest.mark.slow
def test_a_hundred_thousand_crossings_with_both_networks(tmp_path: Path) -> None:
    engine = Engine(20, 9, 2)
    design = small_design(engine, objects=3, full_outputs=4)
    objects = objects_in_crossings(named_filling("72b").filled, 100_000, (0.3, 0.4, 0.2, 0.1), 1)
    vectors = make_vectors(design, objects, event_pool(), 2)
    counters = vectors.trace.counters
    assert min(counters[name] for name in ("lost", "passed_full", "passed_overflow", "accepted_at_once")) > 1000
    folder = written(tmp_path / "two_stage", design, vectors)
    verdict = verdict_of(folder, design, vectors)
    assert verdict.ok and verdict.crossings == 100_000, str(verdict)

    # the same networks with one weight of one of them moved by its smallest step
    header = next(
        path
        for path in sorted((folder / "full" / "firmware" / "weights").glob("w*.h"), key=lambda p: int(p.stem[1:]))
        if path.stat().st_size
    )
    text = header.read_text()
    value = re.search(r"= \{(-?[\d.]+)", text)
    assert value is not None
    header.write_text(text.replace(value[0], f"= {{{float(value[1]) + 2**-5}", 1))
    wrong = verdict_of(folder, design, vectors)
    assert wrong.decisions > 10 and not wrong.waiting and set(wrong.counters) <= {"passed_full", "accepted_crossings"}


class TwoPorts(nn.Module):
    """Reads two ranges of its inputs: hls4ml gets a port for each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(2, 3), nn.Linear(4, 3), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([self.first(x[:, :2]).relu(), self.second(x[:, 2:]).relu()], dim=1))


class Image(nn.Module):
    """5 positions of 3 channels: hls4ml takes them channels last, and writes code for the patches of the kernel."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(3, hidden, 2), nn.Linear(4 * hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.conv(x).relu().flatten(1))


def quantised(model: nn.Module, shape: tuple[int, ...]) -> torch.fx.GraphModule:
    calibration = torch.tensor(INPUT.quantize(np.random.default_rng(0).normal(size=(300, *shape)))).float()
    precision = SimpleNamespace(weight_bits=5, activation_bits=5, rounding="AP_TRN")
    return quantize_model(model.eval(), calibration, INPUT, precision)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two ports", "channels last", "distributed arithmetic"])
def test_words_reach_the_inputs_of_other_networks(tmp_path: Path, kind: str) -> None:
    engine = Engine(12, 9, 1)
    torch.manual_seed(3)
    if kind == "two ports":
        shape: tuple[int, ...] = (FEATURES,)
        light = FirmwareModel(network(3, (3,), 1, 3), Score("head"), (6, 2, 5))
        full = FirmwareModel(quantised(TwoPorts(), (6,)), Score("difference", (1,), (0,)), (3, 0, 7, 6, 1, 4))
    elif kind == "distributed arithmetic":
        shape = (FEATURES,)
        light = FirmwareModel(network(3, (3,), 1, 3), Score("head"), (6, 2, 5))
        full = FirmwareModel(network(4, (5,), 3, 4), Score("difference", (1,), (0, 2)), (3, 0, 7, 6))
    else:
        shape = (4, 5)
        light = FirmwareModel(quantised(Image(1), (3, 5)), Score("head"), (2, 0, 1))
        full = FirmwareModel(quantised(Image(2), (3, 5)), Score("head"), (3, 1, 0))
    pool = np.random.default_rng(2).integers(INPUT.min_code, INPUT.max_code, (500, *shape), endpoint=True)
    middle = [int(np.median(model.integer_scores(pool))) for model in (light, full)]
    thresholds = IntegerThresholds(middle[0], None, middle[1], middle[0] + 5)
    design = FirmwareDesign("other", light, full, thresholds, engine, TIMING, 1, shape)
    objects = objects_in_crossings(named_filling("48b").filled, 3000, (0.2, 0.8), 1)
    vectors = make_vectors(design, objects, pool, 2)
    assert vectors.trace.counters["passed_full"] > 200
    folder = write_hls_firmware(tmp_path / "two_stage", design, vectors, targets(engine)[0], targets(engine)[0]).folder
    verdict = verdict_of(folder, design, vectors)
    assert verdict.ok, str(verdict)


def test_what_is_written(tmp_path: Path) -> None:
    engine = Engine(20, 9, 2)
    design = small_design(engine, full_outputs=4)
    objects = objects_in_crossings(named_filling("72b").filled, 600, (0, 1), 1)
    vectors = make_vectors(design, objects, event_pool(), 2)
    folder = written(tmp_path / "two_stage", design, vectors)
    paths = firmware_in(folder)
    for name in ("light", "full"):
        assert f"namespace {name}_net" in (folder / name / "firmware" / f"{name}_network.h").read_text()
        assert not list((folder / name).rglob("w*.txt"))
    readme = paths.readme.read_text()
    assert "No synthesis" in readme and "Untimed" in readme and f"light score >= {design.thresholds.t_reject}" in readme
    assert "{{" not in "".join(path.read_text() for path in folder.iterdir() if path.is_file())
    assert not [path for path in tmp_path.iterdir() if path != folder]  # no scratch is left behind
    stored = load_vectors(paths.vectors)
    assert np.array_equal(stored.features, vectors.features) and np.array_equal(stored.stream.full, vectors.stream.full)
    assert np.array_equal(stored.trace.start_cycle, vectors.trace.start_cycle)
    assert stored.trace.counters == vectors.trace.counters
    # what the test bench reads says the same: the model of the text is the model of the arrays
    lines = [list(map(int, line.split())) for line in (folder / "tb_data" / "inputs.dat").read_text().splitlines()]
    again = vectors_of(
        design,
        np.asarray([line[0] for line in lines]),
        np.asarray([line[1:] for line in lines if line[0]]).reshape(-1, FEATURES),
    )
    golden = np.loadtxt(folder / "tb_data" / "golden.dat", dtype=np.int64)
    assert np.array_equal(again.trace.accepted, golden[:, 0] == 1) and np.array_equal(again.trace.waiting, golden[:, 1])
    with pytest.raises(ExportError, match="exists already"):
        written(folder, design, vectors)
    with pytest.raises(ExportError, match="no two-stage firmware"):
        firmware_in(tmp_path)


def test_refuses_designs_that_are_no_firmware(tmp_path: Path) -> None:
    engine = Engine(20, 9, 2)
    design = small_design(engine)
    light, full = targets(engine)
    vectors = make_vectors(design, np.ones(20, np.int64), event_pool(50), 0)
    for changed, match in (
        ((replace(light, clock_period_ns=5.0), full), "clock of 5 ns"),
        ((light, replace(full, reuse_factor=21)), "reuse factor 21, but only 20"),
        ((replace(light, strategy="Resource"), full), "one pipeline"),
        ((light, replace(full, io_type="io_stream")), "io_parallel"),
        ((light, replace(full, part="xcvu9p-flga2104-2L-e")), "xcvu9p"),
    ):
        with pytest.raises(ConfigError, match=match):
            write_hls_firmware(tmp_path / "x", design, vectors, *changed)
    with pytest.raises(ConfigError, match="no circuit for a score of kind 'sum_of_squares'"):
        FirmwareModel(design.full.network, Score("sum_of_squares"), design.full.kept_inputs)
    with pytest.raises(ModelError, match="5 features are kept for a network that reads 6"):
        FirmwareModel(design.full.network, Score("head"), (0, 1, 2, 3, 4))
    with pytest.raises(ConfigError, match="reads features"):
        replace(design, feature_shape=(6,))
    with pytest.raises(ConfigError, match="17 objects"):
        replace(design, objects_per_crossing=17)
    with pytest.raises(DataError, match="crossing 3 has 2 objects"):
        make_vectors(design, np.asarray([1, 0, 1, 2]), event_pool(50), 0)
    with pytest.raises(DataError, match=r"object 4 has the code 128 at \[2\]"):
        pool = event_pool(50)
        pool[4, 2] = 128
        make_vectors(design, np.ones(5, np.int64), pool, 0)
