"""A design is synthesised once; whatever can change its figures makes it another one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from store_networks import Counting, calls, network, stored
from torch import nn

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import CostError, ToolError
from trigger_prune.quantize.describe import describe_network
from trigger_prune.synthesis.process import LimitError
from trigger_prune.synthesis.store import cost as store_cost
from trigger_prune.synthesis.store.key import cost_options, network_digest
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_the_second_measurement_is_the_first_ones_report(log: Path, folder: Path) -> None:
    model = Counting(log)
    first = stored(model, folder).measure(network(), Target())
    second = stored(model, folder).measure(network(), Target())
    assert calls(log) == 1
    assert first == second and first.lut == describe_network(network()).nonzeros
    (key,) = ReportStore(folder).keys()
    assert first.details["store_key"] == key
    assert (stored(model, folder).name, stored(model, folder).stage) == ("rtl", CostStage.RTL_SYNTH)
    assert not list((folder / "claims").iterdir())


def other_weights():
    changed = network()
    layer = changed.get_submodule("0")
    layer.weight.data[0, 0] += 0.5
    return changed


def masked():
    changed = network()
    changed.get_submodule("2").weight_mask[1, 1] = 0
    return changed


@pytest.mark.parametrize(
    "again",
    [
        lambda model: (model, other_weights(), Target()),
        lambda model: (model, masked(), Target()),
        lambda model: (model, network(), Target(clock_period_ns=2.5)),
        lambda model: (model, network(), Target(part="xcvu9p-flga2104-2-i")),
        lambda model: (model, network(), Target(strategy="Resource")),
        lambda model: (model, network(), Target(reuse_factor=2)),
        lambda model: (replace(model, effort=2), network(), Target()),
        lambda model: (replace(model, version="1.6"), network(), Target()),
    ],
)
def test_what_can_change_the_figures_is_another_design(log: Path, folder: Path, again) -> None:
    model = Counting(log)
    stored(model, folder).measure(network(), Target())
    model, changed, target = again(model)
    report = stored(model, folder).measure(changed, target)
    assert calls(log) == 2
    assert report == replace(model.measure(changed, target), details=report.details)


def test_limits_do_not_change_the_design(log: Path, folder: Path) -> None:
    model = Counting(log)
    stored(model, folder).measure(network(), Target())
    stored(replace(model, timeout_s=1.0, memory_limit_mib=5.0, seconds=0.01), folder).measure(network(), Target())
    assert calls(log) == 1


def test_options_are_all_fields_without_limits() -> None:
    delays = {"register_ns": 0.4, "unit_ns": 0.8}
    assert cost_options(AnalyticCost(adders_per_stage=3.0)) == {"adders_per_stage": 3.0, "delay_model": delays}
    assert cost_options(Counting(Path("x"), effort=4)) == {"effort": 4}

    @dataclass(frozen=True)
    class New:
        steps: tuple[str, ...] = ("csynth", "vsynth")
        depth: int | None = None
        timeout_s: float = 3.0
        licences: int = 4

    assert cost_options(New()) == {"steps": ["csynth", "vsynth"], "depth": None}


def test_networks_with_equal_weights_and_other_wiring_are_told_apart() -> None:
    def pooled(kernel: int, stride: int) -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(kernel, stride, padding=kernel // 2), nn.Flatten(),
            nn.Linear(8, 3),
        )  # fmt: skip

    first, second = (network(3, pooled(*size), (1, 6, 6)) for size in ((2, 3), (3, 3)))
    hashes = [replace(describe_network(each), pools=()).content_hash() for each in (first, second)]
    assert hashes[0] == hashes[1], "the weight layers alone are the same"
    digests = {network_digest(each, hashes[0]) for each in (first, second, network(3, pooled(2, 3), (1, 6, 6)))}
    assert len(digests) == 2


@pytest.mark.parametrize("also", ["other", "same"])
def test_threads_that_want_the_same_design_share_one_run(log: Path, folder: Path, also: str) -> None:
    model = stored(Counting(log, seconds=0.5), folder)
    networks = [network(), network(), network() if also == "same" else masked()]
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda each: model.measure(each, Target()), networks))
    assert calls(log) == (1 if also == "same" else 2)
    assert reports[0] == reports[1]


def test_a_result_that_came_just_before_the_claim_is_taken(
    log: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Counting(log)
    real = store_cost.try_claim

    def late(*arguments):
        monkeypatch.setattr(store_cost, "try_claim", real)
        stored(model, folder).measure(network(), Target())
        return real(*arguments)

    monkeypatch.setattr(store_cost, "try_claim", late)
    assert stored(model, folder).measure(network(), Target()).lut
    assert calls(log) == 1


def start(folder: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("store_networks.py")), str(folder), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_second_process_waits_for_the_first_one_and_takes_over_from_a_dead_one(log: Path, folder: Path) -> None:
    victim = start(folder, log, 600.0)
    deadline = time.monotonic() + 60
    while calls(log) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    others = [start(folder, log, 0.5) for _ in range(3)]
    time.sleep(6.0)
    assert calls(log) == 1, "nobody starts while the first one lives"
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    answers = [process.communicate(timeout=100) for process in others]
    expected = str(describe_network(network()).nonzeros)
    assert [output.strip() for output, _ in answers] == [expected] * 3, answers
    assert calls(log) == 2, "exactly one of the three took over"


def test_a_damaged_entry_is_a_warning_and_made_again(log: Path, folder: Path) -> None:
    model = Counting(log)
    first = stored(model, folder).measure(network(), Target())
    (key,) = ReportStore(folder).keys()
    path = ReportStore(folder).path(key) / "rtl_synth.json"
    path.write_text(path.read_text().replace(f'"lut": {first.lut}', f'"lut": {first.lut + 1}'))
    with pytest.warns(UserWarning, match=r"damaged and is made again: .*rtl_synth\.json"):
        assert stored(model, folder).measure(network(), Target()) == first
    assert calls(log) == 2
    assert stored(model, folder).measure(network(), Target()) == first
    assert calls(log) == 2


def test_a_store_that_cannot_be_used_is_a_warning(log: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning) as caught:
        report = stored(Counting(log), blocked / "store").measure(network(), Target())
    assert report.lut == describe_network(network()).nonzeros and "store_key" not in report.details
    assert any("could not be stored" in str(warning.message) for warning in caught)


def failing(cause: str | None, message: str = "unrolled too far") -> ToolError:
    error = ToolError(message, hint="raise the reuse factor")
    if cause is not None:
        error.cause = cause  # type: ignore[attr-defined]
    return error


def test_lasting_failures_are_remembered(log: Path, folder: Path) -> None:
    model = Counting(log, error=failing("size_limit"))
    with pytest.raises(ToolError, match="unrolled too far"):
        stored(model, folder).measure(network(), Target())
    with pytest.raises(ToolError, match="unrolled too far") as caught:
        stored(replace(model, error=None, timeout_s=1e6), folder).measure(network(), Target())
    assert calls(log) == 1
    assert "the tool was not run" in caught.value.message
    assert "raise the reuse factor" in str(caught.value.hint) and "cost.use_store: false" in str(caught.value.hint)
    assert stored(replace(model, error=None), folder).measure(masked(), Target()).lut
    assert calls(log) == 2


def test_a_time_limit_is_not_remembered(log: Path, folder: Path) -> None:
    model = Counting(log, error=LimitError("stopped after 10 s", limit="time"))
    with pytest.raises(ToolError):
        stored(model, folder).measure(network(), Target())
    assert stored(replace(model, error=None), folder).measure(network(), Target()).lut


@pytest.mark.parametrize("cause", ["timeout", "licence", "tool_missing", "compile_error", None])
def test_passing_failures_are_not(log: Path, folder: Path, cause: str | None) -> None:
    model = Counting(log, error=failing(cause))
    with pytest.raises(ToolError):
        stored(model, folder).measure(network(), Target())
    assert stored(replace(model, error=None), folder).measure(network(), Target()).lut
    assert calls(log) == 2


@pytest.mark.parametrize(
    "error", [failing("out_of_memory", "killed"), LimitError("it used 101 MiB", limit="memory", hint="more")]
)
def test_out_of_memory_is_tried_again_with_more_memory(log: Path, folder: Path, error: ToolError) -> None:
    model = Counting(log, memory_limit_mib=100.0, error=error)
    with pytest.raises(ToolError):
        stored(model, folder).measure(network(), Target())
    for limit in (50.0, 100.0):
        with pytest.raises(ToolError, match="not run again"):
            stored(replace(model, error=None, memory_limit_mib=limit), folder).measure(network(), Target())
    assert calls(log) == 1
    assert stored(replace(model, error=None, memory_limit_mib=200.0), folder).measure(network(), Target()).lut
    assert stored(replace(model, memory_limit_mib=50.0), folder).measure(network(), Target()).lut, "it is known now"
    assert calls(log) == 2


@dataclass(frozen=True)
class Vendor(Counting):
    """Gives the reports of all steps of a run, as the vendor tools do."""

    name = "csynth"
    stage = CostStage.CSYNTH

    def measure_run(self, network: nn.Module, target: Target) -> SimpleNamespace:
        base = self.measure(network, target)
        reports = {
            CostStage.CSYNTH: replace(base, stage=CostStage.CSYNTH, lut=900),
            CostStage.VSYNTH: replace(base, stage=CostStage.VSYNTH, lut=400),
        }
        return SimpleNamespace(reports=reports, log="the log", raw={"top_csynth.rpt": "text"})


@dataclass(frozen=True)
class Later(Vendor):
    name = "vsynth"
    stage = CostStage.VSYNTH


def test_all_reports_of_one_run_are_kept_and_serve_other_backends_of_the_flow(log: Path, folder: Path) -> None:
    first = stored(Vendor(log), folder).measure(network(), Target())
    second = stored(Later(log), folder).measure(network(), Target())
    assert (first.lut, second.lut, calls(log)) == (900, 400, 1)
    assert (first.stage, second.stage) == (CostStage.CSYNTH, CostStage.VSYNTH)
    (run,) = ReportStore(folder).runs()
    assert (run.log, run.raw) == ("the log", {"top_csynth.rpt": "text"})
    assert run.network is not None and run.network.content_hash() == describe_network(network()).content_hash()


def test_steps_that_ended_before_a_failure_are_kept(log: Path, folder: Path) -> None:
    error = failing(None, "timing")
    partial = SimpleNamespace(
        reports={CostStage.CSYNTH: Vendor(log).measure_run(network(), Target()).reports[CostStage.CSYNTH]},
        log="half",
        raw={},
    )
    error.run = partial  # type: ignore[attr-defined]
    model = Later(log, error=error)
    with pytest.raises(ToolError, match="timing"):
        stored(model, folder).measure(network(), Target())
    before = calls(log)
    assert stored(Vendor(log), folder).measure(network(), Target()).lut == 900
    assert calls(log) == before


def test_a_tool_of_another_version_than_announced_is_not_stored(log: Path, folder: Path) -> None:
    class Liar(Counting):
        def measure(self, network: nn.Module, target: Target) -> HardwareReport:
            return replace(super().measure(network, target), tool_version="2.0")

    with pytest.warns(UserWarning, match=r"states version 2\.0, but 1\.5 was expected"):
        assert stored(Liar(log), folder).measure(network(), Target()).lut
    assert ReportStore(folder).keys() == []


def test_what_has_no_tool_is_not_stored(log: Path, folder: Path) -> None:
    stored(AnalyticCost(), folder).measure(network(), Target())

    class Unknown(Counting):
        def identity(self) -> None:
            return None

    stored(Unknown(log), folder).measure(network(), Target())
    assert not folder.exists()


def test_errors_of_the_model_come_through(log: Path, folder: Path) -> None:
    with pytest.raises(CostError, match="no logic"):
        stored(Counting(log, error=CostError("no logic")), folder).measure(network(), Target())
    with pytest.raises(OSError, match="disk full"):
        stored(Counting(log, error=OSError("disk full")), folder).measure(network(), Target())
    assert calls(log) == 2
    assert ReportStore(folder).keys() == [] and not list((folder / "claims").iterdir())
