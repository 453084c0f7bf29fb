import copy

import numpy as np
import pytest
import torch
from scan_networks import Branched, snapshot, traced
from scipy.stats import beta
from torch import Tensor, fx

from trigger_prune.errors import ModelError
from trigger_prune.importance import criterion_by_name
from trigger_prune.sensitivity.findings import LayerPoint
from trigger_prune.sensitivity.layers import scan_layers
from trigger_prune.train.evaluate import Batches, evaluate

L1 = criterion_by_name("magnitude_l1")
SPARSITIES = [0.0, 0.3, 0.5, 0.9, 1.0]


def network() -> fx.GraphModule:
    torch.manual_seed(0)
    return traced(Branched())


def events(n: int = 500) -> Batches:
    generator = torch.Generator().manual_seed(1)
    return Batches(
        torch.randn(n, 3, 4, generator=generator),
        torch.randint(0, 3, (n,), generator=generator),
        torch.rand(n, generator=generator) + 0.5,
    )


def brute_force_mask(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    flat = mask.flatten().tolist()
    while flat.count(0) < round(sparsity * len(flat)):
        kept = [i for i, m in enumerate(flat) if m]
        flat[min(kept, key=lambda i: (float(scores.flatten()[i]), i))] = 0
    return torch.tensor(flat).reshape(mask.shape)


def test_equals_evaluating_the_whole_network_for_every_point() -> None:
    model, batches = network(), events()
    model.train()
    model.left.weight_mask[:, 2] = 0
    points = scan_layers(model, batches, SPARSITIES, L1, "classify")
    expected = []
    for name in ("phi", "left", "right", "head"):
        layer = model.get_submodule(name)
        for sparsity in SPARSITIES:
            if name == "left" and sparsity < 1 / 6:
                continue  # already sparser
            pruned = copy.deepcopy(model)
            mask = brute_force_mask(layer.weight.detach().abs(), layer.weight_mask, sparsity)
            pruned.get_submodule(name).weight_mask.copy_(mask)
            expected.append((name, sparsity, evaluate(pruned, batches, "classify")))
    assert [(point.layer, point.sparsity) for point in points] == [(name, s) for name, s, _ in expected]
    for point, (_, _, truth) in zip(points, expected, strict=True):
        assert point.loss == pytest.approx(truth.loss, rel=1e-6)
        assert point.accuracy == pytest.approx(truth.accuracy, rel=1e-12)
        assert point.accuracy_low < point.accuracy < point.accuracy_high
        assert point.criterion == "magnitude_l1"
    assert len({point.loss for point in points}) > 10  # the points do differ


def test_network_is_restored_bit_for_bit() -> None:
    model = network()
    model.train()
    model.phi.eval()
    model.head.weight_mask[0, 3] = 0
    before = snapshot(model)
    scan_layers(model, events(), SPARSITIES, L1, "classify")
    assert snapshot(model) == before


def test_progress_counts_networks() -> None:
    done: list[tuple[int, int]] = []
    scan_layers(network(), events(500), [0.5, 0.9], L1, "classify", progress=lambda *d: done.append(d))
    assert done[-1] == (8, 8) and done == sorted(done)


def test_a_task_without_classes_has_no_accuracy() -> None:
    model = network()
    batches = events(50)
    batches = Batches(batches.features, torch.zeros(50, 3), batches.weights)
    (point,) = [p for p in scan_layers(model, batches, [0.5], L1, "autoencoder") if p.layer == "head"]
    assert point == LayerPoint("head", "magnitude_l1", 0.5, point.loss, None, None, None, -point.loss)


def test_impossible_scans_are_named() -> None:
    with pytest.raises(ModelError, match=r"sparsity 1\.5"):
        scan_layers(network(), events(), [1.5], L1, "classify")
    frozen = network()
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ModelError, match="no weight layer to prune"):
        scan_layers(frozen, events(), [0.5], L1, "classify")


def test_intervals_end_where_the_binomial_tails_of_the_effective_events_hold_16_percent() -> None:
    batches = events()
    (point, *_) = scan_layers(network(), batches, [0.5], L1, "classify")
    weights = batches.weights.double().numpy()
    n = weights.sum() ** 2 / np.square(weights).sum()
    assert n < 0.95 * len(weights)
    tail = (1 - 0.6826894921) / 2
    # the binomial tails, continued to a fractional number of events by the beta distribution
    right = point.accuracy * n
    assert beta.sf(point.accuracy_low, right, n - right + 1) == pytest.approx(1 - tail, rel=1e-6)
    assert beta.cdf(point.accuracy_high, right + 1, n - right) == pytest.approx(1 - tail, rel=1e-6)
