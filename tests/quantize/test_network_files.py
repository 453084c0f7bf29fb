import copy
from pathlib import Path

import pytest
import torch
from torch import fx, nn
from toy_networks import as_if_trained, bits, on_grid, randomised

from trigger_prune.errors import ArtefactError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.convert import input_shape_of, input_type_of, quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.structure.resize import drop_inputs

INPUT = FixedPoint(8, 3)
MODELS = {
    "mlp": (lambda: Mlp((6,), 3, hidden=(5,)), (6,), [0, 2, 5]),
    "conv1d": (lambda: Conv1dNet((5, 6), 3, channels=(4,), hidden=(4,)), (5, 6), [1, 4]),
    "conv2d": (lambda: Conv2dNet((3, 4, 4), 3, channels=(4,), hidden=(4,)), (3, 4, 4), [2]),
    "deep sets": (lambda: DeepSets((5, 4), 3, phi=(4,), rho=(4,)), (5, 4), [0, 3]),
}


def trained(name: str) -> fx.GraphModule:
    make, shape, _ = MODELS[name]
    torch.manual_seed(7)
    return as_if_trained(quantize_model(randomised(make()), on_grid(200, shape), INPUT, bits(6, 6)))


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_is_what_was_saved(name: str, drop: bool, tmp_path: Path) -> None:
    make, shape, kept = MODELS[name]
    network = trained(name)
    if drop:
        drop_inputs(network, kept)
        shape = (len(kept), *shape[1:])
    save_network(network, tmp_path / "network.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt"]
    model = make()  # other weights
    loaded = load_network(tmp_path / "network.pt", model)
    x = on_grid(100, shape)
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))
        assert torch.equal(freeze(loaded, double=True)(x.double()), freeze(network, double=True)(x.double()))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())
    assert describe_network(loaded).content_hash() == describe_network(network).content_hash()
    assert (input_type_of(loaded), input_shape_of(loaded)) == (INPUT, shape)
    flags = {key: parameter.requires_grad for key, parameter in network.named_parameters()}
    assert {key: parameter.requires_grad for key, parameter in loaded.named_parameters()} == flags
    assert list(prunable_layers(loaded)) == list(prunable_layers(network))
    # and again: nothing is lost on the second way
    save_network(loaded, tmp_path / "again.pt")
    again = load_network(tmp_path / "again.pt", model)
    assert describe_network(again).content_hash() == describe_network(network).content_hash()
    assert next(iter(make().parameters())).shape == next(iter(model.parameters())).shape


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    network = trained("mlp")
    save_network(network, path)
    whole = path.read_bytes()
    weight = network.get_submodule("dense1").weight.detach().numpy().tobytes()
    at = whole.index(weight) + 3
    damages = {
        "empty": b"",
        "text": b"not a network",
        "start": whole[:200],
        "almost all": whole[:-1],
        "half": whole[: len(whole) // 2],
        "one bit": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
    }
    for name, content in damages.items():
        path.write_bytes(content)
        with pytest.raises(ArtefactError, match=r"network\.pt is not a readable network") as caught:
            load_network(path, MODELS["mlp"][0]())
        assert "--from" in str(caught.value.hint), name
    path.unlink()
    with pytest.raises(ArtefactError):
        load_network(path, MODELS["mlp"][0]())


@pytest.mark.parametrize(
    "foreign", [torch.ones(3), [1, 2], {}, {"format": 99}, {"format": 2, "state": 5, "digest": ""}]
)
def test_foreign_torch_files_are_refused(foreign: object, tmp_path: Path) -> None:
    torch.save(foreign, tmp_path / "network.pt")
    with pytest.raises(ArtefactError, match="is not a readable network"):
        load_network(tmp_path / "network.pt", MODELS["mlp"][0]())


class Bare(nn.Sequential):
    """Weight layers named and shaped as those of the MLP, without the ReLU in between."""

    def __init__(self) -> None:
        super().__init__()
        self.dense1 = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) + self.dense1(x)


@pytest.mark.parametrize(
    "other",
    [
        Mlp((6,), 3, hidden=(4,)),
        Mlp((6,), 3, hidden=(5, 5)),
        Mlp((6,), 3, hidden=()),
        Mlp((6,), 2, hidden=(5,)),
        Mlp((4,), 3, hidden=(5,)),
        DeepSets((5, 4), 3),
        Bare(),
    ],
)
def test_a_network_of_another_model_is_refused(other: nn.Module, tmp_path: Path) -> None:
    save_network(trained("mlp"), tmp_path / "network.pt")
    with pytest.raises(ArtefactError, match="belongs to another model than this"):
        load_network(tmp_path / "network.pt", other)


def test_a_model_that_is_not_quantised_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not made by quantize_model"):
        save_network(fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2))), tmp_path / "network.pt")
    assert not list(tmp_path.iterdir())


def test_a_copy_keeps_types_mode_and_independence() -> None:
    network = trained("conv1d")
    twin = copy.deepcopy(network)
    assert (input_type_of(twin), input_shape_of(twin)) == (INPUT, (5, 6))
    assert twin.training == network.training
    drop_inputs(twin, [0, 1])
    assert input_shape_of(network) == (5, 6) and input_shape_of(twin) == (2, 6)
    assert network.get_submodule("conv1").weight.shape[1] == 5
    assert input_shape_of(freeze(network)) == (5, 6)


def test_a_frozen_network_holds_plain_layers_and_no_gradients() -> None:
    network = trained("conv2d")
    frozen = freeze(network)
    assert not weight_layers(frozen) and not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert {type(module) for module in frozen.modules() if not isinstance(module, fx.GraphModule)} == {
        nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten, FixedQuantizer
    }  # fmt: skip
    before = describe_network(network).content_hash()
    with torch.no_grad():
        for parameter in frozen.parameters():
            parameter.zero_()
    assert describe_network(network).content_hash() == before
