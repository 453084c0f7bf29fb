"""The search against brute force, its predictions against built networks."""

from __future__ import annotations

import copy
import itertools

import conftest as toys
import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.errors import BudgetError, ConfigError
from trigger_prune.precision.candidates import judge_candidates
from trigger_prune.precision.menus import LayerCosts, build_problem, choice_cost, choice_of
from trigger_prune.precision.search import search_tolerance, search_within, uniform_points
from trigger_prune.precision.space import PrecisionSpace, RangeRule, Setting
from trigger_prune.prune.budget.check import plan_cost
from trigger_prune.prune.budget.estimators import RtlEstimator, chain_cost
from trigger_prune.prune.budget.plan import InfeasibleBudgetError
from trigger_prune.prune.budget.solve import solve
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import evaluate, predict


def _all_choices(space: PrecisionSpace):
    menus = [space.settings(unit) for unit in space.units]
    for combination in itertools.product(*menus):
        yield dict(zip([unit.name for unit in space.units], combination, strict=True))


def test_candidate_losses_are_those_of_built_networks(space: PrecisionSpace) -> None:
    data = toys.events(400)
    start = space.widest()
    table = judge_candidates(space, start, data, "classify")
    assert table.loss == pytest.approx(evaluate(space.build(start), data, "classify").loss, rel=1e-5)
    for row in table.rows[::3]:
        built = space.build({**start, row.unit: row.setting})
        # a consumer's bias moves to a finer or coarser grid in the built network: a rounding of at most its LSB
        assert row.loss == pytest.approx(evaluate(built, data, "classify").loss, abs=2e-3)
    same = [row for row in table.rows if row.setting == start[row.unit]]
    assert len(same) == 3
    assert all(row.increase == pytest.approx(0, abs=1e-6) for row in same)


def test_standard_error_of_a_change_is_that_of_paired_events(space: PrecisionSpace) -> None:
    data = toys.events(300)
    start = space.widest()
    row = next(r for r in judge_candidates(space, start, data, "classify").rows if r.setting == Setting(2, 2))
    base = torch.from_numpy(predict(space.build(start), data.features))
    other = torch.from_numpy(predict(space.build({**start, row.unit: row.setting}), data.features))
    loss = nn.functional.cross_entropy
    change = (loss(other, data.targets, reduction="none") - loss(base, data.targets, reduction="none")).numpy()
    weights = data.weights.double().numpy()
    mean = (weights * change).sum() / weights.sum()
    error = np.sqrt(np.square(weights * (change - mean)).sum()) / weights.sum()
    assert row.increase == pytest.approx(mean, abs=2e-3)
    assert row.error == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.75])
def test_solver_finds_the_best_of_all_combinations(space: PrecisionSpace, share: float) -> None:
    table = judge_candidates(space, space.widest(), toys.events(400), "classify")
    costs = LayerCosts(space, RtlEstimator(AnalyticCost()), Target())
    top = choice_cost(space, costs, space.widest()).lut
    limit = int(share * top)
    best, n_choices = np.inf, 0
    for choice in _all_choices(space):
        n_choices += 1
        if choice_cost(space, costs, choice).lut <= limit:
            best = min(best, sum(table.increase(name, setting) for name, setting in choice.items()))
    assert n_choices == 12 * 12 * 4
    plan = solve(build_problem(space, table, costs), Budget(lut=limit), relative_gap=1e-9)
    assert plan.loss_increase == pytest.approx(best, abs=1e-12)
    assert plan.cost.lut <= limit


def test_expected_cost_is_the_cost_of_the_built_network(mlp_model: nn.Module) -> None:
    # without a rule: one may widen a wire of a built network, which no menu can foresee
    space = toys.space_of(mlp_model, (2, 3, 4, 6), (2, 4, 6))
    costs = LayerCosts(space, RtlEstimator(AnalyticCost()), Target())
    table = judge_candidates(space, space.widest(), toys.events(50), "classify")
    problem = build_problem(space, table, costs)
    choices = list(_all_choices(space))
    generator = np.random.default_rng(4)
    whole, expected = [], []
    for k in generator.choice(len(choices), 25, replace=False):
        choice = choices[k]
        positions = {
            menu.name: next(i for i, o in enumerate(menu.options) if o.payload["setting"] == choice[menu.name])
            for menu in problem.menus
        }
        assert choice_of({m.name: m.options[positions[m.name]] for m in problem.menus}) == choice
        predicted = plan_cost(problem, positions)
        spec = describe_network(space.build(choice))
        layer_by_layer = chain_cost(RtlEstimator(AnalyticCost()), spec.layers, Target().layout, Target())
        # exact for layers on their own; a whole network lacks neurons that are dead at these bits
        assert predicted.lut == pytest.approx(layer_by_layer.lut, abs=1e-6)
        assert predicted.ff == pytest.approx(layer_by_layer.ff, abs=1e-6)
        assert predicted.latency_cycles + 1 == pytest.approx(layer_by_layer.latency_cycles)
        whole.append(AnalyticCost().estimate(spec, Target()).lut)
        expected.append(predicted.lut)
    assert np.median(np.array(whole) / np.array(expected)) == pytest.approx(1, abs=0.1)


def test_a_layer_behind_a_sum_costs_what_it_reads(residual_model: nn.Module) -> None:
    space = toys.space_of(residual_model, (3, 5), (3, 6))
    assert [(unit.layer, len(unit.sources)) for unit in space.units] == [
        ("first", 0),
        ("second", 1),
        (None, 0),
        ("head", 1),
    ]
    costs = LayerCosts(space, RtlEstimator(AnalyticCost()), Target())
    for choice in _all_choices(space):
        spec = describe_network(space.build(choice))
        for layer, unit in zip(spec.layers, [u for u in space.units if u.layer], strict=True):
            assert costs.input_type(unit, choice) == layer.input_type
            cost = RtlEstimator(AnalyticCost()).layer_cost(layer, Target().layout(layer.name), Target())
            assert costs.of(unit, choice[unit.name], choice).lut == cost.lut


def test_search_stays_within_the_budget_and_beats_equal_bits(space: PrecisionSpace) -> None:
    inputs = toys.inputs_of(space, step=0.2)
    uniform = uniform_points(inputs)
    for rival in uniform:
        if rival.cost.lut is None or len({s.weight_bits for s in rival.choice.values()}) > 1:
            continue
        if rival.uses("lut") < 300:
            continue
        found = search_within(inputs, Budget(lut=int(rival.uses("lut"))))
        assert found.chosen.uses("lut") <= rival.uses("lut")
        assert found.chosen.loss <= rival.loss + 0.02
    again = search_within(inputs, Budget(lut=int(uniform[4].uses("lut"))))
    twice = search_within(inputs, Budget(lut=int(uniform[4].uses("lut"))))
    assert [dict(p.choice) for p in again.points] == [dict(p.choice) for p in twice.points]
    assert evaluate(again.network, inputs.evaluated, "classify").loss == again.chosen.loss
    assert all(p.predicted_loss is not None for p in again.points[1:])


def test_a_scale_moves_the_limit_to_the_measured_cost(space: PrecisionSpace) -> None:
    inputs = toys.inputs_of(space, step=0.2)
    limit = int(0.5 * search_within(inputs, Budget(lut=10**6)).chosen.uses("lut"))
    found = search_within(inputs, Budget(lut=limit), scale={"lut": 1.25})
    assert found.chosen.uses("lut") <= limit / 1.25


def test_tolerance_gives_the_cheapest_network_of_the_walk_that_keeps_the_objective(space: PrecisionSpace) -> None:
    inputs = toys.inputs_of(space, step=0.15)
    reference = evaluate(space.structure, inputs.evaluated, "classify", inputs.objective).merit
    small, large = (search_tolerance(inputs, t, reference) for t in (0.01, 0.08))
    for found, tolerance in ((small, 0.01), (large, 0.08)):
        assert found.chosen.merit >= reference - tolerance
        kept = [p.uses("lut") for p in found.points if p.merit >= reference - tolerance]
        assert found.chosen.uses("lut") == min(kept)
    assert large.chosen.uses("lut") < small.chosen.uses("lut")
    with pytest.raises(BudgetError, match="already with the most bits"):
        search_tolerance(inputs, 0.0, 1.0)


def test_impossible_requests_are_named(space: PrecisionSpace, mlp_model: nn.Module) -> None:
    inputs = toys.inputs_of(space)
    with pytest.raises(InfeasibleBudgetError) as caught:
        search_within(inputs, Budget(lut=3))
    assert caught.value.binding == ("lut",)
    with pytest.raises(ConfigError, match="no budget"):
        search_within(inputs, Budget())
    with pytest.raises(ConfigError, match="no widths"):
        toys.space_of(mlp_model, (1, 4), (4,))
    with pytest.raises(ConfigError, match="no widths"):
        toys.space_of(mlp_model, (4,), ())


def test_the_rule_holds_for_the_built_network(mlp_model: nn.Module) -> None:
    from trigger_prune.quantize.ptq.observe import observe
    from trigger_prune.quantize.ptq.ranges import overflow_limit

    free = toys.space_of(mlp_model, (3,), (2,), rule=RangeRule(None))
    held = toys.space_of(mlp_model, (3,), (2,), rule=RangeRule(0.005, 0.95))
    worst = {}
    for name, one in (("free", free), ("held", held)):
        network = one.build(one.widest())
        wires = observe(network, one.features)
        worst[name] = max(
            overflow_limit(wire.extremes.overflows(network.get_submodule(key).fixed), 0.95).upper
            for key, wire in wires.items()
        )
    assert worst["held"] <= 0.005 < worst["free"]


def test_the_search_leaves_the_model_alone(mlp_model: nn.Module, space: PrecisionSpace) -> None:
    before = copy.deepcopy(mlp_model.state_dict())
    search_within(toys.inputs_of(space, step=0.4, rounds=1), Budget(lut=600))
    for name, value in mlp_model.state_dict().items():
        assert torch.equal(value, before[name])
