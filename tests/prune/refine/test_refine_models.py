"""The quadratic model against automatic differentiation, proposals against exhaustive search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from refine_networks import trained
from torch.func import functional_call

from trigger_prune.prune.refine.codes import codes_of
from trigger_prune.prune.refine.curvature import RowModels, row_models
from trigger_prune.prune.refine.incremental import IncrementalLoss
from trigger_prune.prune.refine.proposals import ProposalRules, Singles, row_proposals, single_moves
from trigger_prune.prune.refine.row_cost import layer_rows
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.train.evaluate import Batches


def brute_force(network, events, layer, task):
    """Gradient and Gauss-Newton matrix of all weights and biases of a layer, from the whole Jacobian."""
    frozen = freeze(network, double=True)
    module = frozen.get_submodule(layer)
    parameters = {f"{layer}.weight": module.weight.clone(), f"{layer}.bias": module.bias.clone()}
    x = events.features.double()

    def outputs(weight, bias):
        return functional_call(frozen, {f"{layer}.weight": weight, f"{layer}.bias": bias}, (x,))

    weight, bias = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
    jacobians = torch.autograd.functional.jacobian(outputs, (weight, bias))
    rows = len(bias)
    by_weight = jacobians[0].reshape(len(x), -1, rows, weight[0].numel())
    j = torch.cat([by_weight, jacobians[1].reshape(len(x), -1, rows, 1)], dim=3)  # events, outputs, rows, inputs
    share = events.weights.double() / events.weights.double().sum()
    z = outputs(weight, bias)
    if task == "classify":
        p = z.softmax(1)
        slope = p - torch.nn.functional.one_hot(events.targets, p.shape[1])
        second = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    else:
        slope = 2 / z.shape[1] * (z - events.targets)
        second = 2 / z.shape[1] * torch.eye(z.shape[1]).double().expand(len(x), -1, -1)
    gradient = torch.einsum("n,nc,ncri->ri", share, slope, j)
    hessian = torch.einsum("n,ncri,ncd,ndrk->rik", share, j, second, j)
    return gradient.numpy(), hessian.numpy()


@pytest.mark.parametrize(
    ("kind", "task"), [("mlp", "classify"), ("conv1d", "classify"), ("conv2d", "classify"), ("mlp", "distil")]
)
def test_gradient_and_hessian_are_those_of_the_whole_jacobian(kind, task):
    network, train, _ = trained(kind, epochs=2, n=200)
    if task == "distil":
        targets = torch.randn(len(train), 3, generator=torch.Generator().manual_seed(1)).double()
        train = Batches(train.features, targets, train.weights)
    state = IncrementalLoss(network, train, task)
    models = row_models(state, list(state.codes), torch.arange(len(train)), 0)
    for name in state.codes:
        gradient, hessian = brute_force(network, train, name, task)
        unit = state.units(name)
        assert_close(models[name].gradient / unit, gradient)
        assert_close(models[name].hessian / (unit[:, None] * unit), hessian)


def assert_close(found, wanted):
    largest = np.abs(wanted).max()
    assert largest > 1e-4
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * largest)


def toy_model(seed=0, n=4):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    return RowModels(rng.normal(size=(1, n)) * 0.1, (root @ root.T)[None] * 0.02)


def toy_singles(seed=0, n=4):
    rng = np.random.default_rng(seed)
    moves = [(k, d) for k in range(n) for d in (-2, -1, 1, 2)]
    position, distance = np.array(moves).T
    return Singles(np.zeros(len(moves), dtype=np.int64), position, distance, rng.normal(size=len(moves)) * 3)


@pytest.mark.parametrize("use_gradient", [True, False])
def test_proposals_have_the_models_figures_and_find_the_best_pair(use_gradient):
    price = 0.02
    for seed in range(30):
        model, singles = toy_model(seed), toy_singles(seed)
        codes = SimpleCodes()
        rules = ProposalRules(chain=2, per_row=200, use_gradient=use_gradient)
        found = row_proposals("layer", codes, 0, singles, model, price, rules)

        def value(steps, model=model, singles=singles):
            d, cost = np.zeros(4), 0.0
            for k, code in steps:
                d[k] = code
                cost += singles.cost[(singles.position == k) & (singles.distance == code)][0]
            return d @ model.gradient[0] * use_gradient + 0.5 * d @ model.hessian[0] @ d, cost

        for proposal in found:
            loss, cost = value(proposal.steps)
            assert proposal.loss == pytest.approx(loss, abs=1e-12)
            assert proposal.cost == pytest.approx(cost, abs=1e-12)
            assert loss + price * cost < 0
        worth = [p.loss + price * p.cost for p in found]
        assert worth == sorted(worth)
        pairs = [((k, d),) for k, d in itertools.product(range(4), (-2, -1, 1, 2))]
        pairs += [(a[0], b[0]) for a, b in itertools.combinations(pairs, 2) if a[0][0] != b[0][0]]
        best = min(value(pair)[0] + price * value(pair)[1] for pair in pairs)
        # every first move gets its best second one, so no pair is better
        assert (worth[0] if worth else 0.0) == pytest.approx(min(best, 0.0), abs=1e-12)


class SimpleCodes:
    weight = np.zeros((1, 3), dtype=np.int64)
    bias = np.zeros(1, dtype=np.int64)


def test_only_free_weights_of_live_outputs_are_moved():
    network, train, _ = trained("mlp", epochs=1, n=300)
    spec = describe_network(network)
    state = IncrementalLoss(network, train, "classify")
    name = spec.layers[1].name
    rows = layer_rows(spec)[name]
    rows.alive[2] = False
    model = row_models(state, [name], torch.arange(200), 0)[name]
    free = np.zeros_like(codes_of(spec)[name].weight, dtype=bool)
    free[:, 4] = True
    singles = single_moves(rows, state.codes[name], free, model, np.zeros(free.shape[1]), ProposalRules())
    assert set(singles.position.tolist()) == {4, free.shape[1]}
    assert 2 not in singles.row
    assert {0, 1}.issubset(singles.row.tolist())
