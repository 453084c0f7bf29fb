"""One-shot pruning of whole networks with the compensating update."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scored_networks import MIXED_LAYERS, WEIGHT, events, mixed_network, mlp_network, trained_network
from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import CriterionData, criterion_by_name, prune_with_obs
from trigger_prune.importance.obs import layer_hessians, prune_layer
from trigger_prune.quantize.layers import QuantLinear, weight_layers
from trigger_prune.structure.masks import raise_sparsity
from trigger_prune.train.evaluate import evaluate

FINE = FixedPoint(40, 10, overflow="AP_SAT")


def linear_chain() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(QuantLinear(nn.Linear(6, 5), FINE, FINE), QuantLinear(nn.Linear(5, 3), FINE, FINE)).double()


def test_later_layers_aim_at_the_outputs_of_the_unpruned_network() -> None:
    """Without activations the second layer is a weighted ridge regression of the original outputs: numpy's lstsq."""
    network, data = linear_chain(), events((6,), 100)
    x = data.batches.features
    with torch.no_grad():
        target = network(x).numpy()
    old = torch.cat([network[1].weight.detach(), network[1].bias.detach()[:, None]], dim=1).numpy()
    done = prune_with_obs(network, data, {"0": 0.5, "1": 0.4})
    with torch.no_grad():
        hidden = np.hstack([network[0](x).numpy(), np.ones((100, 1))])
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    damping = 1e-2 * np.mean([2 * share @ hidden[:, i] ** 2 for i in range(6)])
    for row in range(3):
        kept = np.append(done["1"].mask[row].numpy() != 0, True)
        design = np.vstack([np.sqrt(share)[:, None] * hidden, np.sqrt(damping / 2) * np.eye(6)])[:, kept]
        aim = np.concatenate([np.sqrt(share) * target[:, row], np.sqrt(damping / 2) * old[row]])
        expected = np.linalg.lstsq(design, aim, rcond=None)[0]
        got = np.append(network[1].weight[row].detach().numpy(), network[1].bias[row].item())
        np.testing.assert_allclose(got[kept], expected, atol=1e-7)
    assert [int((1 - layer.mask).sum()) for layer in done.values()] == [15, 6]


def test_it_beats_repairs_that_see_only_their_own_inputs_and_magnitude() -> None:
    network, data = trained_network()
    before = evaluate(network, data.batches, data.task).loss
    state = {key: value.clone() for key, value in network.state_dict().items()}
    increase = {}

    def measure(name: str) -> None:
        increase[name] = evaluate(network, data.batches, data.task).loss - before
        network.load_state_dict(state)

    shares = {"0": 0.6, "2": 0.5}
    prune_with_obs(network, data, shares)
    measure("towards the original")
    for name, share in shares.items():
        layer = network.get_submodule(name)
        prune_layer(layer, layer_hessians(network, [name], data)[name], round(share * layer.weight.numel())).apply(
            layer
        )
    measure("own inputs")
    raise_sparsity(network, criterion_by_name("magnitude_l1").score(network, ["0", "2"]), 0.55, "layer")
    measure("magnitude")
    assert increase["towards the original"] < increase["own inputs"] < increase["magnitude"]
    assert increase["towards the original"] < increase["magnitude"] / 2


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.8])
def test_a_global_sparsity_is_met_exactly_and_values_stay_in_range(sparsity: float) -> None:
    network, data = mixed_network(), events((2, 8, 8), 80)
    masks = {name: layer.weight_mask.clone() for name, layer in weight_layers(network).items()}
    already = {name: int((mask == 0).sum()) for name, mask in masks.items()}
    done = prune_with_obs(network, data, sparsity)
    assert list(done) == ["first", "second", "left", "head"]  # the order of computation
    layers = weight_layers(network)
    total = sum(layer.weight.numel() for layer in layers.values())
    zeros = sum(int((layer.weight_mask == 0).sum()) for layer in layers.values())
    assert zeros == max(round(sparsity * total), sum(already.values()))
    for name, layer in layers.items():
        assert not layer.weight_mask[masks[name] == 0].any() and not layer.weight[layer.weight_mask == 0].any()
        for values, fixed in ((layer.weight, layer.weight_type), (layer.bias, layer.bias_type)):
            if values is not None:
                assert fixed.contains(values.detach().numpy()).all()


def test_a_layer_sparser_than_asked_for_loses_nothing_more() -> None:
    network, data = mixed_network(), events((2, 8, 8), 80)
    before = {name: layer.weight_mask.clone() for name, layer in weight_layers(network).items()}
    done = prune_with_obs(network, data, {"first": 0.05, "left": 0.5})
    assert torch.equal(network.first.weight_mask, before["first"]) and int((done["left"].mask == 0).sum()) == 8


def test_nothing_removed_leaves_the_function_as_it_is() -> None:
    network, data = mixed_network().eval(), events((2, 8, 8), 80)
    with torch.no_grad():
        before = network(data.batches.features)
        prune_with_obs(network, data, 0.0)
        assert torch.equal(network(data.batches.features), before)


def test_layers_that_are_not_named_stay_to_the_bit() -> None:
    network, data = mlp_network(), events((5,), 60)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    done = prune_with_obs(network, data, {"0": 0.5})
    after = network.state_dict()
    assert list(done) == ["0"] and int((after["0.weight_mask"] == 0).sum()) == 15
    assert all(torch.equal(after[key], before[key]) for key in before if key.startswith("3."))


def test_order_follows_the_graph_and_not_the_definition() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.last = QuantLinear(nn.Linear(4, 3), WEIGHT, WEIGHT)
            self.first = QuantLinear(nn.Linear(5, 4), WEIGHT, WEIGHT)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.relu(self.first(x)))

    assert list(prune_with_obs(Backwards().double(), events((5,), 60), 0.5)) == ["first", "last"]


def test_the_result_does_not_depend_on_the_batch_size() -> None:
    data = events((2, 8, 8), 150)
    whole, parts = mixed_network(), mixed_network()
    prune_with_obs(whole, replace(data, batch_size=1000), 0.6)
    prune_with_obs(parts, replace(data, batch_size=7), 0.6)
    for name in MIXED_LAYERS:
        assert torch.equal(whole.get_submodule(name).weight_mask, parts.get_submodule(name).weight_mask)
        torch.testing.assert_close(whole.get_submodule(name).weight, parts.get_submodule(name).weight)


def test_bad_requests_are_named() -> None:
    data: CriterionData = events((5,), 40)
    with pytest.raises(ModelError, match="'1' is no prunable layer\n  -> prunable layers: 0, 3"):
        prune_with_obs(mlp_network(), data, {"1": 0.5})
    with pytest.raises(ModelError, match=r"sparsity 1.5 of layer '3' is outside"):
        prune_with_obs(mlp_network(), data, {"3": 1.5})
    with pytest.raises(ModelError, match=r"sparsity -0.1 is outside"):
        prune_with_obs(mlp_network(), data, -0.1)
