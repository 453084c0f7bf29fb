import copy

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import criterion_by_name
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer, QuantConv1d, QuantLinear
from trigger_prune.sensitivity.findings import LayerPoint
from trigger_prune.sensitivity.layers import scan_layers
from trigger_prune.train.evaluate import Batches, evaluate

WEIGHT = FixedPoint(6, 1)
L1 = criterion_by_name("magnitude_l1")
SPARSITIES = [0.0, 0.3, 0.5, 0.9, 1.0]


class Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*WEIGHT_LAYERS, FixedQuantizer)) or super().is_leaf_module(m, module_qualified_name)


class Branched(nn.Module):
    """A particle branch with a frozen mean and a skip connection: cached values of several layers are needed."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = QuantConv1d(nn.Conv1d(3, 6, 1), WEIGHT, WEIGHT)
        self.quantizer = FixedQuantizer(FixedPoint(8, 3, signed=False, overflow="AP_SAT"))
        self.mean = QuantConv1d(nn.Conv1d(6, 6, 4, groups=6, bias=False), FixedPoint(4, 0), WEIGHT)
        self.mean.weight.requires_grad_(False)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.5)
        self.left = QuantLinear(nn.Linear(6, 6), WEIGHT, WEIGHT)
        self.right = QuantLinear(nn.Linear(6, 6), WEIGHT, WEIGHT)
        self.head = QuantLinear(nn.Linear(12, 3), WEIGHT, WEIGHT)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.flatten(self.mean(self.quantizer(torch.relu(self.phi(x)))))
        left = torch.relu(self.left(pooled))
        both = torch.cat([left + pooled, self.right(left)], dim=1)
        return self.head(self.dropout(both))


def network() -> fx.GraphModule:
    torch.manual_seed(0)
    model = Branched()
    return fx.GraphModule(model, Tracer().trace(model))


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


@pytest.mark.parametrize("batch_size", [500, 128])
def test_equals_evaluating_the_whole_network_for_every_point(batch_size: int) -> None:
    model, batches = network(), events()
    model.train()
    model.left.weight_mask[:, 2] = 0
    points = scan_layers(model, batches, SPARSITIES, L1, "classify", batch_size=batch_size)
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


def snapshot(model: nn.Module) -> list[object]:
    state = [tensor.detach().clone().numpy().tobytes() for tensor in (*model.parameters(), *model.buffers())]
    return [*state, [module.training for module in model.modules()]]


def test_network_is_restored_bit_for_bit() -> None:
    model = network()
    model.train()
    model.phi.eval()
    model.head.weight_mask[0, 3] = 0
    before = snapshot(model)
    scan_layers(model, events(), SPARSITIES, L1, "classify")
    assert snapshot(model) == before


def test_network_is_restored_after_an_exception() -> None:
    model = network()
    model.train()
    before = snapshot(model)
    seen: list[bool] = []

    def fail(*_: object) -> None:
        if not bool(model.right.weight_mask.all()):
            seen.append(True)
            raise RuntimeError("stopped in the middle")

    model.head.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stopped in the middle"):
        scan_layers(model, events(), SPARSITIES, L1, "classify")
    assert seen and snapshot(model) == before


def test_layers_before_the_pruned_one_run_once_per_batch() -> None:
    model = network()
    calls = {"phi": 0, "head": 0}
    for name in calls:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    done: list[tuple[int, int]] = []
    scan_layers(model, events(500), [0.5, 0.9], L1, "classify", batch_size=200, progress=lambda *d: done.append(d))
    assert calls == {"phi": 3 * (1 + 2), "head": 3 * (1 + 4 * 2)}
    assert done == [(200, 500), (400, 500), (500, 500)]


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
