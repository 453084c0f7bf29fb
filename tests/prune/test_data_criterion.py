"""Criteria that look at events, inside the pruning ramp and the scan."""

import numpy as np
import pytest
import torch
from torch import fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import CriterionData, criterion_by_name, criterion_names
from trigger_prune.importance.batch_norm_scale import META_KEY, batch_norm_scales
from trigger_prune.prune.fine_tune import RampPlan, criterion_events, ramp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.sensitivity.layers import scan_layers
from trigger_prune.structure.masks import masked_fraction, prunable_layers
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings


class Bits:
    weight_bits, activation_bits, rounding = 8, 8, "AP_TRN"


def events(n: int = 600) -> Batches:
    """Only the first of eight inputs says anything; the last four are always zero."""
    generator = torch.Generator().manual_seed(2)
    x = torch.round(torch.randn(n, 8, generator=generator) * 16).clamp(-60, 60) / 16
    x[:, 4:] = 0.0
    return Batches(x, (x[:, 0] > 0).long(), torch.ones(n))


def network(batches: Batches, *, norm: bool = False) -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16) if norm else nn.Identity(), nn.ReLU(), nn.Linear(16, 2)
    ).eval()
    net = quantize_model(model, batches.features, FixedPoint(8, 4), Bits())
    if norm:
        net.meta[META_KEY] = batch_norm_scales(model)
    return net


@pytest.mark.parametrize("criterion", criterion_names(with_data=True))
def test_every_criterion_prunes_to_the_sparsity_asked_for(criterion: str) -> None:
    batches = events()
    pruned = network(batches, norm=criterion == "batchnorm_scale")
    settings = FitSettings("prune", epochs=4, batch_size=100, learning_rate=2e-3, seed=3)
    ramp(pruned, batches, batches, settings, RampPlan(0.5, criterion=criterion))
    assert masked_fraction(pruned) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("criterion", ["taylor", "obd", "wanda", "obd_fisher"])
def test_weights_of_inputs_without_signal_go_first(criterion: str) -> None:
    batches = events()
    pruned = network(batches)
    settings = FitSettings("prune", epochs=4, batch_size=100, learning_rate=2e-3, seed=3)
    ramp(pruned, batches, batches, settings, RampPlan(0.4, criterion=criterion))
    first = next(iter(prunable_layers(pruned).values())).weight_mask
    assert float(first[:, 4:].sum()) == 0.0 and float(first[:, 0].sum()) >= 12


def test_the_events_of_a_criterion_follow_from_the_seed_and_carry_weight() -> None:
    batches = events(5000)
    batches.weights[::2] = 0.0
    one, same, other = (criterion_events(batches, "classify", seed).batches for seed in (1, 1, 2))
    assert torch.equal(one.features, same.features) and not torch.equal(one.features, other.features)
    assert len(one) == 2048 and bool((one.weights > 0).all())


def test_the_scan_judges_on_its_events_and_ranks_on_those_of_the_criterion() -> None:
    batches = events()
    scanned = network(batches)
    data = CriterionData(batches.take(slice(0, 300)))
    criterion = criterion_by_name("taylor", with_data=True)
    points = scan_layers(scanned, batches, [0.3], criterion, "classify", criterion_data=data)
    baseline = scan_layers(scanned, batches, [0.0], criterion, "classify", criterion_data=data)
    # half of the first layer sees nothing but zeros
    assert points[0].loss == pytest.approx(baseline[0].loss, abs=1e-3)
    assert np.isfinite([point.loss for point in points]).all()
