"""The whole refinement: what it promises of cost, loss, masks, budgets, bits and repeatability."""

from __future__ import annotations

import copy
import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_networks import INPUT, trained

from trigger_prune.config.refine_section import RefineConfig
from trigger_prune.cost.csd import csd_count
from trigger_prune.errors import BudgetError, ConfigError, ModelError
from trigger_prune.prune.refine import RefineSettings, alkaid_cost, refine_network
from trigger_prune.prune.refine.codes import codes_of, write_codes
from trigger_prune.prune.refine.descent import descend
from trigger_prune.prune.refine.digit_caps import digit_caps
from trigger_prune.prune.refine.incremental import IncrementalLoss
from trigger_prune.prune.refine.pricing import Pricing
from trigger_prune.prune.refine.proposals import ProposalRules
from trigger_prune.prune.refine.saving import save_cost
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.digit_cap import DigitCap
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure.masks import zero_masked
from trigger_prune.synthesis.rtl.trace import check_trace, predict, trace_network
from trigger_prune.train.evaluate import evaluate
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.objective import Objective

ACCURACY = Objective("accuracy")
QUICK = RefineSettings(saving_per_round=0.1, rounds=6, fine_tune_epochs=0, largest_merit_loss=0.02)


def refined(kind="mlp", settings=QUICK, **more):
    network, train, validation = trained(kind)
    start = copy.deepcopy(network)
    return start, refine_network(network, train, validation, settings, objective=ACCURACY, **more), train, validation


@pytest.mark.parametrize("kind", ["mlp", "conv1d", "residual"])
def test_cost_falls_bits_agree_masked_weights_stay_zero(kind):
    start, result, train, validation = refined(kind)
    network = result.network
    before = float(trace_network(freeze(start), INPUT, input_shape_of(start)).cost)
    comb = trace_network(freeze(network), INPUT, input_shape_of(network))
    assert result.chosen.cost == comb.cost < 0.85 * before
    assert result.points[0].cost == before
    lost = evaluate(start, validation, "classify").accuracy - evaluate(network, validation, "classify").accuracy
    assert lost <= QUICK.largest_merit_loss
    check_trace(comb, freeze(network), INPUT, input_shape_of(network))
    with torch.no_grad():
        np.testing.assert_array_equal(predict(comb, train.features.numpy()), network(train.features).double().numpy())
    for name, layer in weight_layers(network).items():
        masked = weight_layers(start)[name].weight_mask == 0
        assert (layer.weight[masked] == 0).all()
        assert ((layer.weight_mask == 0) == (layer.weight == 0)).all()
        assert torch.equal(layer.weight, layer.quantized_weight())
        assert torch.equal(layer.bias, layer.quantized_bias())


def test_points_are_what_they_say_and_can_be_restored():
    _, result, train, validation = refined()
    front = result.front
    assert len(front) >= 3
    assert [p.cost for p in front] == sorted(p.cost for p in front)
    assert all(a.validation_merit < b.validation_merit for a, b in itertools.pairwise(front))
    point = front[0]
    write_codes(result.network, point.codes)
    found = evaluate(result.network, validation, "classify", ACCURACY)
    assert (found.loss, found.merit) == (point.validation_loss, point.validation_merit)
    assert evaluate(result.network, train, "classify").loss == pytest.approx(point.train_loss, abs=1e-6)
    assert alkaid_cost(result.network).total == point.cost
    moved = sum(step.cost for step in result.steps[: point.steps])
    assert moved < 0


def test_the_steps_lead_from_the_first_codes_to_the_points():
    start, result, _, _ = refined()
    codes = codes_of(describe_network(start))
    at = {point.steps: point for point in result.points}
    checked = 0
    for number, step in enumerate(result.steps, 1):
        own = codes[step.layer]
        for position, before, after in step.moved:
            row = own.bias if position == own.weight.shape[1] else own.weight[step.row]
            place = step.row if position == own.weight.shape[1] else position
            assert row[place] == before
            row[place] = after
        if number in at:
            for name, wanted in at[number].codes.items():
                np.testing.assert_array_equal(codes[name].weight, wanted.weight)
                np.testing.assert_array_equal(codes[name].bias, wanted.bias)
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize("epochs", [0, 1])
def test_same_seed_same_bits_and_validation_events_only_choose(epochs):
    settings = RefineSettings(saving_per_round=0.1, rounds=3, fine_tune_epochs=epochs, largest_merit_loss=1.0)
    _, first, train, _validation = refined(settings=settings)
    _, second, _, _ = refined(settings=settings)
    assert first.steps == second.steps
    assert [p.cost for p in first.points] == [p.cost for p in second.points]
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
    if not epochs:
        network, _, _ = trained("mlp")
        other = refine_network(network, train, train, settings, objective=ACCURACY)
        assert other.steps == first.steps


def test_a_budget_is_kept_and_one_that_cannot_be_is_refused():
    _, free, _, _ = refined()
    limit = free.points[3].cost
    _, result, _, _ = refined(settings=RefineSettings(0.1, rounds=8, fine_tune_epochs=0, max_cost=limit))
    assert alkaid_cost(result.network).total <= limit
    assert all(p.validation_merit <= result.chosen.validation_merit for p in result.points if p.cost <= limit)
    with pytest.raises(BudgetError, match=r"refine.max_cost is 5\b"):
        refined(settings=RefineSettings(0.1, rounds=2, fine_tune_epochs=0, max_cost=5))


def test_fine_tuning_under_caps_repairs_without_growing_digits():
    network, train, validation = trained("mlp")
    codes = codes_of(describe_network(network))
    for own in codes.values():  # every weight down to a lone power of two, every bias to a multiple of eight
        own.weight[:] = np.where(
            own.weight == 0, 0, np.sign(own.weight) << np.log2(np.maximum(abs(own.weight), 1)).astype(int)
        )
        own.bias[:] = own.bias // 8 * 8
    write_codes(network, codes)
    before = evaluate(network, train, "classify").loss
    forward = type(weight_layers(network)["0"]).quantized_weight
    with digit_caps(network, codes):
        inside = evaluate(network, train, "classify").loss
        settings = FitSettings("test", 6, 128, 5e-3, 1)
        fit(network, train, validation, settings, on_after_step=lambda optimizer: zero_masked(network, optimizer))
    assert inside == before
    assert evaluate(network, train, "classify").loss < before - 0.02
    after = codes_of(describe_network(network))
    changed = 0
    for name, own in codes.items():
        assert (csd_count(after[name].weight) <= csd_count(own.weight)).all()
        lowest = np.where(own.bias != 0, own.bias & -own.bias, 1)
        assert (after[name].bias % lowest == 0).all()
        changed += int((after[name].weight != own.weight).sum())
        layer = weight_layers(network)[name]
        assert layer.quantized_weight.__func__ is forward
        assert torch.equal(layer.weight, layer.quantized_weight())
    assert changed > 5


def test_a_cap_projects_onto_the_nearest_value_of_few_digits():
    fixed = INPUT  # 8 bits
    grid = np.arange(fixed.min_code, fixed.max_code + 1)
    values = np.random.default_rng(1).uniform(-130, 130, size=(4, 200))
    digits = np.repeat(np.arange(4)[:, None], 200, axis=1)
    found = DigitCap(digits, fixed)(torch.from_numpy(values * fixed.lsb)).numpy() / fixed.lsb
    for cap in range(4):
        allowed = grid[csd_count(grid) <= cap]
        distance = np.abs(values[cap][:, None] - allowed).min(axis=1)
        np.testing.assert_allclose(np.abs(found[cap] - values[cap]), distance, atol=1e-6)
    weight = torch.tensor([[0.3, 0.9]], requires_grad=True)
    (DigitCap(np.array([[1, 1]]), fixed)(weight) * torch.tensor([2.0, 3.0])).sum().backward()
    assert weight.grad.tolist() == [[2.0, 3.0]]


def test_descent_lowers_loss_plus_price_times_cost_step_by_step():
    network, train, _ = trained("mlp")
    state = IncrementalLoss(network, train, "classify")
    free = {name: layer.weight_mask.numpy() != 0 for name, layer in weight_layers(network).items()}
    pricing = Pricing(state, free)
    pricing.calibrate(alkaid_cost(network).layers)
    price = 3e-4
    loss, cost = state.loss, sum(pricing.layer_costs().values())
    steps = descend(pricing, price, ProposalRules(), passes=2, events=800, seed=1)
    assert len(steps) > 10
    assert all(step.loss + price * step.cost < 0 for step in steps)
    assert state.loss == pytest.approx(loss + sum(step.loss for step in steps), abs=1e-9)
    assert state.loss + price * sum(pricing.layer_costs().values()) < loss + price * cost
    measured = alkaid_cost(network).total
    write_codes(network, state.codes)
    assert alkaid_cost(network).total < measured
    assert all((own.weight[~free[name]] == 0).all() for name, own in state.codes.items())


def test_descent_at_the_end_never_makes_the_choice_worse():
    settings = RefineSettings(0.1, rounds=4, fine_tune_epochs=0, largest_merit_loss=0.02, descent_passes=1)
    _, result, _, _ = refined(settings=settings)
    least = result.points[0].validation_merit - settings.largest_merit_loss
    assert result.chosen.cost == min(p.cost for p in result.points if p.validation_merit >= least)


def test_bad_settings_and_empty_networks_are_named():
    for wrong in ({"saving_per_round": 1.0}, {"rounds": 0}, {"max_cost": 0.0}, {"fine_tune_epochs": -1}):
        with pytest.raises(ConfigError, match=f"refine.{next(iter(wrong))}"):
            RefineSettings(**wrong)
    network, train, validation = trained("mlp", epochs=1, n=200)
    for layer in weight_layers(network).values():
        layer.weight_mask.zero_()
    with pytest.raises(ModelError, match="no weight left"):
        refine_network(network, train, validation, QUICK)


def test_every_key_of_the_section_is_a_setting_with_the_same_default():
    section = RefineConfig()
    keys = set(RefineConfig.model_fields) - {"enabled", "headroom"}
    assert keys < set(inspect.signature(RefineSettings).parameters)
    assert all(getattr(section, key) == getattr(RefineSettings(), key) for key in keys)
    assert not section.enabled and section.headroom == 1


@pytest.mark.parametrize("undone", [True, False])
def test_the_price_rises_where_fine_tuning_undoes_the_saving(monkeypatch, undone):
    """Cheap moves of which nothing lasts would otherwise be taken again in every round, without end."""
    network, train, validation = trained("mlp")
    prices = []

    def save(pricing, wanted, price, *rest):
        prices.append(price)
        return save_cost(pricing, wanted, price, *rest)

    def undo(self, _number):
        self._place(self.points[0].codes)

    monkeypatch.setattr("trigger_prune.prune.refine.refine.save_cost", save)
    if undone:
        monkeypatch.setattr("trigger_prune.prune.refine.refine._Refinement._settle", undo)
    settings = replace(QUICK, rounds=4, saving_per_round=0.03)
    refine_network(network, train, validation, settings, objective=ACCURACY)
    assert (prices[-1] > prices[0]) == undone
