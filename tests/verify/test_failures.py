"""What cannot run is a failure in the verdict; the other representations still run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify_cases import Case, Verified, captured_terminal

from trigger_prune.errors import ToolError
from trigger_prune.verify import representations
from trigger_prune.verify._processes import run_all
from trigger_prune.verify.csim import compile_csim, run_csim
from trigger_prune.verify.runs import Events
from trigger_prune.verify.verdict import FirstDifference, Verdict
from trigger_prune.verify.wires import Wire, first_difference


def _edit_top(case: Case, folder: Path, statement: str) -> Path:
    project = case.copy_project(folder)
    top = project / "firmware" / "net.cpp"
    text = top.read_text()
    marker = "    // hls-fpga-machine-learning insert IO\n"
    assert marker in text
    top.write_text("#include <csignal>\n" + text.replace(marker, marker + statement + "\n"))
    return project


@pytest.mark.parametrize(
    ("statement", "signal_name"),
    [("std::abort();", "SIGABRT"), ("std::raise(SIGFPE);", "SIGFPE")],
)
def test_a_crash_names_its_signal_and_the_others_run(
    statement: str, signal_name: str, mlp: Verified, tmp_path: Path
) -> None:
    verdict = mlp.case.verify(hls4ml_project=_edit_top(mlp.case, tmp_path / "p", statement))
    found = {pair.name: (pair.mismatches, pair.failure) for pair in verdict.pairs}
    assert found.pop("hls4ml_csim") == (None, f"the C simulation was killed by {signal_name}")
    assert found == dict.fromkeys(("torch_float32", "qonnx", "onnxruntime", "alkaid"), (0, None))
    assert not verdict.ok


def test_a_project_that_does_not_compile_quotes_the_compiler(mlp: Verified, tmp_path: Path) -> None:
    project = _edit_top(mlp.case, tmp_path / "p", "this_is_not_declared();")
    with captured_terminal() as terminal, pytest.raises(ToolError, match=r"net.cpp:\d+:\d+: error: .this_is_not_decl"):
        compile_csim(project, tmp_path)
    assert terminal == [""]


def test_files_that_are_missing_or_damaged_are_failures(mlp: Verified, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    verdict = mlp.case.verify(
        qonnx_model=tmp_path / "bad.onnx", lowered_model=tmp_path / "none.onnx", hls4ml_project=tmp_path / "none"
    )
    found = {pair.name: (pair.mismatches, pair.failure) for pair in verdict.pairs}
    assert found["torch_float32"] == found["alkaid"] == (0, None)
    assert found["qonnx"][0] is found["onnxruntime"][0] is found["hls4ml_csim"][0] is None
    assert "DecodeError" in found["qonnx"][1]
    assert "none.onnx" in found["onnxruntime"][1]
    assert "none" in found["hls4ml_csim"][1]


def test_without_a_compiler_the_failure_says_so(mlp: Verified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"g\+\+ is not installed"):
        compile_csim(mlp.case.exported.hls4ml_project, tmp_path)


@pytest.fixture(scope="module")
def compiled(mlp: Verified, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_csim(mlp.case.exported.hls4ml_project, tmp_path_factory.mktemp("compiled"))


def test_several_processes_give_the_outputs_of_one_in_order(compiled: Path, mlp: Verified, tmp_path: Path) -> None:
    for processes in (1, 3):
        outputs = run_csim(compiled, mlp.case.features[:50], tmp_path, processes=processes)
        np.testing.assert_array_equal(outputs, mlp.case.expected[:50])
    # fewer events than processes, and hls4ml's own shape for a single event
    outputs = run_csim(compiled, mlp.case.features[:2], tmp_path, processes=8)
    np.testing.assert_array_equal(outputs, mlp.case.expected[:2])


def test_a_slow_simulation_is_stopped(compiled: Path, mlp: Verified, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"the C simulation took more than 0.02 s"):
        run_csim(compiled, mlp.case.features, tmp_path, timeout_s=0.02)


def test_a_slow_compilation_is_stopped_with_all_its_children(mlp: Verified, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ToolError, match=r"compiling the C simulation took more than 0.3 s"):
        compile_csim(mlp.case.exported.hls4ml_project, tmp_path, timeout_s=0.3)
    # the compiler proper, a child of g++, would run for longer
    while _processes_in(tmp_path):
        assert time.monotonic() - start < 2.0
        time.sleep(0.02)


def _processes_in(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_processes_run_together_and_report_each_end(tmp_path: Path) -> None:
    scripts = [
        f"touch {tmp_path}/1; while [ ! -e {tmp_path}/2 ]; do sleep 0.01; done; echo out; echo first >&2",
        f"touch {tmp_path}/2; while [ ! -e {tmp_path}/1 ]; do sleep 0.01; done; exit 3",
        "kill -SEGV $$",
    ]
    with captured_terminal() as terminal:
        ended = run_all([["bash", "-c", script] for script in scripts], what="the scripts", timeout_s=20)
    assert [(e.status, e.stderr, e.signal_name) for e in ended] == [
        (0, "first\n", None),
        (3, "", None),
        (-11, "", "SIGSEGV"),
    ]
    assert terminal == [""]
    with pytest.raises(ToolError, match="the tool cannot be started"):
        run_all([[str(tmp_path / "no_such_program")]], what="the tool", timeout_s=1)


@dataclass(frozen=True)
class _Toy:
    """A representation that returns what it is told."""

    name: str
    result: Any

    def count(self, events: Events) -> int:
        return len(events.features)

    def run(self, events: Events) -> np.ndarray:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def wires(self, events: Events, event: np.ndarray) -> Iterable[Wire]:
        raise ToolError("shows no wires")


def test_nan_wrong_shapes_and_any_exception(mlp: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mlp.case.expected
    with_nan, with_infinity, negative_zero = expected.copy(), expected.copy(), expected.copy()
    with_nan[[5, 9], 1] = np.nan
    with_infinity[7, 2] = np.inf
    negative_zero[expected == 0] = -0.0
    toys = (
        _Toy("right", negative_zero),
        _Toy("nan", with_nan),
        _Toy("infinite", with_infinity),
        _Toy("narrow", expected[:, :2]),
        _Toy("short", expected[:-1]),
        _Toy("flat", expected.ravel()),
        _Toy("key_error", KeyError("x")),
        _Toy("tool_error", ToolError("broken", hint="mend it")),
        _Toy("right_again", expected),
    )
    monkeypatch.setattr(representations, "IN_ORDER", toys)
    seen: list[str] = []
    verdict = representations.verify_network(
        mlp.case.network, mlp.case.exported, mlp.case.features, qonnx_events=1, progress=seen.append
    )
    assert seen == [toy.name for toy in toys]
    pairs = {pair.name: pair for pair in verdict.pairs}
    assert pairs["right"].ok and pairs["right_again"].ok
    assert pairs["nan"].mismatches == 2
    first = pairs["nan"].first_difference
    assert (first.event, first.layer, first.element, first.expected) == (5, "output", 1, expected[5, 1])
    assert np.isnan(first.got)
    assert pairs["infinite"].first_difference == FirstDifference(7, "output", 2, expected[7, 2], np.inf)
    for name, shape in (("narrow", r"(302, 2)"), ("short", r"(301, 3)"), ("flat", r"(906,)")):
        assert pairs[name].failure == f"outputs have shape {shape}, the network's (302, 3)"
    assert pairs["key_error"].failure == "KeyError: 'x'"
    assert pairs["tool_error"].failure == "broken\n  -> mend it"
    assert not verdict.ok
    del pairs["nan"]
    kept = Verdict(verdict.events, verdict.accumulator_bits, verdict.float_type, tuple(pairs.values()))
    assert Verdict.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept


def _wire(layer: str, kind: Any, *values: float) -> Wire:
    return Wire(layer, kind, np.array([values]))


def test_wires_are_paired_by_kind_in_order() -> None:
    reference = [
        _wire("phi", "sum", 1.0, 2.0),
        _wire("phi_quant", "quantised", 1.0, 2.0),
        _wire("mean", "sum", 3.3),
        _wire("mean_quant", "quantised", 3.0),
        _wire("head", "sum", 6.0),
    ]
    same = [_wire(str(k), wire.kind, *wire.values[0]) for k, wire in enumerate(reference)]
    assert first_difference(reference, same, 4) is None
    merged = [*same[:2], same[3], same[4]]  # the mean's sum is not shown
    assert first_difference(reference, merged, 4) is None
    merged[3] = _wire("x", "sum", 6.5)
    assert first_difference(reference, merged, 4) == FirstDifference(4, "head", 0, 6.0, 6.5)
    merged[2] = _wire("x", "quantised", 2.0)
    assert first_difference(reference, merged, 4) == FirstDifference(4, "mean_quant", 0, 3.0, 2.0)
    # what cannot be paired accuses nobody
    assert first_difference(reference, [_wire("x", "sum", 1.0)], 4) is None
    assert first_difference(reference, [*same, _wire("x", "sum", 9.0)], 4) is None


def test_wires_are_read_no_further_than_needed() -> None:
    def endless() -> Iterable[Wire]:
        yield _wire("a", "sum", 1.0)
        yield _wire("b", "quantised", 7.0)
        raise AssertionError("read too far")

    reference = [_wire("phi", "sum", 1.0), _wire("phi_quant", "quantised", 1.0), _wire("head", "sum", 0.0)]
    assert first_difference(reference, endless(), 0) == FirstDifference(0, "phi_quant", 0, 1.0, 7.0)
