"""Networks with float activations on a processor: what is timed is theirs, and without the heads that are gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import CostError, VerificationError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.encoder import Encoder
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.weights_only import content_hash, quantize_weights
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.group_masks import mask_groups
from trigger_prune.synthesis.runtime import timed_model
from trigger_prune.synthesis.runtime.cost import ProcessorCost
from trigger_prune.synthesis.runtime.timing import Plan
from trigger_prune.target import Budget, Target

SHORT = Plan(rounds=3, seconds=0.3, least_calls=10, warm_up_s=0.01)
QUICK = ProcessorCost(batch_sizes=(1, 64), plan=SHORT)


def network(width: int = 12, n_heads: int = 4, tokens: int = 6, hidden: int = 16) -> nn.Module:
    torch.manual_seed(0)
    model = Encoder((3, tokens), 2, width=width, n_heads=n_heads, n_layers=1, hidden=hidden)
    return quantize_weights(model, 6, input_type=FixedPoint(10, 4), input_shape=(3, tokens))


def without_heads(whole: nn.Module, *heads: int) -> nn.Module:
    groups = structure_by_name("head").groups(whole)
    chosen = torch.zeros(groups.count, dtype=torch.bool)
    chosen[list(heads)] = True
    mask_groups(whole, groups, chosen)
    return whole


def test_the_report_says_what_was_timed_and_how_it_was_compared() -> None:
    masked = without_heads(network(), 0, 2)
    report = QUICK.measure(masked, Target())
    assert (report.stage, report.tool, report.lut, report.latency_cycles) == (
        CostStage.RUNTIME, "onnxruntime", None, None,
    )  # fmt: skip
    assert report.content_hash == content_hash(masked)
    assert report.details["neurons_removed"] == {"layers.0.attention": 2}
    assert report.details["outputs"] == "within a tolerance, not bit-exact"
    assert report.details["float_type"] == "float32"
    layers = weight_layers(masked).values()
    zeros = sum(int((layer.quantized_weight() == 0).sum()) for layer in layers)
    assert report.details["zero_weights"] == pytest.approx(zeros / sum(layer.weight.numel() for layer in layers))
    assert report.latency_p99_us > 0 and report.meets(Budget(latency_p99_us=1e9, event_time_us=1e9))


def test_another_model_than_the_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = network()
    weight_layers(wrong)["head"].bias.data[0] += 0.1
    real = timed_model.shrink_weights_only
    monkeypatch.setattr(timed_model, "shrink_weights_only", lambda _network, **options: real(wrong, **options))
    with pytest.raises(VerificationError, match="gives other outputs than the network in 256 of 256 events"):
        QUICK.measure(network(), Target())


def test_a_float_model_is_refused() -> None:
    with pytest.raises(CostError, match="not a quantised network") as caught:
        QUICK.measure(Encoder((3, 6), 2), Target())
    assert "quantize_weights" in str(caught.value.hint)


@pytest.mark.slow
def test_heads_that_are_gone_take_no_time() -> None:
    """31 of 32 heads of a wide block, which is nearly all there is to compute."""
    model = ProcessorCost(batch_sizes=(64,), plan=replace(SHORT, rounds=5, seconds=1.0))
    whole, fewer = (network(width=256, n_heads=32, tokens=16, hidden=8) for _ in range(2))
    reports = [model.measure(each, Target()) for each in (whole, without_heads(fewer, *range(31)))]
    times = [report.details["p50_over_rounds_us"][0][0] for report in reports]
    assert reports[1].details["neurons_removed"] == {"layers.0.attention": 31}
    assert times[1] < 0.5 * times[0], times
    assert np.isfinite(times).all()
