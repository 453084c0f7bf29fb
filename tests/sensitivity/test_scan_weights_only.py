"""The plain scan against masks set by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import criterion_by_name
from trigger_prune.models.encoder import Encoder
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.weights_only import quantize_weights
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.weights_only import scan_weights_only
from trigger_prune.train.evaluate import Batches, evaluate


def events() -> Batches:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(300, 3, 5, generator=generator)
    x[:, 2] = x[:, 0]
    return Batches(x, (x[:, 0].sum(dim=1) > 0).long(), torch.rand(300, generator=generator))


def network() -> nn.Module:
    torch.manual_seed(0)
    model = Encoder((3, 5), 2, width=8, n_heads=2, n_layers=1, hidden=6)
    return quantize_weights(model, 6, input_type=FixedPoint(12, 5), input_shape=(3, 5))


@pytest.fixture(scope="module")
def found() -> tuple[nn.Module, SensitivityScan]:
    scanned = network()
    before = copy.deepcopy(scanned.state_dict())
    steps: list[tuple[str, int, int]] = []
    result = scan_weights_only(
        scanned, events().features.numpy(), events(), ("a", "b", "c"), (0.5, 0.9),
        criterion_by_name("magnitude_l1"), "classify", progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert all(torch.equal(value, scanned.state_dict()[name]) for name, value in before.items())
    assert scanned.training and steps[-1] == ("inputs", 3, 3) and ("layers", 16, 16) in steps
    return scanned, result


def test_every_point_is_the_network_with_its_smallest_weights_gone(found: tuple[nn.Module, SensitivityScan]) -> None:
    scanned, result = found
    assert result.baseline_loss == evaluate(scanned, events(), "classify").loss
    assert [(point.layer, point.sparsity) for point in result.layers] == [
        (name, sparsity) for name in weight_layers(scanned) for sparsity in (0.5, 0.9)
    ]  # fmt: skip
    for point in result.layers:
        pruned = copy.deepcopy(scanned)
        layer = weight_layers(pruned)[point.layer]
        size = layer.weight.abs().flatten().detach()
        layer.weight_mask.flatten()[size.argsort()[: round(point.sparsity * len(size))]] = 0
        expected = evaluate(pruned, events(), "classify")
        assert (point.loss, point.accuracy) == (expected.loss, expected.accuracy)
        assert point.criterion == "magnitude_l1"


def test_redundant_inputs_are_found(found: tuple[nn.Module, SensitivityScan]) -> None:
    _, result = found
    assert [(entry.name, entry.kind, entry.same_as) for entry in result.inputs] == [
        ("a", "informative", None), ("b", "informative", None), ("c", "duplicate", "a"),
    ]  # fmt: skip
    assert SensitivityScan.from_dict(result.to_dict()) == result
