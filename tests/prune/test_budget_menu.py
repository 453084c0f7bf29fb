"""Menus of the solver: what they promise is what the network costs once the options are applied."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import fx, nn

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import CriterionData, criterion_by_name
from trigger_prune.importance.group_scores import score_groups
from trigger_prune.prune.budget.check import plan_cost
from trigger_prune.prune.budget.estimators import HlsEstimator, RtlEstimator, chain_cost
from trigger_prune.prune.budget.menu import MenuSettings, apply_options, build_problem, live_spec
from trigger_prune.prune.budget.removal import removal_of
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.target import Target
from trigger_prune.train.evaluate import Batches

LATENCY = (("Latency", 1),)


def network(seed: int = 0) -> fx.GraphModule:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    return quantize_model(model, torch.randn(200, 8).mul(64).round().div(64), FixedPoint(10, 4), bits)


def data(seed: int = 1) -> CriterionData:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 8, generator=generator).mul(64).round().div(64)
    return CriterionData(Batches(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long(), torch.ones(200)))


def problem_of(net: fx.GraphModule, structure: str = "weight", layouts=LATENCY, scale=None, estimator=None):
    groups = structure_by_name(structure).groups(net)
    removal = removal_of(net, groups, "obd_fisher", data())
    estimator = estimator or RtlEstimator(AnalyticCost())
    return groups, build_problem(net, groups, removal, estimator, Target(), MenuSettings(layouts, scale or {}))


@pytest.mark.parametrize("structure", ["weight", "neuron"])
def test_a_plan_costs_what_the_network_costs_once_it_is_applied(structure: str) -> None:
    """The solver's sum (layers and edges) against the estimator on the layers of the pruned network."""
    generator = np.random.default_rng(3)
    for trial in range(6):
        net = network(trial)
        groups, problem = problem_of(net, structure)
        choice = {menu.name: int(generator.integers(len(menu.options))) for menu in problem.menus}
        promised = plan_cost(problem, choice)
        apply_options(net, groups, {menu.name: menu.options[choice[menu.name]] for menu in problem.menus})
        layers = describe_network(net).layers
        if structure == "neuron":
            layers = without_columns_of_dead_rows(layers)
        built = chain_cost(RtlEstimator(AnalyticCost()), layers, Target().layout, Target())
        assert promised.lut == pytest.approx(built.lut)
        assert promised.ff == pytest.approx(built.ff)
        assert promised.latency_cycles + 1 == pytest.approx(built.latency_cycles)


def without_columns_of_dead_rows(layers):
    result = [layers[0]]
    for before, after in pairwise(layers):
        weight = after.weight.copy()
        weight[:, ~(before.weight != 0).any(axis=1)] = 0
        result.append(replace(after, weight=weight))
    return tuple(result)


def test_options_remove_the_least_loss_per_logic_first() -> None:
    net = network()
    groups, problem = problem_of(net)
    removal = removal_of(net, groups, "obd_fisher", data())
    menu = problem.menus[0]
    start = int(groups.ids[menu.name].min())
    numbers = groups.ids[menu.name].flatten().numpy()
    worth = (removal.loss / removal.price).numpy()
    for option in menu.options:
        gone = set(option.payload["removed"].tolist())
        kept = [number for number in numbers.tolist() if number not in gone]
        assert max((worth[number] for number in gone), default=0.0) <= min(worth[number] for number in kept)
        assert option.loss_increase == pytest.approx(sum(float(removal.loss[number]) for number in gone))
        assert option.sparsity == pytest.approx(len(gone) / len(numbers))
    assert start == 0 and len(menu.options[0].payload["removed"]) == 0
    assert 1.0 - menu.options[-1].sparsity == pytest.approx(0.0125, abs=0.005)


def test_what_is_gone_stays_gone_and_menus_start_there() -> None:
    net = network()
    first = next(iter(prunable_layers(net).values()))
    first.weight_mask.flatten()[::2] = 0
    _, problem = problem_of(net)
    assert problem.menus[0].options[0].sparsity == pytest.approx(0.5)
    assert all(option.sparsity >= 0.5 for option in problem.menus[0].options)


def test_a_criterion_without_scale_ranks_within_a_layer_only() -> None:
    net = network()
    groups = structure_by_name("weight").groups(net)
    removal = removal_of(net, groups, "magnitude_l1", data())
    fisher = score_groups(criterion_by_name("obd_fisher", with_data=True), net, groups, data())
    *others, last = prunable_layers(net)
    best = groups.ids[last][torch.arange(3), prunable_layers(net)[last].weight.abs().argmax(dim=1)]
    assert bool((removal.loss[best] >= removal.loss.sum() / 4).all()), "no class may be lost"
    for name in others:
        layer = prunable_layers(net)[name]
        numbers = groups.ids[name].flatten()
        assert float(removal.loss[numbers].sum()) == pytest.approx(float(fisher[numbers].sum()))
        squares = layer.weight.detach().double().square().flatten()
        ratio = removal.loss[numbers] / squares
        assert float(ratio.std() / ratio.mean()) < 1e-6


def test_neurons_without_effect_cost_nothing() -> None:
    net = network()
    first, second, _ = prunable_layers(net).values()
    first.weight_mask[:5] = 0  # constants
    second.weight_mask[:, 5:8] = 0  # nobody reads these
    spec = live_spec(net)
    assert not spec.layers[0].weight[:8].any() and not spec.layers[1].weight[:, :8].any()
    assert np.array_equal(spec.layers[0].weight[8:], describe_network(net).layers[0].weight[8:])


def test_scale_multiplies_what_a_report_has_corrected() -> None:
    net = network()
    _, plain = problem_of(net, "neuron")
    _, scaled = problem_of(net, "neuron", scale={"lut": 1.3})
    for before, after in zip(plain.menus, scaled.menus, strict=True):
        for old, new in zip(before.options, after.options, strict=True):
            assert new.cost.lut == pytest.approx(1.3 * old.cost.lut) and new.cost.ff == old.cost.ff
    assert np.allclose(scaled.edges[0].cost["lut"], 1.3 * plain.edges[0].cost["lut"])


def test_layouts_that_hls4ml_would_replace_are_left_out() -> None:
    net = network()
    estimator = HlsEstimator(HlsAnalyticCost())
    _, problem = problem_of(net, layouts=(("Resource", 1), ("Resource", 4), ("Resource", 7)), estimator=estimator)
    for menu in problem.menus:
        factors = {option.reuse_factor for option in menu.options}
        assert 7 not in factors and 4 in factors
    with pytest.raises(ConfigError, match="7"):
        problem_of(net, layouts=(("Resource", 7),), estimator=estimator)
