"""Largest signal logit minus largest background logit, and scores exactly at the thresholds: in C++ and in Verilog.

One design, one stream of objects. What is expected is counted here from the networks' outputs, object by object.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from firmware_toys import FULL_INPUTS, INPUT, LIGHT_INPUTS, event_pool, needs_verilator, network, small_design, targets

from trigger_prune.physics.filling import named_filling
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.freeze import freeze
from trigger_prune.two_stage.firmware.cycle_model import LOST, TO_FULL, IntegerThresholds
from trigger_prune.two_stage.firmware.design import FirmwareDesign, FirmwareModel
from trigger_prune.two_stage.firmware.hls.compare import HlsVerdict
from trigger_prune.two_stage.firmware.hls.compare import compare_with_model as compare_hls
from trigger_prune.two_stage.firmware.hls.project import write_hls_firmware
from trigger_prune.two_stage.firmware.hls.render import FLAGS
from trigger_prune.two_stage.firmware.hls.run import build_bench, play
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors, make_vectors, objects_in_crossings
from trigger_prune.two_stage.firmware.verilog.compare import compare_with_model as compare_verilog
from trigger_prune.two_stage.firmware.verilog.project import write_verilog_firmware
from trigger_prune.two_stage.firmware.verilog.run import simulate_verilog_firmware
from trigger_prune.two_stage.traffic import Engine

ENGINE = Engine(20, 9, 2)
CROSSINGS = 3000
LIGHT_SIDES, FULL_SIDES = ((1, 2), (0,)), ((4, 0, 2), (1, 3))
"""Signal and background outputs of each network; the full one has those of a jet tagger (three of five are signal)."""


def outputs_of(model: FirmwareModel, features: np.ndarray) -> np.ndarray:
    """Logits in steps, by torch in float64."""
    kept = features[:, list(model.kept_inputs)]
    with torch.no_grad():
        values = freeze(model.network, double=True)(torch.from_numpy(kept * INPUT.lsb)).numpy()
    codes = np.ldexp(values, model.score_fraction)
    assert (codes == np.rint(codes)).all()
    return codes.astype(np.int64)


def scores_by_hand(outputs: np.ndarray, sides: tuple[tuple[int, ...], tuple[int, ...]]) -> np.ndarray:
    """The largest of one side minus the largest of the other, row by row."""
    signal, background = sides
    return np.array([max(row[i] for i in signal) - max(row[i] for i in background) for row in outputs.tolist()])


def common(scores: np.ndarray, share: float) -> int:
    """The most frequent score near a quantile: only objects exactly at a threshold tell >= from >."""
    low, high = np.quantile(scores, [share - 0.03, share + 0.03])
    values, counts = np.unique(scores[(scores >= low) & (scores <= high)], return_counts=True)
    return int(values[counts.argmax()])


@dataclass(frozen=True)
class Case:
    design: FirmwareDesign
    vectors: FirmwareVectors
    hls: Path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Networks (by their seeds) of which each output of either side is sometimes the largest."""
    light = FirmwareModel(network(6, (4,), 3, 44), Score("difference", *LIGHT_SIDES), LIGHT_INPUTS)
    full = FirmwareModel(network(6, (8,), 5, 19), Score("difference", *FULL_SIDES), FULL_INPUTS)
    pool = event_pool(2000)
    light_scores, full_scores = (
        scores_by_hand(outputs_of(model, pool), sides) for model, sides in ((light, LIGHT_SIDES), (full, FULL_SIDES))
    )
    thresholds = IntegerThresholds(
        common(light_scores, 0.4), common(light_scores, 0.94), common(full_scores, 0.6), common(light_scores, 0.75)
    )
    at = [light_scores == value for value in (thresholds.t_reject, thresholds.t_accept, thresholds.t_overflow)]
    at.append((full_scores == thresholds.t_full) & (light_scores >= thresholds.t_reject))
    assert all(rows.any() for rows in at)
    pool = np.concatenate([pool, *(pool[np.resize(np.flatnonzero(rows), 200)] for rows in at)])
    timing = replace(small_design(ENGINE).timing, full_cycles=40)
    design = FirmwareDesign("several", light, full, thresholds, ENGINE, timing, 3, (8,))
    objects = objects_in_crossings(named_filling("72b").filled, CROSSINGS, (0.2, 0.4, 0.2, 0.2), 4)
    vectors = make_vectors(design, objects, pool, 2)
    folder = tmp_path_factory.mktemp("several") / "hls"
    write_hls_firmware(folder, design, vectors, *targets(ENGINE))
    return Case(design, vectors, folder)


def test_the_stream_has_what_must_be_told_apart(case: Case) -> None:
    """Scores at every threshold where they count; each output the largest of its side for a tenth of the objects."""
    design, stream, trace = case.design, case.vectors.stream, case.vectors.trace
    features, thresholds = case.vectors.features, case.design.thresholds
    for model, sides, scores in (
        (design.light, LIGHT_SIDES, stream.light),
        (design.full, FULL_SIDES, stream.full),
    ):
        outputs = outputs_of(model, features)
        assert np.array_equal(scores_by_hand(outputs, sides), scores)
        for side in sides:
            shares = np.bincount(outputs[:, side].argmax(axis=1), minlength=len(side)) / len(outputs)
            assert shares.min() > 0.1, (sides, shares)
    exactly = {
        "t_reject": stream.light == thresholds.t_reject,
        "t_accept": stream.light == thresholds.t_accept,
        "t_overflow": (stream.light == thresholds.t_overflow) & (trace.fate == LOST),
        "t_full": (stream.full == thresholds.t_full) & (trace.fate == TO_FULL),
    }
    assert min(int(rows.sum()) for rows in exactly.values()) >= 20, {k: int(v.sum()) for k, v in exactly.items()}
    # a score at its threshold passes, and one step below it does not
    assert set(trace.fate[exactly["t_reject"]]) == {TO_FULL, LOST}
    assert trace.passed[exactly["t_accept"] | exactly["t_overflow"] | exactly["t_full"]].all()
    assert not trace.passed[(stream.full == thresholds.t_full - 1) & (trace.fate == TO_FULL)].any()
    counters = trace.counters
    assert min(counters[name] for name in ("lost", "passed_full", "passed_overflow", "accepted_at_once")) > 30


@pytest.fixture(scope="module")
def built(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled C++, to be changed piece by piece."""
    return build_bench(case.hls, tmp_path_factory.mktemp("several_build") / "build").parent


def verdict_of(case: Case, bench: Path) -> HlsVerdict:
    run = play(bench, case.hls / "tb_data")
    verdict = compare_hls(case.design, case.vectors.trace, run)
    assert run.passed == verdict.ok  # the test bench judges by itself
    return verdict


def test_the_cpp_decides_as_the_cycle_model(case: Case, built: Path) -> None:
    verdict = verdict_of(case, built / "two_stage_test")
    assert verdict.ok and verdict.crossings == CROSSINGS, str(verdict)


@needs_verilator
def test_the_verilog_decides_as_the_cycle_model(case: Case, tmp_path: Path) -> None:
    """And in the same cycles; the full scores are those of the C++ and of torch."""
    made = write_verilog_firmware(tmp_path / "verilog", case.design, case.vectors, targets(ENGINE)[1])
    run = simulate_verilog_firmware(made.folder)
    verdict = compare_verilog(made.design, made.vectors, run)
    assert verdict.ok and run.passed and verdict.crossings == CROSSINGS, str(verdict)
    trace, same = made.vectors.trace, case.vectors.trace
    assert np.array_equal(trace.fate, same.fate) and np.array_equal(trace.accepted, same.accepted)
    assert verdict.started > 300


MUTANTS = {
    "one signal output less": ("full_stage", "    signal = larger(signal, steps(outputs[2]));\n", ""),
    "another signal output less": ("full_stage", "    signal = larger(signal, steps(outputs[0]));\n", ""),
    "one background output less": ("full_stage", "    background = larger(background, steps(outputs[3]));\n", ""),
    "smallest instead of largest": ("full_stage", "return a > b ? a : b;", "return a > b ? b : a;"),
    "sides swapped": ("full_stage", "score = signal - background;", "score = background - signal;"),
    "light signal output less": ("light_stage", "    signal = larger(signal, steps(outputs[2]));\n", ""),
    "reject at the threshold": ("two_stage_top", "score >= T_REJECT", "score > T_REJECT"),
    "accept at the threshold": ("two_stage_top", "score >= T_ACCEPT", "score > T_ACCEPT"),
    "full at the threshold": ("two_stage_top", "score >= T_FULL", "score > T_FULL"),
    "overflow at the threshold": ("two_stage_top", "score >= T_OVERFLOW", "score > T_OVERFLOW"),
}
UNITS = ("two_stage_top", "light_stage", "full_stage", "two_stage_test")


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_in_the_cpp_is_found(case: Case, built: Path, name: str) -> None:
    unit, old, new = MUTANTS[name]
    source = (case.hls / f"{unit}.cpp").read_text()
    assert source.count(old) == 1
    (built / f"{unit}_mutant.cpp").write_text(source.replace(old, new))
    others = [f"{other}.o" for other in UNITS if other != unit]
    command = ["g++", *FLAGS, "-O0", f"{unit}_mutant.cpp", *others, "-o", "mutant"]
    subprocess.run(command, cwd=built, check=True, timeout=300)
    verdict = verdict_of(case, built / "mutant")
    assert not verdict.ok and (verdict.decisions or verdict.waiting), f"{name}: {verdict}"
