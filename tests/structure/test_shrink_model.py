"""A float model that was cut computes what the masked one computes."""

from __future__ import annotations

import copy

import pytest
import torch
from shrink_models import MODELS, WEIGHTED, random_masks, randomised
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.structure.shrink import dependency_graph
from trigger_prune.structure.shrink.float_model import shrink_model

REFERENCE = [
    name for name in MODELS if name.split(" with ")[0] in ("mlp", "conv1d", "conv2d", "deep sets", "autoencoder")
]


def masks_of(model: nn.Module, fraction: float, seed: int) -> dict[str, Tensor]:
    weights = {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, WEIGHTED)}
    masks = random_masks({name: weight for name, weight in weights.items() if weight.requires_grad}, fraction, seed)
    for name, weight in weights.items():
        for other in masks:
            if weights[other] is weight and name in masks:
                masks[other] = masks[name]
    return masks


def masked(model: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    model = copy.deepcopy(model).double()
    done = set()
    for name, mask in masks.items():
        weight = model.get_submodule(name).weight
        if id(weight) not in done:
            weight.data *= mask
            done.add(id(weight))
    return model


def inputs_for(shapes: tuple[tuple[int, ...], ...], n: int, seed: int = 11) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(3.0 * torch.randn(n, *shape, generator=generator, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_computes_the_same(name: str) -> None:
    make, shapes = MODELS[name]
    events = inputs_for(shapes, 200)
    silent = removed = 0
    for seed, fraction in enumerate((0.15, 0.4, 0.7, 0.95)):
        model = randomised(make(), seed).train(seed % 2 == 0)
        masks = masks_of(model, fraction, seed)
        before = copy.deepcopy(model.state_dict())
        shrunk = shrink_model(model, masks, tuple(x[:2].float() for x in events))
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
        assert type(shrunk.model) is type(model) and shrunk.model.training == model.training
        flags = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
        for key, parameter in shrunk.model.named_parameters():
            assert parameter.is_leaf and parameter.requires_grad == flags.get(key, True)
        smaller = tuple(x[:, list(kept)] for x, kept in zip(events, shrunk.kept_inputs, strict=True))
        expected = masked(model, masks).eval()(*events)
        found = copy.deepcopy(shrunk.model).double().eval()(*smaller)
        assert float((found - expected).detach().abs().max()) <= 1e-6 * max(1.0, float(expected.detach().abs().max()))
        for key, layer in shrunk.model.named_modules():
            if isinstance(layer, WEIGHTED):
                old = model.get_submodule(key)
                assert layer.weight.shape[0] == old.weight.shape[0] - len(shrunk.removed.get(key, ()))
        again = shrink_model(shrunk.model, {}, tuple(x[:2].float() for x in smaller))
        assert again.removed == {}, "once is enough"
        silent += sum(int((mask.flatten(1) == 0).all(dim=1).sum()) for mask in masks.values())
        removed += sum(map(len, shrunk.removed.values()))
    if name != "not shrinkable":
        assert removed > 0.5 * silent


@pytest.mark.parametrize("name", [*REFERENCE, "residual convolution", "long sums"])
def test_torch_pruning_does_the_cutting_of_reference_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its groups are found independently (by autograd); only inputs of the model are cut by hand."""
    make, shapes = MODELS[name]

    def none(*_arguments: object) -> None:
        raise AssertionError("torch-pruning did not cut this")

    monkeypatch.setattr(dependency_graph, "resize_layer", none)
    monkeypatch.setattr(dependency_graph, "resize_norm", none)
    for seed in range(3):
        model = randomised(make(), seed)
        x = tuple(x.float() for x in inputs_for(shapes, 2))
        masks = masks_of(model, 0.5, seed)
        if name == "long sums":  # its neurons are all tied
            for key in set(masks) - {"head"}:
                masks[key][[1, 4]] = 0
        shrunk = shrink_model(model, masks, x, keep_inputs=True)
        assert shrunk.removed and not any("torch-pruning" in remark for remark in shrunk.remarks)


def test_constants_move_into_biases_and_batch_norms() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(4, 3),
        nn.ReLU(),
        nn.Linear(3, 5, bias=False),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Linear(5, 2, bias=False),
    )
    model = randomised(model, 3)
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([2.0, -1.0, 0.3]))
        model[3].weight.fill_(1.0)
        model[3].bias.fill_(4.0)
        model[3].running_mean.zero_()
    masks = {"0": torch.ones(3, 4), "2": torch.ones(5, 3)}
    masks["0"][0] = masks["0"][1] = 0  # relu(2) and relu(-1)
    masks["2"][4] = 0
    mean, column = model[3].running_mean.clone(), model[2].weight[:, 0].clone()
    shrunk = shrink_model(model, masks, torch.zeros(1, 4))
    assert shrunk.removed == {"0": (0, 1), "2": (4,)} and shrunk.kept_inputs == ((0, 1, 2, 3),)
    assert model[2].bias is None and shrunk.model[2].bias is None
    assert torch.allclose(shrunk.model[3].running_mean, (mean - 2.0 * column)[:4])
    assert torch.allclose(shrunk.model[5].bias, 4.0 * model[5].weight[:, 4])
    assert shrunk.model[3].num_features == 4


def test_a_constant_before_padding_stays_unless_it_is_zero() -> None:
    for bias, kept in ((0.75, 4), (-0.75, 3)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 3, 3, padding=1), nn.Flatten())
        mask = torch.ones(4, 2, 3)
        mask[2] = 0
        model[0].bias.data[2] = bias
        shrunk = shrink_model(model, {"0": mask}, torch.zeros(1, 2, 5))
        assert shrunk.model[0].out_channels == kept
        assert bool(shrunk.remarks) == (kept == 4)
        assert all("pads with zeros" in remark for remark in shrunk.remarks)


def test_a_constant_before_another_kind_of_padding_or_a_kernel_of_one_goes() -> None:
    torch.manual_seed(0)
    for second in (nn.Conv1d(4, 3, 3, padding=1, padding_mode="replicate"), nn.Conv1d(4, 3, 1)):
        model = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), second, nn.Flatten())
        mask = torch.ones(4, 2, 3)
        mask[2] = 0
        model[0].bias.data[2] = 0.75
        assert shrink_model(model, {"0": mask}, torch.zeros(1, 2, 5)).removed == {"0": (2,)}


def borders(kernel: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The second layer's filter 1 reads a constant only and pads: it is constant, but not the same everywhere."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Conv1d(4, 3, 3, padding=1), nn.ReLU(),
        nn.Flatten() if kernel == 0 else nn.Conv1d(3, 2, kernel), nn.Flatten() if kernel else nn.Linear(15, 2),
    )  # fmt: skip
    masks = {"0": torch.ones(4, 2, 1), "2": torch.ones(3, 4, 3)}
    masks["0"][3] = 0
    masks["2"][1, :3] = 0
    model[0].bias.data[3] = 1.0
    model[2].weight.data[1, 3] = torch.tensor([0.5, 0.25, 1.0])
    return model, masks


def test_a_constant_that_differs_between_positions_moves_only_where_each_has_its_column() -> None:
    x = torch.zeros(1, 2, 5)
    flattened = shrink_model(*borders(0), x)
    assert flattened.removed == {"2": (1,)}, "filter 3 of the first layer is read by padded convolutions"
    for kernel in (1, 2):
        shrunk = shrink_model(*borders(kernel), x)
        assert shrunk.removed == {}
    model, masks = borders(0)
    events = torch.randn(20, 2, 5)
    found = flattened.model(events)
    assert torch.allclose(found, masked(model, masks).float()(events), atol=1e-6)


class InPlace(nn.Module):
    """What reads the first layer after the ReLU sees the values that the ReLU wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = nn.functional.relu(y, inplace=True)
        result: Tensor = self.head(torch.cat([y, z + 0.5], dim=1))
        return result


def test_operations_in_place_are_seen_by_later_readers() -> None:
    torch.manual_seed(2)
    model = InPlace()
    model.first.bias.data[[1, 3]] = torch.tensor([-2.0, 2.0])
    mask = torch.ones(5, 4)
    mask[[1, 3]] = 0
    shrunk = shrink_model(model, {"first": mask}, torch.zeros(1, 4))
    assert shrunk.removed == {"first": (1, 3)}
    x = torch.randn(30, 4)
    assert torch.allclose(shrunk.model(x), masked(model, {"first": mask}).float()(x), atol=1e-6)


class Shared(nn.Module):
    """One layer is called twice, and two more have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        result: Tensor = self.head(torch.relu(self.other(torch.relu(self.one(x)))))
        return result


def test_layers_that_share_weights_stay_whole() -> None:
    torch.manual_seed(2)
    model = Shared()
    mask = torch.ones(6, 6)
    mask[[1, 4]] = 0
    shrunk = shrink_model(model, {"first": mask[:, :4], "twice": mask, "one": mask, "other": mask}, torch.zeros(1, 4))
    assert shrunk.removed == {}
    assert sum("shares its weight" in remark for remark in shrunk.remarks) >= 3


def test_a_layer_without_weights_keeps_one_neuron() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    shrunk = shrink_model(model, {"2": torch.zeros(5, 6)}, torch.zeros(1, 4))
    assert [shrunk.model[index].weight.shape for index in (0, 2, 4)] == [(1, 1), (1, 1), (2, 1)]
    assert len(shrunk.kept_inputs[0]) == 1
    x = torch.randn(20, 4)
    model[2].weight.data.zero_()
    assert torch.allclose(shrunk.model(x[:, list(shrunk.kept_inputs[0])]), model(x), atol=1e-6)


def test_a_shrunk_model_trains_on() -> None:
    make, shapes = MODELS["conv2d with batch norm"]
    model = randomised(make(), 0)
    (x,) = (x.float() for x in inputs_for(shapes, 16))
    shrunk = shrink_model(model, masks_of(model, 0.4, 0), x, keep_inputs=True)
    optimizer = torch.optim.Adam(shrunk.model.train().parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(shrunk.model(x), torch.arange(16) % 3)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_masks_that_do_not_fit_are_named() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    x = torch.zeros(1, 4)
    with pytest.raises(ModelError, match="mask for '1', which is no Linear or Conv layer"):
        shrink_model(model, {"1": torch.ones(6)}, x)
    with pytest.raises(ModelError, match=r"layer '0': mask of shape \(4, 6\) for \(6, 4\) weights"):
        shrink_model(model, {"0": torch.ones(4, 6)}, x)
    with pytest.raises(ModelError, match="layer '2': a mask holds 0"):
        shrink_model(model, {"2": torch.full((2, 6), 0.5)}, x)
