"""OBS with the Gauss-Newton Hessian of the loss in the weights of every unit."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scored_networks import MIXED_LAYERS, events, mixed_network, mlp_network, sequence_network
from test_obs_score import Twice
from torch import nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import CriterionData, criterion_by_name, row_hessians, score_groups
from trigger_prune.importance.obs_blocks import InputBlocks
from trigger_prune.importance.obs_gauss_newton import ObsGaussNewton
from trigger_prune.quantize.graph import trace
from trigger_prune.quantize.layers import QuantLinear
from trigger_prune.structure.weight import Weight
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import event_losses

FINE = FixedPoint(30, 10)
"""Steps of 2^-20: weights are rounded far below the differences looked at."""


def by_single_events(network: nn.Module, name: str, data: CriterionData) -> np.ndarray:
    """Event by event: the Jacobian of the outputs by weight and bias, and the Hessian of the loss by the outputs."""
    network.eval()
    layer = network.get_submodule(name)
    parameters = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    share = data.batches.weights / data.batches.weights.sum()
    total = 0.0
    for i in torch.nonzero(share).flatten().tolist():
        event = data.batches.take(slice(i, i + 1))
        outputs = network(event.features)
        inner = torch.autograd.functional.hessian(
            lambda o, event=event, shape=outputs.shape: event_losses(o.reshape(shape), event.targets, data.task).sum(),
            outputs.detach().flatten(),
        ).numpy()
        rows = []
        for value in outputs.flatten():
            found = torch.autograd.grad(value, parameters, retain_graph=True)
            rows.append(np.concatenate([g.reshape(len(layer.weight), -1).numpy() for g in found], axis=1))
        jacobian = np.stack(rows, axis=1)  # units, outputs, inputs
        total = total + share[i].item() * np.einsum("uki,kl,ulj->uij", jacobian, inner, jacobian)
    return np.asarray(total)


@pytest.mark.parametrize(
    ("make", "shape", "layers", "task"),
    [
        (mixed_network, (2, 8, 8), MIXED_LAYERS, "classify"),
        (mlp_network, (5,), ["0", "3"], "classify"),
        (sequence_network, (2, 4), ["0", "3"], "autoencoder"),
        (Twice, (5,), ["shared", "head"], "classify"),
    ],
)
def test_hessians_are_those_of_single_events(make, shape, layers, task):
    data = events(shape, 30, task)
    found = row_hessians.row_hessians(make(), layers, data)
    for name in layers:
        layer = make().get_submodule(name)
        expected = by_single_events(make(), name, data)
        assert expected.shape == found[name].shape and np.abs(expected).max() > 1e-6
        kept = layer.weight_mask.flatten(1).numpy() != 0
        if layer.bias is not None:
            kept = np.pad(kept, ((0, 0), (0, 1)), constant_values=True)
        both = kept[:, :, None] & kept[:, None, :]  # the derivative by a masked weight is zero in training
        np.testing.assert_allclose(found[name].numpy()[both], expected[both], rtol=1e-8, atol=1e-14)


def regression(n_inputs: int, units: int, seed: int) -> tuple[nn.Sequential, CriterionData, np.ndarray, np.ndarray]:
    """Correlated inputs with a bias, at the least-squares solution; and the design matrix and the targets."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(n_inputs, n_inputs, generator=generator, dtype=torch.float64)
    x = torch.randn(80, n_inputs, generator=generator, dtype=torch.float64) @ mixing + 0.5
    y = torch.randn(80, units, generator=generator, dtype=torch.float64) * 5
    design = torch.cat([x, torch.ones(80, 1, dtype=torch.float64)], dim=1)
    layer = QuantLinear(nn.Linear(n_inputs, units), FINE, FINE).double()
    solution = torch.linalg.lstsq(design, y).solution
    with torch.no_grad():
        layer.weight.copy_(solution[:-1].T)
        layer.bias.copy_(solution[-1])
    return nn.Sequential(layer), CriterionData(Batches(x, y, torch.ones(80)), "autoencoder"), design.numpy(), y.numpy()


def least_loss(design: np.ndarray, y: np.ndarray, kept: list[int]) -> float:
    """Mean of squares over units and events of the best fit with some of the inputs and the bias."""
    columns = design[:, [*kept, design.shape[1] - 1]]
    return float(np.square(y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]).mean())


@pytest.mark.parametrize("seed", range(4))
def test_sums_of_scores_are_the_exact_loss_of_a_refitted_regression(seed):
    """The loss of a linear layer is quadratic: brute force refits it without each candidate, the cheapest goes."""
    network, data, design, y = regression(6, 1, seed)
    scores = ObsGaussNewton(damping=1e-12).score(network, ["0"], data)["0"][0].numpy()
    kept, before, highest = list(range(6)), least_loss(design, y, list(range(6))), 0.0
    for _ in range(6):
        losses = {q: least_loss(design, y, [k for k in kept if k != q]) for q in kept}
        q = min(losses, key=losses.__getitem__)
        highest = max(highest, losses[q] - before)
        assert scores[q] == pytest.approx(highest, rel=1e-4)
        kept.remove(q)
        before = losses[q]


def test_of_two_equal_inputs_one_is_free_and_a_diagonal_does_not_see_it():
    network, data, _, _ = regression(4, 2, 9)
    x = data.batches.features.clone()
    x[:, 3] = x[:, 2]
    data = CriterionData(Batches(x, data.batches.targets, data.batches.weights), "autoencoder")
    with torch.no_grad():
        network[0].weight[:, 2:] = 1.0
    scores = ObsGaussNewton(damping=1e-6).score(network, ["0"], data)["0"]
    pairs = scores[:, 2:].sort(dim=1).values
    assert bool((pairs[:, 0] < 1e-4 * pairs[:, 1]).all())


def test_a_ladder_is_the_removals_one_after_the_other():
    network, data = mlp_network(), events((5,), 60)
    for name, hessian in row_hessians.row_hessians(network, ["0", "3"], data).items():
        layer = network.get_submodule(name)
        hessian.diagonal(dim1=1, dim2=2).add_(1e-3)
        kept = layer.weight_mask.flatten(1) != 0
        rows = torch.cat([layer.quantized_weight().detach().flatten(1), layer.quantized_bias().detach()[:, None]], 1)
        for size in (None, 2):
            ladder = InputBlocks(hessian, kept, size).start(rows).ladder()
            one_by_one = InputBlocks(hessian, kept, size).start(rows)
            highest: dict[tuple[int, int], float] = {}
            for _ in range(int(kept.sum())):
                before = one_by_one.kept.clone()
                cost = one_by_one.remove_cheapest()
                ((row, column),) = torch.nonzero(before & ~one_by_one.kept).tolist()
                block = (row, column // (size or 100))
                highest[block] = max(highest.get(block, 0.0), cost)
                assert float(ladder[row, column]) == pytest.approx(highest[block], rel=1e-7)
            assert bool((ladder[~kept] == 0).all())


def test_groups_of_single_weights_score_as_weights_do():
    network, data = trace(mlp_network()), events((5,), 60)
    groups = Weight().groups(network)
    weights = ObsGaussNewton().score(network, list(groups.ids), data)
    torch.testing.assert_close(score_groups(ObsGaussNewton(), network, groups, data), groups.sums(weights))


def test_unit_that_the_loss_does_not_feel_scores_next_to_nothing():
    network, data = mlp_network(), events((5,), 60)
    with torch.no_grad():
        network[3].weight[:, 2] = 0.0
    scores = ObsGaussNewton().score(network, ["0"], data)["0"]
    others = torch.tensor([k for k in range(6) if k != 2])
    assert 0 <= float(scores[2].max()) < 1e-4 * float(scores[others].max())
    with torch.no_grad():
        network[3].weight.zero_()
    assert not bool(ObsGaussNewton().score(network, ["0"], data)["0"].any())


def test_too_wide_layers_and_bad_damping_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="damping 0 is not above zero"):
        ObsGaussNewton(damping=0)
    monkeypatch.setattr(row_hessians, "_HESSIAN_VALUES", 6 * 36 - 1)
    with pytest.raises(ModelError, match="layer '0' of 6 units of 6 inputs is too large"):
        ObsGaussNewton().score(mlp_network(), ["0"], events((5,)))


def test_parts_of_few_events_make_no_difference(monkeypatch):
    data = events((2, 8, 8), 40)
    whole = row_hessians.row_hessians(mixed_network(), MIXED_LAYERS, data)
    monkeypatch.setattr(row_hessians, "_VALUES_AT_ONCE", 500)
    for name, part in row_hessians.row_hessians(mixed_network(), MIXED_LAYERS, data).items():
        torch.testing.assert_close(part, whole[name], rtol=1e-10, atol=1e-16)


def test_half_of_a_regression_goes_at_less_loss_than_by_a_diagonal():
    """Brute force refits what is left; the best of all subsets is a bound for both."""
    own, diagonal = [], []
    for seed in range(8):
        network, data, design, y = regression(7, 1, 20 + seed)
        start = least_loss(design, y, list(range(7)))
        best = min(least_loss(design, y, list(each)) for each in combinations(range(7), 3)) - start
        for criterion, found in (
            (ObsGaussNewton(damping=1e-12), own),
            (criterion_by_name("obd", with_data=True), diagonal),
        ):
            kept = criterion.score(network, ["0"], data)["0"][0].argsort()[4:].tolist()
            found.append((least_loss(design, y, kept) - start) / best)
    assert min(own) >= 1 - 1e-9
    assert np.mean(own) - 1 < 0.6 * (np.mean(diagonal) - 1)
