"""Gradient, Taylor and OBD against autograd by hand, brute force and closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from scored_networks import MIXED_LAYERS, WEIGHT, events, mixed_network, mlp_network, sequence_network, trained_network
from torch import Tensor, nn

from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import CriterionData, criterion_by_name
from trigger_prune.importance.derivatives import twin_of
from trigger_prune.importance.obd import ObdHessian, gauss_newton_diagonal, hutchinson_diagonal
from trigger_prune.quantize.layers import FixedQuantizer, QuantLinear
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.loss import event_losses


def saturating_network() -> nn.Sequential:
    """Many hidden values are clipped, where the gradient of training is zero; others wrap round, where it is one."""
    network = mlp_network()
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]))
    wrapping = FixedQuantizer(FixedPoint(7, 2, overflow="AP_WRAP"))
    clipping = FixedQuantizer(FixedPoint(6, 0, signed=False, rounding="AP_RND", overflow="AP_SAT"))
    return nn.Sequential(network[0], wrapping, nn.ReLU(), clipping, network[3])


CASES = [
    (saturating_network, (5,), ["0", "4"], "classify"),
    (mixed_network, (2, 8, 8), MIXED_LAYERS, "classify"),
    (sequence_network, (2, 4), ["0", "3"], "autoencoder"),
]


def single_gradients(network: nn.Module, layers: list[str], data: CriterionData) -> dict[str, Tensor]:
    """One backward pass of the network itself for each event: ``(events, *weight)``."""
    network.eval()
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for i in range(len(data.batches)):
        network.zero_grad()
        event = data.batches.take(slice(i, i + 1))
        event_losses(network(event.features), event.targets, data.task).sum().backward()
        for layer in layers:
            found[layer].append(network.get_submodule(layer).weight.grad.clone())
    return {layer: torch.stack(values) for layer, values in found.items()}


@pytest.mark.parametrize(("make", "shape", "layers", "task"), CASES)
def test_first_order_and_fisher_criteria_follow_a_loop_over_single_events(
    make: type[nn.Module], shape: tuple[int, ...], layers: list[str], task: str
) -> None:
    data = events(shape, 60, task)
    network = make()
    gradients = single_gradients(network, layers, data)
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    scores = {
        name: criterion_by_name(name, with_data=True).score(make(), layers, data)
        for name in ("gradient", "taylor", "taylor_fisher", "obd_fisher")
    }
    for layer in layers:
        g = gradients[layer].numpy()
        module = network.get_submodule(layer)
        w = (module.weight * module.weight_mask).detach().numpy()
        mean = lambda values: np.tensordot(share, values, axes=1)  # noqa: E731
        compare = lambda name, expected: np.testing.assert_allclose(  # noqa: E731
            scores[name][layer].numpy(),  # noqa: B023
            expected,
            rtol=1e-9,
            atol=1e-15,
        )
        compare("gradient", np.abs(w) * mean(np.abs(g)))
        compare("taylor", np.abs(w * mean(g)))
        compare("taylor_fisher", mean((g * w) ** 2))
        compare("obd_fisher", 0.5 * mean(g**2) * w**2)
        assert np.abs(g).max() > 1e-3


def test_obd_fisher_is_exactly_half_of_taylor_fisher() -> None:
    data = events((2, 8, 8), 60)
    half = criterion_by_name("obd_fisher", with_data=True).score(mixed_network(), MIXED_LAYERS, data)
    full = criterion_by_name("taylor_fisher", with_data=True).score(mixed_network(), MIXED_LAYERS, data)
    for layer in MIXED_LAYERS:
        torch.testing.assert_close(2 * half[layer], full[layer], rtol=1e-14, atol=0)


def test_weights_that_saturate_keep_their_gradient() -> None:
    """The straight-through gradient of training is zero there; the weight's importance is not."""
    layer = QuantLinear(nn.Linear(2, 1, bias=False), FixedPoint(4, 1, overflow="AP_SAT"), WEIGHT).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[5.0, 0.5]]))
    x, target = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[3.0]]).double()
    data = CriterionData(Batches(x, target, torch.ones(1)), "autoencoder")
    # output 0.875 + 2 * 0.5, gradient of (y - 3)^2 by w is 2 (y - 3) x
    score = criterion_by_name("taylor", with_data=True).score(nn.Sequential(layer), ["0"], data)["0"]
    np.testing.assert_allclose(score.numpy(), [[2 * 1.125 * 5.0, 2 * 1.125 * 2 * 0.5]])


def exact_hessian_diagonal(make: type[nn.Module], layer: str, data: CriterionData) -> np.ndarray:
    """From the whole Hessian, by double differentiation of the mean loss."""
    twin = twin_of(make(), [layer])
    batches, share = data.batches, data.batches.weights / data.batches.weights.sum()
    loss = lambda w: twin.mean_loss({layer: w}, batches, share, data.task)  # noqa: E731
    weight = twin.weights[layer]
    hessian = torch.autograd.functional.hessian(loss, weight).reshape(weight.numel(), weight.numel())
    return hessian.diagonal().reshape(weight.shape).numpy()


def one_logit() -> nn.Sequential:
    """A head of one output behind the three of the small net."""
    layers = mlp_network()
    torch.manual_seed(9)
    return nn.Sequential(*layers, QuantLinear(nn.Linear(3, 1), WEIGHT, WEIGHT)).double()


@pytest.mark.parametrize(
    ("make", "shape", "layers", "task"),
    [*CASES, (one_logit, (5,), ["0", "3", "4"], "binary")],
)
def test_the_gauss_newton_diagonal_is_the_hessians(
    make: type[nn.Module], shape: tuple[int, ...], layers: list[str], task: str
) -> None:
    data = events(shape, 40, task)
    scores = criterion_by_name("obd", with_data=True).score(make(), layers, data)
    network = make()
    for layer in layers:
        module = network.get_submodule(layer)
        w = (module.weight * module.weight_mask).detach().numpy()
        expected = 0.5 * exact_hessian_diagonal(make, layer, data) * w**2
        np.testing.assert_allclose(scores[layer].numpy(), expected, rtol=1e-8, atol=1e-14)
        assert expected.max() > 1e-6


def test_hutchinson_converges_to_the_exact_diagonal() -> None:
    data = events((5,), 80)
    twin = twin_of(mlp_network(), ["0", "3"])
    exact = gauss_newton_diagonal(twin, data)
    errors = []
    for probes in (16, 1024):
        estimate = hutchinson_diagonal(twin, data, probes, seed=3)
        errors.append(max(float((estimate[k] - exact[k]).abs().max() / exact[k].max()) for k in exact))
    assert errors[1] < 0.1 < errors[0]
    with pytest.raises(ConfigError, match="0 probes"):
        ObdHessian(probes=0)


def removal_losses(network: nn.Module, layers: list[str], data: CriterionData) -> np.ndarray:
    """Brute force: the change of the loss when each weight alone is masked."""
    before = evaluate(network, data.batches, data.task).loss
    changes = []
    for layer in layers:
        mask = network.get_submodule(layer).weight_mask.view(-1)
        for i in range(len(mask)):
            mask[i] = 0
            changes.append(evaluate(network, data.batches, data.task).loss - before)
            mask[i] = 1
    return np.array(changes)


@pytest.mark.parametrize("name", ["obd", "obd_hessian"])
def test_obd_is_the_exact_change_of_a_quadratic_at_its_minimum(name: str) -> None:
    """Linear regression with orthogonal inputs at the least-squares solution: no first order, no other orders."""
    generator = torch.Generator().manual_seed(8)
    x = torch.linalg.qr(torch.randn(64, 6, generator=generator, dtype=torch.float64)).Q * torch.tensor(
        [1.0, 3.0, 0.5, 8.0, 2.0, 5.0]
    )
    # steps of 2^-20: the weights are rounded far below the differences looked at
    fine = FixedPoint(30, 10)
    layer = QuantLinear(nn.Linear(6, 2, bias=False), fine, fine).double()
    y = torch.randn(64, 2, generator=generator, dtype=torch.float64) * 5
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    data = CriterionData(Batches(x, y, torch.ones(64)), "autoencoder")
    network = nn.Sequential(layer)
    score = criterion_by_name(name, with_data=True).score(network, ["0"], data)["0"].flatten().numpy()
    np.testing.assert_allclose(score, removal_losses(network, ["0"], data), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("name", "least"), [("obd", 0.9), ("obd_hessian", 0.9), ("obd_fisher", 0.8)])
def test_obd_ranks_as_brute_force_on_a_trained_net(name: str, least: float) -> None:
    network, data = trained_network()
    scores = criterion_by_name(name, with_data=True).score(network, ["0", "2"], data)
    joined = np.concatenate([values.flatten().numpy() for values in scores.values()])
    truth = removal_losses(network, ["0", "2"], data)
    correlation = spearmanr(joined, truth).statistic
    w = np.concatenate([network[i].weight.detach().flatten().numpy() for i in (0, 2)])
    # the inverted form found in textbooks, w^2 / (2 H): it must not pass
    inverted = w**4 / (4 * np.maximum(joined, 1e-300))
    assert correlation > least > spearmanr(inverted, truth).statistic
