"""The exported model on a real processor: what is timed is the network, and what is told about it is true."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import fx, nn

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import CostError, StageMismatchError, ToolError, VerificationError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.synthesis.runtime import cost as module
from trigger_prune.synthesis.runtime import timed_model
from trigger_prune.synthesis.runtime.cost import ProcessorCost
from trigger_prune.synthesis.runtime.timing import Plan
from trigger_prune.target import Budget, Target

SHORT = Plan(rounds=3, seconds=0.3, least_calls=10, warm_up_s=0.01)
QUICK = ProcessorCost(batch_sizes=(1, 64), plan=SHORT)


def network(*widths: int, weight_bits: int = 6) -> fx.GraphModule:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for first, second in pairwise(widths):
        layers += [nn.Linear(first, second), nn.ReLU()]
    bits = SimpleNamespace(weight_bits=weight_bits, activation_bits=weight_bits, rounding="AP_TRN")
    return quantize_model(nn.Sequential(*layers[:-1]), torch.randn(300, widths[0]), FixedPoint(10, 4), bits)


@pytest.fixture(scope="module")
def report() -> HardwareReport:
    return QUICK.measure(network(16, 32, 5), Target())


def test_the_report_is_one_of_a_processor(report: HardwareReport) -> None:
    runtime = report.runtime
    assert runtime is not None
    assert (report.stage, report.tool, report.tool_version) == (
        CostStage.RUNTIME, "onnxruntime", onnxruntime.__version__,
    )  # fmt: skip
    assert (report.lut, report.ff, report.dsp, report.bram18, report.latency_cycles, report.ii) == (None,) * 6
    assert (report.clock_period_ns, report.latency_ns, report.part) == (None, None, runtime.device)
    assert report.content_hash == describe_network(network(16, 32, 5)).content_hash()
    assert (runtime.provider, runtime.threads, runtime.batch_sizes) == ("CPUExecutionProvider", 1, (1, 64))
    assert all(0 < low <= high for low, high in zip(runtime.latency_p50_us, runtime.latency_p99_us, strict=True))
    assert report.latency_p99_us == runtime.latency_p99_us[0]
    assert report.event_time_us == pytest.approx(1e6 / max(runtime.throughput_hz))
    assert HardwareReport.from_json(report.to_json()) == report


def test_the_report_says_what_zeros_are_worth(report: HardwareReport) -> None:
    assert "unstructured sparsity makes nothing faster" in report.details["sparsity_note"]
    spec = describe_network(network(16, 32, 5))
    assert report.details["zero_weights"] == pytest.approx(1 - spec.nonzeros / spec.n_weights)
    assert report.details["neurons_removed"] == {}
    assert 0 < report.details["empty_call_p50_us"] < report.runtime.latency_p50_us[1]
    assert len(report.details["calls"]) == 2 and min(report.details["calls"]) >= 30


def test_it_is_never_mixed_with_an_fpga(report: HardwareReport) -> None:
    other = replace(report, stage=CostStage.RTL_SYNTH, tool="yosys", lut=5, runtime=None)
    for first, second in ((report, other), (other, report)):
        with pytest.raises(StageMismatchError):
            first.require_same_stage(second)
        with pytest.raises(StageMismatchError):
            first + second
    with pytest.raises(StageMismatchError):
        report + report
    assert report.unstated(Budget(lut=5, latency_p99_us=1e9)) == ("lut",)
    assert report.meets(Budget(latency_p99_us=1e9, event_time_us=1e9))
    assert not report.meets(Budget(event_time_us=1e-9))


def test_removed_neurons_save_time_and_scattered_zeros_do_not() -> None:
    """480 of 512 neurons are cut out whole, or 15 of 16 weights of the large layer are zero here and there."""
    whole, scattered, structured = (network(64, 512, 512, 8) for _ in range(3))
    weight_layers(structured)["0"].weight_mask[32:] = 0
    weight_layers(structured)["2"].weight_mask[32:] = 0
    generator = torch.Generator().manual_seed(5)
    mask = weight_layers(scattered)["2"].weight_mask
    mask.copy_((torch.rand(mask.shape, generator=generator) < 1 / 16).float())
    model = ProcessorCost(batch_sizes=(64,), plan=replace(SHORT, rounds=5, seconds=1.0))
    reports = [model.measure(each, Target()) for each in (whole, scattered, structured)]
    times = [each.details["p50_over_rounds_us"][0][0] for each in reports]  # of the least disturbed round
    assert reports[2].details["neurons_removed"] == {"0": 480, "2": 480}
    assert reports[1].details["zero_weights"] > 0.8 and reports[1].details["neurons_removed"] == {}
    assert times[2] < 0.4 * times[0], times
    assert times[1] > 0.5 * times[0], times


def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._run_worker

    def disturbed(*arguments: object) -> dict[str, object]:
        result = real(*arguments)
        result["times"]["64"]["p50_high_us"] = 2.0 * result["times"]["64"]["p50_low_us"]
        result["times"]["1"]["p50_high_us"] = result["times"]["1"]["p50_low_us"]
        return result

    monkeypatch.setattr(module, "_run_worker", disturbed)
    with pytest.warns(UserWarning, match=r"busy .* batch size 64: "):
        report = QUICK.measure(network(16, 32, 5), Target())
    assert report.details["disturbed_batch_sizes"] == [64]


def test_wide_accumulators_run_in_float64() -> None:
    report = replace(QUICK, batch_sizes=(2,)).measure(network(16, 32, 32, 5, weight_bits=14), Target())
    assert report.details["float_type"] == "float64"


def test_another_model_than_the_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = network(16, 32, 5)
    weight_layers(wrong)["2"].weight.data[0, 0] += 0.5
    real = timed_model.shrink_network
    monkeypatch.setattr(timed_model, "shrink_network", lambda _network, **options: real(wrong, **options))
    with pytest.raises(VerificationError, match="gives other outputs than the network in"):
        QUICK.measure(network(16, 32, 5), Target())


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
def test_a_provider_that_is_not_there_is_an_error_not_a_cpu_figure() -> None:
    with pytest.raises(CostError, match="no CUDAExecutionProvider") as caught:
        replace(QUICK, provider="cuda").measure(network(16, 32, 5), Target())
    assert "onnxruntime-gpu" in str(caught.value.hint)


def test_more_threads_than_processors() -> None:
    with pytest.raises(CostError, match="100000 threads"):
        replace(QUICK, threads=100_000).measure(network(16, 32, 5), Target())


def test_limits_of_the_process() -> None:
    with pytest.raises(ToolError, match=r"ONNX Runtime was stopped after .* the limit is 0\.5 s"):
        replace(QUICK, timeout_s=0.5, plan=replace(SHORT, seconds=60.0)).measure(network(16, 32, 5), Target())
    with pytest.raises(ToolError, match="MiB of at most 20 MiB"):
        replace(QUICK, memory_limit_mib=20.0, plan=replace(SHORT, seconds=60.0)).measure(network(16, 32, 5), Target())


@pytest.mark.parametrize(
    "options", [{"batch_sizes": ()}, {"batch_sizes": (4, 1)}, {"batch_sizes": (0, 1)}, {"threads": 0}]
)
def test_options_without_sense(options: dict[str, object]) -> None:
    with pytest.raises(CostError):
        ProcessorCost(**options)


def test_a_plain_module_is_refused() -> None:
    with pytest.raises(CostError, match="not a quantised network"):
        QUICK.measure(nn.Linear(3, 3), Target())


def test_probe_events_cover_the_input_type() -> None:
    events = module._probes(network(16, 32, 5), double=False)
    fixed = FixedPoint(10, 4)
    assert fixed.contains(events).all() and events.dtype == np.float32
    assert events.min() < 0.99 * fixed.min_value and events.max() > 0.99 * fixed.max_value
