"""What holds for every criterion that looks at events."""

import copy
from dataclasses import replace

import pytest
import torch
from scored_networks import MIXED_LAYERS, events, mixed_network, mlp_network

from trigger_prune.errors import ConfigError, DataError, ModelError
from trigger_prune.importance import CriterionData, criterion_by_name, criterion_names
from trigger_prune.train.evaluate import Batches

DATA_NAMES = sorted(set(criterion_names(with_data=True)) - set(criterion_names(with_data=False)))
COMBINED = ["taylor_fisher + 2 wanda", "obs * apoz", "attention + lamp by layer"]


def test_names() -> None:
    assert criterion_names(with_data=False) == (
        "batchnorm_scale", "lamp", "magnitude_l1", "magnitude_l2", "movement", "random",
    )  # fmt: skip
    assert DATA_NAMES == [
        "activation", "activation_variance", "apoz", "attention", "gradient", "obd", "obd_fisher", "obd_hessian", "obs",
        "obs_gauss_newton",
        "snip", "taylor", "taylor_fisher", "wanda",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*DATA_NAMES, *COMBINED])
def test_scores_do_not_depend_on_the_batch_size(name: str) -> None:
    # attention sees all of them a hundred times
    data = events((2, 8, 8), 75 if "attention" in name else 150)
    criterion = criterion_by_name(name, with_data=True)
    network = mixed_network()
    whole = criterion.score(network, MIXED_LAYERS, replace(data, batch_size=1000))
    assert list(whole) == MIXED_LAYERS
    for size in (7, 64):
        parts = criterion.score(network, MIXED_LAYERS, replace(data, batch_size=size))
        for layer in MIXED_LAYERS:
            assert whole[layer].dtype == torch.float64 and not whole[layer].requires_grad
            torch.testing.assert_close(parts[layer], whole[layer], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", [*DATA_NAMES, *COMBINED, "random"])
def test_masked_weights_are_lowest_and_kept_ones_are_told_apart(name: str) -> None:
    network = mixed_network()
    scores = criterion_by_name(name, with_data=True).score(network, MIXED_LAYERS, events((2, 8, 8)))
    for layer, values in scores.items():
        mask = network.get_submodule(layer).weight_mask.bool()
        assert not values[~mask].any()
        assert (values >= 0).all()
        # a last layer is never silent: all its units have the same APoZ
        assert values[mask].unique().numel() > 1 or (name, layer) == ("apoz", "head")


@pytest.mark.parametrize("name", [*DATA_NAMES, *COMBINED, "random"])
@pytest.mark.parametrize("training", [True, False])
def test_the_network_comes_back_bit_for_bit(name: str, training: bool) -> None:
    network = mixed_network().float().train(training)
    network.dropout.train(not training)
    (network.head.weight.sum() * 3 + network.first.weight.square().sum()).backward()
    before = copy.deepcopy(network.state_dict())
    gradients = {key: None if p.grad is None else p.grad.clone() for key, p in network.named_parameters()}
    modes = [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    criterion = criterion_by_name(name, with_data=True)
    first = criterion.score(network, MIXED_LAYERS, events((2, 8, 8), 40))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) and after[key].dtype == before[key].dtype for key in before)
    for key, parameter in network.named_parameters():
        old = gradients[key]
        assert (parameter.grad is None) if old is None else torch.equal(parameter.grad, old)
        assert parameter.requires_grad
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    second = criterion.score(network, MIXED_LAYERS, events((2, 8, 8), 40))
    assert all(torch.equal(first[layer], second[layer]) for layer in MIXED_LAYERS)


@pytest.mark.parametrize("name", DATA_NAMES)
def test_an_event_of_weight_three_is_three_events(name: str) -> None:
    data = events((5,), 60)
    weights = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(2)).double()
    rows = torch.repeat_interleave(torch.arange(60), weights.long())
    criterion = criterion_by_name(name, with_data=True)
    weighted = criterion.score(mlp_network(), ["0", "3"], CriterionData(replace(data.batches, weights=weights)))
    repeated = data.batches.take(rows)
    once = CriterionData(Batches(repeated.features, repeated.targets, torch.full((len(rows),), 0.3).double()))
    expected = criterion.score(mlp_network(), ["0", "3"], once)
    for layer in expected:
        torch.testing.assert_close(weighted[layer], expected[layer], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", [*DATA_NAMES, *COMBINED, "random"])
def test_a_layer_scores_the_same_whatever_else_is_asked_for(name: str) -> None:
    layers = ["3", "0"]
    data = events((5,), 60)
    criterion = criterion_by_name(name, with_data=True)
    both = criterion.score(mlp_network(), ["0", "3"], data)
    alone = {layer: criterion.score(mlp_network(), [layer], data)[layer] for layer in layers}
    for layer in layers:
        torch.testing.assert_close(alone[layer], both[layer], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", DATA_NAMES)
def test_without_events(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' needs events"):
        criterion_by_name(name)
    with pytest.raises(DataError, match=f"'{name}' needs events\n  -> pass them"):
        criterion_by_name(name, with_data=True).score(mlp_network(), ["0"])


@pytest.mark.parametrize("name", DATA_NAMES)
def test_bad_input_is_named(name: str) -> None:
    criterion = criterion_by_name(name, with_data=True)
    data = events((5,), 20)
    with pytest.raises(ModelError, match="'1' is no quantised weight layer"):
        criterion.score(mlp_network(), ["1"], data)
    data.batches.features[3, 1] = torch.nan
    what = "the learned gate of an input feature" if name == "attention" else "a score of layer '[03]'"
    with pytest.raises(ModelError, match=f"'{name}': {what} is not finite"):
        criterion.score(mlp_network(), ["0", "3"], data)


def test_events_that_cannot_be_used() -> None:
    batches = events((5,), 20).batches
    with pytest.raises(DataError, match="none of the 20 events"):
        CriterionData(replace(batches, weights=torch.zeros(20)))
    with pytest.raises(ConfigError, match="batch_size 0"):
        CriterionData(batches, batch_size=0)
