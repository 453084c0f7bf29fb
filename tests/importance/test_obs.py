"""Optimal brain surgeon against direct minimisation of the layer's own error."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from scored_networks import WEIGHT, events, mixed_network, mlp_network, sequence_network
from torch import nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance.obs import layer_hessians, prune_layer, rows_of, saliencies
from trigger_prune.quantize.layers import QuantLinear

CASES = [(mlp_network, (5,), "0"), (mlp_network, (5,), "3"), (mixed_network, (2, 8, 8), "first"),
         (mixed_network, (2, 8, 8), "second"), (sequence_network, (2, 4), "0")]  # fmt: skip


def layer_inputs(network: nn.Module, name: str, features: torch.Tensor) -> torch.Tensor:
    seen = []
    handle = network.get_submodule(name).register_forward_hook(lambda _m, args, _out: seen.append(args[0].clone()))
    with torch.no_grad():
        network.eval()(features)
    handle.remove()
    return seen[0]


def outputs(layer: nn.Module, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if isinstance(layer, QuantLinear):
        return nn.functional.linear(x, weight, bias)
    return layer._conv_forward(x, weight, bias)


@pytest.mark.parametrize(("make", "shape", "name"), CASES)
def test_the_hessian_gives_the_error_of_the_layers_outputs(
    make: type[nn.Module], shape: tuple[int, ...], name: str
) -> None:
    """For any change d of weight and bias: ``||change of the outputs||^2 + (lambda / 2) ||d||^2``, weighted mean."""
    network, data = make(), events(shape, 60, "autoencoder" if make is sequence_network else "classify")
    layer = network.get_submodule(name)
    hessian = layer_hessians(network, [name], data)[name]
    x = layer_inputs(network, name, data.batches.features)
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
    bias = None if layer.bias is None else torch.randn(len(weight), generator=generator, dtype=torch.float64)
    share = data.batches.weights / data.batches.weights.sum()
    squares = (outputs(layer, x, weight, bias).flatten(1).square().sum(dim=1) * share).sum()
    flat = weight.flatten(1) if bias is None else torch.cat([weight.flatten(1), bias[:, None]], dim=1)
    rows_per_group = len(weight) // len(hessian)
    # lambda is 1e-2 of the mean diagonal before it was added
    damping = 1e-2 / 1.01 * hessian.diagonal(dim1=1, dim2=2).mean()
    quadratic = sum(0.5 * row @ hessian[i // rows_per_group] @ row for i, row in enumerate(flat))
    torch.testing.assert_close(quadratic, squares + damping / 2 * flat.square().sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("q", range(5))
def test_the_update_is_the_least_squares_solution_with_the_weight_forced_to_zero(q: int) -> None:
    """argmin ||dW X||^2 + (lambda / 2) ||dW||^2, dW_q = -w_q, from the events themselves by numpy's lstsq."""
    layer = QuantLinear(nn.Linear(5, 1), WEIGHT, WEIGHT).double()
    data = events((5,), 120)
    data.batches.features.copy_(data.batches.features @ torch.randn(5, 5, dtype=torch.float64))
    x = np.hstack([data.batches.features.numpy(), np.ones((120, 1))])
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    damping = 1e-2 * np.mean([2 * share @ x[:, i] ** 2 for i in range(6)])
    design = np.vstack([np.sqrt(share)[:, None] * x, np.sqrt(damping / 2) * np.eye(6)])
    w = rows_of(layer)[0].numpy()
    others = [i for i in range(6) if i != q]
    change = np.zeros(6)
    change[q] = -w[q]
    change[others] = np.linalg.lstsq(design[:, others], design[:, q] * w[q], rcond=None)[0]
    hessian = layer_hessians(nn.Sequential(layer), ["0"], data)["0"]
    np.testing.assert_allclose(saliencies(layer, hessian)[0, q], ((design @ change) ** 2).sum(), rtol=1e-9)
    layer.weight_mask[0, [i for i in range(5) if i != q]] = 0  # only q is left to choose
    kept = np.zeros(6)
    kept[5] = w[5]
    kept[q] = w[q]
    gone = kept - np.append(np.zeros(5), design[:, 5] @ design[:, q] * w[q] / -(design[:, 5] @ design[:, 5]))
    gone[q] = 0
    pruned = prune_layer(layer, hessian, 5)
    np.testing.assert_allclose(pruned.bias.numpy(), gone[5:], rtol=1e-9)
    layer.weight_mask.fill_(1)
    layer.weight_mask[0, q] = 0
    free = prune_layer(layer, hessian, 1, optimum=torch.from_numpy(w)[None])
    np.testing.assert_allclose(np.append(free.weight[0].numpy(), free.bias.numpy()), w + change, rtol=1e-9, atol=1e-12)


def constrained_minimum(hessian: np.ndarray, w: np.ndarray, zero: list[int]) -> tuple[np.ndarray, float]:
    """argmin of ``1/2 d^T H d`` with ``w + d`` zero at ``zero``: Lagrange's equations, solved as one system."""
    n, m = len(w), len(zero)
    constraint = np.zeros((m, n))
    constraint[range(m), zero] = 1
    system = np.block([[hessian, constraint.T], [constraint, np.zeros((m, m))]])
    change = np.linalg.solve(system, np.concatenate([np.zeros(n), -w[zero]]))[:n]
    return w + change, 0.5 * change @ hessian @ change


@pytest.mark.parametrize(("make", "shape", "name"), CASES)
def test_saliency_and_repair_are_the_constrained_minimum(
    make: type[nn.Module], shape: tuple[int, ...], name: str
) -> None:
    network, data = make(), events(shape, 80, "autoencoder" if make is sequence_network else "classify")
    layer = network.get_submodule(name)
    hessians = layer_hessians(network, [name], data)[name]
    mask = layer.weight_mask.flatten(1).numpy() != 0
    weight = (layer.weight * layer.weight_mask).detach().flatten(1).numpy()
    scores = saliencies(layer, hessians).flatten(1).numpy()
    rows_per_group = len(weight) // len(hessians)
    best: tuple[float, np.ndarray, int] = (np.inf, np.zeros(0), 0)
    for row in range(len(weight)):
        w = weight[row] if layer.bias is None else np.append(weight[row], layer.bias[row].item())
        gone = list(np.flatnonzero(~mask[row]))
        for q in range(weight.shape[1]):
            if q in gone:
                assert scores[row, q] == 0
                continue
            repaired, error = constrained_minimum(hessians[row // rows_per_group].numpy(), w, [*gone, q])
            np.testing.assert_allclose(scores[row, q], error, rtol=1e-8, atol=1e-15)
            best = min(best, (error, repaired, row), key=lambda found: found[0])
    before = [parameter.clone() for parameter in layer.parameters()]
    pruned = prune_layer(layer, hessians, int((~mask).sum()) + 1)
    error, repaired, row = best
    np.testing.assert_allclose(pruned.error, error, rtol=1e-8)
    got = pruned.weight.flatten(1)[row].numpy()
    if pruned.bias is not None:
        got = np.append(got, pruned.bias[row].item())
    np.testing.assert_allclose(got, repaired, rtol=1e-8, atol=1e-12)
    others = [i for i in range(len(weight)) if i != row]
    np.testing.assert_allclose(pruned.weight.flatten(1)[others].numpy(), weight[others], rtol=1e-12, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), before, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_many_removals_are_greedy_and_end_at_the_best_repair(seed: int) -> None:
    torch.manual_seed(seed)
    layer = QuantLinear(nn.Linear(8, 1), WEIGHT, WEIGHT).double()
    network, data = nn.Sequential(layer), events((8,), 40)
    mixing = torch.randn(8, 8, dtype=torch.float64)
    data.batches.features.copy_(data.batches.features @ mixing)
    hessian = layer_hessians(network, ["0"], data)["0"]
    pruned = prune_layer(layer, hessian, 5)
    w = np.append(layer.weight[0].detach().numpy(), layer.bias.item())
    gone = list(np.flatnonzero(pruned.mask[0].numpy() == 0))
    assert len(gone) == 5 and not pruned.weight[0, gone].any()
    repaired, error = constrained_minimum(hessian[0].numpy(), w, gone)
    np.testing.assert_allclose(np.append(pruned.weight[0].numpy(), pruned.bias.item()), repaired, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(pruned.error, error, rtol=1e-8)
    greedy: list[int] = []
    for _ in range(5):
        left = [q for q in range(8) if q not in greedy]
        greedy.append(min(left, key=lambda q: constrained_minimum(hessian[0].numpy(), w, [*greedy, q])[1]))
    assert sorted(greedy) == gone
    # no mask of that many zeros is better than the best, and greedy is not far from it
    masks = itertools.combinations(range(8), 5)
    best = min(constrained_minimum(hessian[0].numpy(), w, list(mask))[1] for mask in masks)
    assert best * (1 - 1e-9) <= error < 3 * best
    pruned.apply(layer)
    assert int((layer.weight_mask == 0).sum()) == 5 and torch.equal(layer.bias.detach(), pruned.bias)


def test_a_weight_of_a_doubled_input_is_taken_over_by_its_twin() -> None:
    """Two identical inputs: XX^T is singular; the sum of both weights moves to one of them, at almost no error."""
    layer = QuantLinear(nn.Linear(3, 1), WEIGHT, WEIGHT).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.7, 0.8, 1.0]]))
    data = events((3,), 200)
    data.batches.features[:, 1] = data.batches.features[:, 0]
    hessian = layer_hessians(nn.Sequential(layer), ["0"], data, damping=1e-9)["0"]
    pruned = prune_layer(layer, hessian, 1)
    np.testing.assert_allclose(pruned.weight[0].numpy(), [0.0, 1.5, 1.0], atol=1e-6)
    assert pruned.error < 1e-6


@pytest.mark.parametrize("block", [None, 8, 50])
def test_a_block_of_all_inputs_is_exact(block: int | None) -> None:
    network, data = mixed_network(), events((2, 8, 8), 60)
    hessian = layer_hessians(network, ["second"], data)["second"]  # grouped, rows of eight weights, no bias
    hessians = {"second": hessian, "first": layer_hessians(network, ["first"], data)["first"]}
    for name, exact in hessians.items():
        layer = network.get_submodule(name)
        width = max(block or 0, layer.weight[0].numel())
        assert torch.equal(saliencies(layer, exact, width), saliencies(layer, exact))
        one, other = prune_layer(layer, exact, 20), prune_layer(layer, exact, 20, block=width)
        assert torch.equal(one.mask, other.mask) and torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("block", [1, 3, 4, 7])
def test_saliencies_in_blocks_are_bounds_and_repairs_stay_exact(block: int) -> None:
    torch.manual_seed(7)
    layer = QuantLinear(nn.Linear(10, 3), WEIGHT, WEIGHT).double()
    layer.weight_mask[1, 2:4] = 0
    data = events((10,), 80)
    data.batches.features.copy_(data.batches.features @ torch.randn(10, 10, dtype=torch.float64))
    hessian = layer_hessians(nn.Sequential(layer), ["0"], data)["0"]
    exact, bound = saliencies(layer, hessian), saliencies(layer, hessian, block)
    assert bool((bound >= exact * (1 - 1e-12)).all()) and float((bound / exact.clamp_min(1e-12)).max()) > 1.2
    # by Lagrange's equations of the block and the bias alone
    w = rows_of(layer).numpy()
    for row, q in ((0, 0), (1, 8), (2, 9)):
        inside = [i for i in range(10) if i // block == q // block] + [10]
        part = hessian[0][inside][:, inside].numpy()
        gone = [k for k, i in enumerate(inside) if i < 10 and (i == q or not layer.weight_mask[row, i])]
        np.testing.assert_allclose(bound[row, q], constrained_minimum(part, w[row, inside], gone)[1], rtol=1e-9)
    pruned = prune_layer(layer, hessian, 18, block=block)
    assert int((pruned.mask == 0).sum()) == 18 and not pruned.mask[1, 2:4].any()
    for row in range(3):
        gone = list(np.flatnonzero(pruned.mask[row].numpy() == 0))
        repaired, _ = constrained_minimum(hessian[0].numpy(), w[row], gone)
        got = np.append(pruned.weight[row].numpy(), pruned.bias[row].item())
        np.testing.assert_allclose(got, repaired, rtol=1e-8, atol=1e-12)


def test_blocks_of_uncorrelated_inputs_are_exact() -> None:
    layer = QuantLinear(nn.Linear(8, 4, bias=False), WEIGHT, WEIGHT).double()
    hessian = torch.zeros(1, 8, 8, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for inside in (slice(0, 3), slice(3, 6), slice(6, 8)):  # the last block is smaller
        x = torch.randn(20, inside.stop - inside.start, generator=generator, dtype=torch.float64)
        hessian[0, inside, inside] = x.T @ x
    torch.testing.assert_close(saliencies(layer, hessian, 3), saliencies(layer, hessian), rtol=1e-12, atol=0)
    exact, blocks = prune_layer(layer, hessian, 22), prune_layer(layer, hessian, 22, block=3)
    assert torch.equal(exact.mask, blocks.mask)
    torch.testing.assert_close(blocks.weight, exact.weight, rtol=1e-12, atol=1e-14)


def test_a_layer_too_wide_for_whole_rows_falls_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    layer = QuantLinear(nn.Linear(12, 4), WEIGHT, WEIGHT).double()
    data = events((12,), 60)
    hessian = layer_hessians(nn.Sequential(layer), ["0"], data)["0"]
    expected = prune_layer(layer, hessian, 30, block=5)
    monkeypatch.setattr("trigger_prune.importance.obs_blocks._INVERSE_VALUES", 4 * 12 * 5)
    found = prune_layer(layer, hessian, 30)
    assert torch.equal(found.mask, expected.mask) and torch.equal(found.weight, expected.weight)
    assert not torch.equal(expected.mask, prune_layer(layer, hessian, 30, block=1).mask)
    with pytest.raises(ModelError, match="too large for blocks of 12 inputs"):
        monkeypatch.setattr("trigger_prune.importance.obs_blocks._INVERSE_VALUES", 12 * 5)
        prune_layer(layer, hessian, 30, block=12)
    with pytest.raises(ConfigError, match="0 inputs per block"):
        saliencies(layer, hessian, 0)


@pytest.mark.parametrize("seed", range(8))
def test_values_stay_in_the_range_of_the_types_and_near_the_best_there(seed: int) -> None:
    """Against scipy's bounded least squares over the kept weights."""
    torch.manual_seed(seed)
    narrow = FixedPoint(6, 0, overflow="AP_SAT")
    layer = QuantLinear(nn.Linear(8, 2), narrow, FixedPoint(8, 0, overflow="AP_SAT")).double()
    with torch.no_grad():
        layer.weight.uniform_(-0.5, 0.5)
    data = events((8,), 60)
    data.batches.features.copy_(data.batches.features @ torch.randn(8, 8, dtype=torch.float64) + 1)
    hessian = layer_hessians(nn.Sequential(layer), ["0"], data)["0"]
    pruned = prune_layer(layer, hessian, 10, within_range=True)
    free = prune_layer(layer, hessian, 10)
    assert torch.equal(pruned.mask, free.mask)
    values = torch.cat([pruned.weight, pruned.bias[:, None]], dim=1).numpy()
    low, high = np.full(9, narrow.min_value), np.full(9, narrow.max_value)
    low[8], high[8] = layer.bias_type.min_value, layer.bias_type.max_value
    assert (values >= low).all() and (values <= high).all()
    root = np.linalg.cholesky(hessian[0].numpy()).T
    best = 0.0
    for row, w in enumerate(rows_of(layer).numpy()):
        kept = np.append(pruned.mask[row].numpy() != 0, True)
        found = lsq_linear(root[:, kept], root @ w, bounds=(low[kept], high[kept]), tol=1e-14)
        best += found.cost
    assert best * (1 - 1e-6) <= pruned.error <= 1.05 * best + 1e-9
    if seed in (0, 1):  # something was out of range, so the limits were felt
        assert float(free.weight.abs().max()) > 0.5 or float(free.bias.abs().max()) > 0.5
    else:
        assert pruned.error >= free.error * (1 - 1e-12)


def test_batch_size_and_bad_input() -> None:
    network, data = mixed_network(), events((2, 8, 8), 70)
    whole = layer_hessians(network, ["first"], data)["first"]
    parts = layer_hessians(network, ["first"], type(data)(data.batches, data.task, 7))["first"]
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-15)
    with pytest.raises(ConfigError, match="damping 0"):
        layer_hessians(network, ["first"], data, damping=0)
    with pytest.raises(ModelError, match="of which"):
        prune_layer(network.first, whole, 73)
    with pytest.raises(ModelError, match="of which"):
        prune_layer(network.first, whole, 0)
    data.batches.features.zero_()
    network = nn.Sequential(QuantLinear(nn.Linear(5, 2, bias=False), WEIGHT, WEIGHT)).double()
    data = events((5,), 20)
    data.batches.features.zero_()
    with pytest.raises(ModelError, match="mean square of its inputs is 0"):
        layer_hessians(network, ["0"], data)
