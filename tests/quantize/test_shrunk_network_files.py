"""Networks of fewer neurons on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from toy_networks import INPUT, as_if_trained, bits, on_grid, randomised

from trigger_prune.errors import ArtefactError
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.convert import input_shape_of, quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure.resize import input_layers
from trigger_prune.structure.shrink.quantised import shrink_network


class Grouped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(3, 8, 1), nn.ReLU(), nn.Conv1d(8, 12, 2, groups=4), nn.ReLU(), nn.Flatten(),
            nn.Linear(36, 3, bias=False)
        )  # fmt: skip


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 5), nn.Linear(6, 7), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], dim=1))
        return result


MODELS = {
    "mlp": (lambda: Mlp((6,), 3, hidden=(8, 7)), (6,)),
    "conv2d": (lambda: Conv2dNet((2, 6, 6), 3, (5, 4), pool=1, hidden=(6,)), (2, 6, 6)),
    "deep sets": (lambda: DeepSets((4, 5), 3, phi=(7, 6), rho=(5,)), (4, 5)),
    "grouped": (Grouped, (3, 4)),
    "joined": (Joined, (6,)),
}


def shrunk(name: str) -> fx.GraphModule:
    make, shape = MODELS[name]
    torch.manual_seed(7)
    network = as_if_trained(quantize_model(randomised(make()), on_grid(200, shape), INPUT, bits(5, 5)))
    layers = [layer for layer in weight_layers(network).values() if layer.weight.requires_grad]
    for layer in input_layers(network) or []:
        layer.weight_mask[:, 0] = 0
    for layer in layers[:-1]:
        layer.weight_mask[[0, 2]] = 0
        if layer.bias is not None:
            layer.bias.data[2] = 0.6
    if name == "grouped":
        layers[1].weight_mask[:3] = 0
    result = shrink_network(network)
    assert len(result.removed) >= 2 and result.dropped_inputs == (0,)
    return result.network


@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_is_what_was_saved(name: str, tmp_path: Path) -> None:
    network = shrunk(name)
    save_network(network, tmp_path / "network.pt")
    loaded = load_network(tmp_path / "network.pt", MODELS[name][0]())
    x = on_grid(200, input_shape_of(network))
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))
    assert describe_network(loaded).content_hash() == describe_network(network).content_hash()
    assert loaded.meta["full_shapes"] == network.meta["full_shapes"]
    for key, layer in weight_layers(network).items():
        twin = weight_layers(loaded)[key]
        assert repr(twin) == repr(layer) and twin.weight.requires_grad == layer.weight.requires_grad
        sizes = (
            ("in_features", "out_features")
            if isinstance(layer, nn.Linear)
            else ("in_channels", "out_channels", "groups")
        )
        assert [getattr(twin, size) for size in sizes] == [getattr(layer, size) for size in sizes]
    again = shrink_network(loaded)
    assert again.removed == {}
    save_network(again.network, tmp_path / "again.pt")
    last = load_network(tmp_path / "again.pt", MODELS[name][0]())
    assert describe_network(last).content_hash() == describe_network(network).content_hash()


@pytest.mark.parametrize(
    "other",
    [
        Mlp((6,), 3, hidden=(6, 5)),  # as large as the shrunk one
        Mlp((6,), 3, hidden=(9, 9)),  # larger than the whole one
        Mlp((5,), 3, hidden=(8, 7)),
        Mlp((6,), 4, hidden=(8, 7)),
    ],
)
def test_the_float_model_must_be_the_one_it_came_from(other: nn.Module, tmp_path: Path) -> None:
    save_network(shrunk("mlp"), tmp_path / "network.pt")
    with pytest.raises(
        ArtefactError, match=r"belongs to another model than this Mlp: layer '\w+' had weights of shape"
    ):
        load_network(tmp_path / "network.pt", other)


def test_files_of_the_format_before_still_load(tmp_path: Path) -> None:
    """They hold no shapes of the whole network; features could be dropped already, neurons could not."""
    path = tmp_path / "network.pt"
    network = shrunk("joined")
    whole = quantize_model(Joined(), on_grid(200, (6,)), INPUT, bits(5, 5))
    for stored, loads in ((whole, True), (network, False)):
        save_network(stored, path)
        payload = torch.load(path, weights_only=True)
        for key in ("groups", "full_shapes"):
            del payload[key]
        payload["format"] = 2
        torch.save(payload, path)
        if loads:
            x = on_grid(50, (6,))
            assert torch.equal(load_network(path, Joined())(x), stored(x))
        else:
            with pytest.raises(ArtefactError, match="layer 'left' has weights of shape"):
                load_network(path, Joined())


def test_shapes_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    network = shrunk("mlp")
    layer = weight_layers(network)["dense2"]
    layer.weight = nn.Parameter(layer.weight[:, 1:].detach())
    layer.weight_mask = layer.weight_mask[:, 1:]
    save_network(network, path)
    with pytest.raises(ArtefactError, match="belongs to another model"):
        load_network(path, MODELS["mlp"][0]())


def test_scales_of_folded_norms_follow_the_units_and_survive_the_file(tmp_path: Path) -> None:
    """The criterion batchnorm_scale reads them: one per unit that is left."""
    torch.manual_seed(5)
    model = Mlp((6,), 3, hidden=(8, 4), batch_norm=True)
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d))
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 9.0))
    network = quantize_model(model.eval(), on_grid(100, (6,)), INPUT, bits(6, 6))
    first = next(iter(weight_layers(network)))
    assert network.meta["batch_norm_scales"][first].tolist() == list(range(1, 9))
    weight_layers(network)[first].weight_mask[[2, 5]] = 0
    shrunk = shrink_network(network).network
    kept = shrunk.meta["batch_norm_scales"][first].tolist()
    assert len(kept) == len(weight_layers(shrunk)[first].weight) and 3.0 not in kept and 6.0 not in kept
    save_network(shrunk, tmp_path / "network.pt")
    assert load_network(tmp_path / "network.pt", model).meta["batch_norm_scales"][first].tolist() == kept
