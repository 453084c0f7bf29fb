"""OBS as a criterion of the whole network."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from scored_networks import MIXED_LAYERS, WEIGHT, events, mixed_network, sequence_network, trained_network
from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.importance import CriterionData, criterion_by_name
from trigger_prune.importance.obs import layer_hessians, prune_layer, saliencies
from trigger_prune.importance.obs_score import Obs, output_fisher
from trigger_prune.quantize.layers import QuantLinear
from trigger_prune.train.evaluate import evaluate
from trigger_prune.train.loss import event_losses


def fisher_by_single_events(network: nn.Module, names: list[str], data: CriterionData) -> dict[str, np.ndarray]:
    """One backward pass per event; the gradient by a unit's output is that by a change added to it."""
    network.eval()
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    result = dict.fromkeys(names, 0.0)
    for name in names:
        added: list[torch.Tensor] = []

        def add(_module: nn.Module, _inputs: object, output: torch.Tensor, added: list = added) -> torch.Tensor:
            added.append(torch.zeros_like(output, requires_grad=True))
            return output + added[-1]

        handle = network.get_submodule(name).register_forward_hook(add)
        for i in range(len(data.batches)):
            added.clear()
            event = data.batches.take(slice(i, i + 1))
            event_losses(network(event.features), event.targets, data.task).sum().backward()
            squares = [call.grad[0].reshape(call.shape[1], -1).square().mean(dim=1).numpy() for call in added]
            result[name] = result[name] + share[i] * np.mean(squares, axis=0)
        handle.remove()
    return result  # type: ignore[return-value]


class Twice(nn.Module):
    """A layer that is called twice, on different inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.shared = QuantLinear(nn.Linear(5, 5), WEIGHT, WEIGHT).double()
        self.head = QuantLinear(nn.Linear(5, 3), WEIGHT, WEIGHT).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.shared(torch.relu(self.shared(x)))))


@pytest.mark.parametrize(
    ("make", "shape", "layers", "task"),
    [
        (mixed_network, (2, 8, 8), MIXED_LAYERS, "classify"),
        (sequence_network, (2, 4), ["0", "3"], "autoencoder"),
        (Twice, (5,), ["shared", "head"], "classify"),
    ],
)
def test_layers_are_scaled_by_half_the_output_fisher(
    make: type[nn.Module], shape: tuple[int, ...], layers: list[str], task: str
) -> None:
    data = events(shape, 50, task)
    expected = fisher_by_single_events(make(), layers, data)
    fisher = output_fisher(make(), layers, data)
    scores = Obs().score(make(), layers, data)
    hessians = layer_hessians(make(), layers, data)
    for name in layers:
        np.testing.assert_allclose(fisher[name].numpy(), expected[name], rtol=1e-9, atol=1e-18)
        layer = make().get_submodule(name)
        scale = expected[name].reshape(-1, *[1] * (layer.weight.ndim - 1)) / 2
        np.testing.assert_allclose(scores[name].numpy(), scale * saliencies(layer, hessians[name]).numpy(), rtol=1e-9)


def test_scores_estimate_the_loss_increase_of_a_repaired_removal() -> None:
    """Brute force: every weight removed by itself, its row repaired, the loss of the whole network compared."""
    network, data = trained_network()
    layers = ["0", "2"]
    scores = criterion_by_name("obs", with_data=True).score(network, layers, data)
    hessians = layer_hessians(network, layers, data)
    before = evaluate(network, data.batches, data.task).loss
    estimated, measured = [], []
    for name in layers:
        layer = network.get_submodule(name)
        state = {key: value.clone() for key, value in layer.state_dict().items()}
        for place in range(layer.weight.numel()):
            layer.weight_mask.view(-1)[place] = 0
            original = torch.cat([state["weight"].flatten(1), state["bias"][:, None]], dim=1)
            prune_layer(layer, hessians[name], 1, optimum=original).apply(layer)
            measured.append(evaluate(network, data.batches, data.task).loss - before)
            estimated.append(float(scores[name].flatten()[place]))
            layer.load_state_dict(state)
    assert spearmanr(estimated, measured).statistic > 0.8
    magnitudes = torch.cat([network.get_submodule(name).weight.detach().abs().flatten() for name in layers])
    assert spearmanr(estimated, measured).statistic > spearmanr(magnitudes, measured).statistic + 0.1
    large = np.array(measured) > np.median(measured)
    ratio = np.array(estimated)[large] / np.array(measured)[large]
    assert 0.4 < np.median(ratio) < 2.5


def test_a_layer_that_no_input_reaches_costs_nothing() -> None:
    dead = QuantLinear(nn.Linear(4, 3, bias=False), WEIGHT, WEIGHT).double()
    network = nn.Sequential(QuantLinear(nn.Linear(5, 4, bias=False), WEIGHT, WEIGHT).double(), nn.ReLU(), dead)
    with torch.no_grad():
        network[0].weight.zero_()
    scores = Obs().score(network, ["0", "2"], events((5,), 30))
    assert not scores["2"].any()


def test_a_layer_that_is_not_called_is_named() -> None:
    network = mixed_network()
    network.add_module("unused", QuantLinear(nn.Linear(2, 2), WEIGHT, WEIGHT).double())
    with pytest.raises(ModelError, match="layer 'unused' is never called"):
        output_fisher(network, ["unused"], events((2, 8, 8), 20))
