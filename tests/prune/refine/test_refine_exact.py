"""Incremental losses and costs against computing everything afresh."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from refine_networks import MODELS, trained

from trigger_prune.cost.analytic import conversion_bits
from trigger_prune.cost.csd import csd_count
from trigger_prune.cost.dataflow import live_layers
from trigger_prune.errors import ModelError
from trigger_prune.prune.refine.codes import codes_of, with_codes, write_codes
from trigger_prune.prune.refine.incremental import IncrementalLoss, RowChange
from trigger_prune.prune.refine.moves import bias_candidates, weight_candidates
from trigger_prune.prune.refine.pricing import Pricing
from trigger_prune.prune.refine.row_cost import layer_rows
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.evaluate import Batches, evaluate


def random_changes(state, seed, n):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        layer = state.spec.layers[rng.integers(len(state.spec.layers))]
        own = state.codes[layer.name]
        row = int(rng.integers(len(own.weight)))
        weight, bias = own.weight[row].copy(), int(own.bias[row])
        kept = np.flatnonzero(weight)
        for place in rng.choice(kept, size=min(2, len(kept)), replace=False):
            weight[place] = rng.integers(layer.weight_type.min_code, layer.weight_type.max_code + 1)
        yield RowChange(layer.name, row, weight, bias + int(rng.integers(-40, 40)))


def fresh(network, codes):
    other = copy.deepcopy(network)
    write_codes(other, codes)
    return other


@pytest.mark.parametrize("kind", MODELS)
def test_a_trial_gives_the_loss_of_the_whole_network_and_accepting_keeps_everything(kind):
    network, train, _ = trained(kind, epochs=2, n=400)
    state = IncrementalLoss(network, train, "classify")
    assert state.loss == pytest.approx(evaluate(network, train, "classify").loss, abs=1e-6)
    moved = 0
    for number, change in enumerate(random_changes(state, 4, 24)):
        before = state.loss
        trial = state.trial(change)
        assert state.loss == before
        codes = {name: own.copy() for name, own in state.codes.items()}
        codes[change.layer].weight[change.row] = change.weight
        codes[change.layer].bias[change.row] = change.bias
        again = IncrementalLoss(fresh(network, codes), train, "classify")
        assert trial.loss == pytest.approx(again.loss, rel=0, abs=1e-12)
        if number % 2:
            state.accept(trial)
            moved += trial.loss != before
            assert state.loss == trial.loss
            for node in state.values:
                twin = next(other for other in again.values if other.name == node.name)
                torch.testing.assert_close(state.values[node], again.values[twin], rtol=0, atol=0)
    assert moved > 3


def test_assigning_codes_is_the_same_as_starting_with_them():
    network, train, _ = trained("mlp", epochs=2, n=400)
    state = IncrementalLoss(network, train, "classify")
    codes = {name: own.copy() for name, own in state.codes.items()}
    for own in codes.values():
        own.weight[own.weight > 2] -= 2
        own.bias[:] += 3
    state.assign(codes)
    other = fresh(network, codes)
    assert state.loss == IncrementalLoss(other, train, "classify").loss
    assert evaluate(other, train, "classify").loss == pytest.approx(state.loss, abs=1e-6)


def test_weighted_and_mean_square_losses():
    network, train, _ = trained("mlp", epochs=1, n=300)
    targets = torch.randn(len(train), 3, generator=torch.Generator().manual_seed(1))
    events = Batches(train.features, targets, train.weights)
    state = IncrementalLoss(network, events, "distil")
    assert state.loss == pytest.approx(evaluate(network, events, "distil").loss, abs=1e-6)
    nothing = Batches(train.features, train.targets, torch.zeros(len(train)))
    with pytest.raises(ModelError, match="no weight above zero"):
        IncrementalLoss(network, nothing, "classify")


@pytest.mark.parametrize("kind", MODELS)
def test_bits_of_single_outputs_add_up_to_those_of_the_layer(kind):
    network, _, _ = trained(kind, epochs=1, n=300)
    spec = describe_network(network)
    rows = layer_rows(spec)
    for live in live_layers(spec):
        own = codes_of(spec)[live.layer.name]
        weight, bias = np.where(live.alive[:, None], own.weight, 0), np.where(live.alive, own.bias, 0)
        bits = rows[live.layer.name].bits(np.arange(len(weight)), weight, bias)
        assert bits.adder.sum() == live.trees.adder_bits > 0
        wanted = conversion_bits(live)
        assert (bits.relu[live.alive].sum(), bits.saturation[live.alive].sum()) == (wanted.relu, wanted.saturation)


@pytest.mark.parametrize("kind", ["mlp", "conv1d"])
def test_the_change_of_cost_is_the_difference_of_two_full_costs(kind):
    network, train, _ = trained(kind, epochs=1, n=300)
    state = IncrementalLoss(network, train, "classify")
    pricing = Pricing(state, free_weights(network))
    pricing.calibrate({name: 3 * cost for name, cost in pricing.layer_costs().items()})
    full = pricing.layer_costs()
    rows = pricing.rows()
    compared = 0
    for change in random_changes(state, 8, 60):
        priced = pricing.cost_change(change, rows)
        codes = {name: own.copy() for name, own in state.codes.items()}
        codes[change.layer].weight[change.row] = change.weight
        codes[change.layer].bias[change.row] = change.bias
        other = layer_rows(with_codes(state.spec, codes), pricing.factors)
        ranges_kept = all(
            np.array_equal(other[name].inputs.low, rows[name].inputs.low)
            and np.array_equal(other[name].inputs.high, rows[name].inputs.high)
            and np.array_equal(other[name].alive, rows[name].alive)
            for name in rows
        )
        if ranges_kept:
            after = sum(
                float(other[name].costs(np.arange(len(own.weight)), own.weight, own.bias).sum())
                for name, own in codes.items()
            )
            assert priced == pytest.approx(after - sum(full.values()), abs=1e-9)
            compared += 1
    assert compared > 5


def free_weights(network):
    return {
        name: layer.weight_mask.numpy().reshape(len(layer.weight), -1) != 0
        for name, layer in prunable_layers(network).items()
    }


def test_zeroing_the_last_reader_of_a_neuron_saves_the_neuron():
    network, train, _ = trained("mlp", epochs=1, n=300)
    spec = describe_network(network)
    codes = codes_of(spec)
    last = codes[spec.layers[2].name].weight
    last[1:, 3] = 0
    last[0, 3] = 5
    write_codes(network, codes)
    state = IncrementalLoss(network, train, "classify")
    pricing = Pricing(state, free_weights(network))
    weight = last[0].copy()
    weight[3] = 0
    change = RowChange(spec.layers[2].name, 0, weight, int(codes[spec.layers[2].name].bias[0]))
    priced = pricing.cost_change(change, pricing.rows())
    before = sum(pricing.layer_costs().values())
    state.accept(state.trial(change))
    assert not pricing.rows()[spec.layers[1].name].alive[3]
    # inputs of the neuron may have lost their last reader too, which the price of one change does not follow
    gained = sum(pricing.layer_costs().values()) - before
    assert gained <= priced < 0
    assert priced < -live_layers(spec)[1].trees.adder_bits / 20


def digits_by_hand(code):
    count = 0
    while code:
        if code % 2:
            code -= 2 - code % 4
            count += 1
        code //= 2
    return count


def test_candidates_are_the_nearest_codes_of_every_smaller_digit_count():
    for code in range(-32, 32):
        found = weight_candidates(code, -32, 31)
        assert code not in found
        assert min(found) >= -32
        assert max(found) <= 31
        assert (0 in found) == (code != 0)
        for count in range(1, digits_by_hand(code)):
            for side in (-1, 1):
                nearest = next(
                    (
                        c
                        for c in range(code + side, 32 * side + (side > 0), side)
                        if digits_by_hand(c) == count and -32 <= c <= 31
                    ),
                    None,
                )
                assert nearest is None or nearest in found
    assert csd_count(7) == digits_by_hand(7) == 2


def test_bias_candidates_lie_on_coarser_grids_around_the_bias_and_the_wanted_value():
    found = bias_candidates(100, 77.4, -128, 127)
    assert {0, 96, 112, 64, 99, 101, 77, 78, 76, 80, 72}.issubset(found)
    assert 100 not in found
    assert all(-128 <= code <= 127 for code in found)
