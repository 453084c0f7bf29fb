import copy
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import QuantConv1d, QuantLinear
from trigger_prune.structure.masks import (
    LAYER_SHARE,
    lowest_scores_mask,
    masked_fraction,
    prunable_layers,
    raise_sparsity,
    restored,
    zero_masked,
)

TYPE = FixedPoint(12, 2, overflow="AP_SAT")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    frozen = QuantConv1d(nn.Conv1d(4, 4, 5, groups=4, bias=False), TYPE, TYPE)
    frozen.weight.requires_grad_(False)
    return nn.Sequential(
        QuantConv1d(nn.Conv1d(3, 4, 1), TYPE, TYPE), frozen, nn.Flatten(), QuantLinear(nn.Linear(4, 5), TYPE, TYPE)
    )


def brute_force_mask(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    flat = mask.flatten().tolist()
    while flat.count(0) < round(sparsity * len(flat)):
        kept = [i for i, m in enumerate(flat) if m]
        flat[min(kept, key=lambda i: (float(scores.flatten()[i]), i))] = 0
    return torch.tensor(flat).reshape(mask.shape)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.34, 0.5, 0.99, 1.0])
def test_mask_removes_the_lowest_kept_scores_and_ties_by_index(sparsity: float) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randint(0, 4, (7, 5), generator=generator).double()
    mask = (torch.rand(7, 5, generator=generator) > 0.3).float()
    before = mask.clone()
    assert torch.equal(lowest_scores_mask(scores, mask, sparsity), brute_force_mask(scores, mask, sparsity))
    assert torch.equal(mask, before)


def test_frozen_layers_are_not_prunable() -> None:
    assert list(prunable_layers(network())) == ["0", "3"]


def one_by_one(scores: dict[str, torch.Tensor], sparsity: float) -> list[float]:
    """Global ranking as a loop: the lowest score goes, unless its layer is down to its share of the density, or it is
    the best of an output and all such weights fit among those that stay."""
    ranked = sorted((float(value), layer, index) for layer, score in enumerate(scores.values())
                    for index, value in enumerate(score.flatten()))  # fmt: skip
    sizes = [score.numel() for score in scores.values()]
    masks = [[1.0] * size for size in sizes]
    to_go = round(sparsity * sum(sizes))
    shares = [math.ceil(LAYER_SHARE * (1 - sparsity) * size) for size in sizes]
    last = list(scores.values())[-1]
    best = {
        row * last.shape[1] + max(range(last.shape[1]), key=lambda k: float(last[row, k])) for row in range(len(last))
    }
    highest = sorted(range(sizes[-1]), key=lambda k: (float(last.flatten()[k]), k))[sizes[-1] - shares[-1] :]
    if sum(shares[:-1]) + len(best | set(highest)) > sum(sizes) * (1 - sparsity):
        best = set()
    for _, layer, index in ranked:
        if layer == len(sizes) - 1 and (index in best or index in highest):
            continue
        least = math.ceil(LAYER_SHARE * (1 - sparsity) * sizes[layer])
        if to_go and sum(masks[layer]) > least:
            masks[layer][index] = 0.0
            to_go -= 1
    return [value for mask in masks for value in mask]


@pytest.mark.parametrize("kind", ["random", "tied", "one layer small"])
@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.33, 0.5, 0.9, 1.0])
def test_global_scope_ranks_all_layers_together(sparsity: float, kind: str) -> None:
    model = network()
    scores = {name: torch.rand(layer.weight.shape).double() for name, layer in prunable_layers(model).items()}
    if kind == "tied":
        scores = {name: torch.zeros_like(score) for name, score in scores.items()}
    if kind == "one layer small":
        scores["3"] *= 1e-6
    raise_sparsity(model, scores, sparsity, "global")
    got = torch.cat([layer.weight_mask.flatten() for layer in prunable_layers(model).values()])
    assert got.tolist() == one_by_one(scores, sparsity)
    assert int((got == 0).sum()) == round(sparsity * 32)
    assert masked_fraction(model) == pytest.approx(round(sparsity * 32) / 32, abs=1e-12)
    assert bool(model[1].weight_mask.all())


@pytest.mark.parametrize("sparsity", [0.6, 0.9])
def test_a_global_ranking_never_empties_a_thin_layer(sparsity: float) -> None:
    """A head whose weights are all smaller than everyone else's is the first thing a plain ranking removes."""
    torch.manual_seed(3)
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    plain = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 3))
    model = quantize_model(plain, torch.zeros(10, 8), FixedPoint(8, 3), bits)
    scores = {"0": torch.rand(24, 8) + 1, "2": torch.rand(3, 24)}
    raise_sparsity(model, scores, sparsity, "global")
    head = model.get_submodule("2").weight_mask
    assert int(head.sum()) == math.ceil(LAYER_SHARE * (1 - sparsity) * 72)
    assert torch.equal(
        head.flatten().bool(), scores["2"].flatten() >= scores["2"].flatten().sort().values[-int(head.sum())]
    )


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.9])
def test_layer_scope_masks_the_same_fraction_of_each_layer(sparsity: float) -> None:
    model = network()
    scores = {name: layer.weight.detach().abs() * (1000 if name == "0" else 1) for name, layer in
              prunable_layers(model).items()}  # fmt: skip
    raise_sparsity(model, scores, sparsity, "layer")
    for name, layer in prunable_layers(model).items():
        expected = brute_force_mask(scores[name], torch.ones_like(layer.weight_mask), sparsity)
        assert torch.equal(layer.weight_mask, expected)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_sparsity_only_rises(scope: str) -> None:
    model = network()
    masks: list[Tensor] = []
    generator = torch.Generator().manual_seed(4)
    for sparsity in (0.1, 0.5, 0.3, 0.7, 0.69):
        scores = {k: torch.rand(v.weight.shape, generator=generator) for k, v in prunable_layers(model).items()}
        raise_sparsity(model, scores, sparsity, scope)  # type: ignore[arg-type]
        masks.append(torch.cat([layer.weight_mask.flatten() for layer in prunable_layers(model).values()]))
    for earlier, later in pairwise(masks):
        assert bool((later <= earlier).all())
    assert torch.equal(masks[1], masks[2]) and torch.equal(masks[3], masks[4])


def test_impossible_sparsities_and_networks_are_named() -> None:
    model = network()
    scores = {name: layer.weight.detach() for name, layer in prunable_layers(model).items()}
    with pytest.raises(ModelError, match=r"sparsity 1\.01"):
        raise_sparsity(model, scores, 1.01, "global")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for call in (lambda: masked_fraction(model), lambda: raise_sparsity(model, {}, 0.5, "global")):
        with pytest.raises(ModelError, match="no weight layer to prune"):
            call()


def train(model: nn.Module, layers: list[nn.Module], steps: int, *, hold: bool, seed: int) -> torch.optim.Optimizer:
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for layer in layers for parameter in layer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1, amsgrad=True)
    for _ in range(steps):
        x, y = torch.randn(64, 6, generator=generator), torch.randn(64, 3, generator=generator)
        optimizer.zero_grad(set_to_none=True)
        (model(x) - y).square().mean().backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        if hold:
            zero_masked(model, optimizer)
    return optimizer


def test_adam_does_not_resurrect_masked_weights() -> None:
    """A mask set in the middle of training: momentum and weight decay still act on what it removed."""
    torch.manual_seed(1)
    layer = QuantLinear(nn.Linear(6, 3), TYPE, TYPE)
    model = nn.Sequential(layer)
    optimizer = train(model, [layer], 5, hold=False, seed=1)
    mask = (torch.rand(3, 6) > 0.5).float()
    layer.weight_mask.copy_(mask)
    moved = layer.weight.detach().clone()
    optimizer.zero_grad()
    model(torch.randn(8, 6)).square().mean().backward()
    optimizer.step()
    assert bool((layer.weight.detach()[mask == 0] != moved[mask == 0]).all())  # what zero_masked is there for
    zero_masked(model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()
        zero_masked(model, optimizer)
        assert bool((layer.weight[mask == 0] == 0).all())
    state = optimizer.state[layer.weight]
    for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        assert bool((state[key][mask == 0] == 0).all()) and bool((state[key][mask == 1] != 0).all())
    assert bool((layer.weight[mask == 1] != 0).all())


class Fewer(nn.Module):
    """The kept connections as separate parameters: a network that never had the others."""

    def __init__(self, source: QuantLinear) -> None:
        super().__init__()
        self.where = source.weight_mask.nonzero()
        self.values = nn.Parameter(source.weight.detach()[self.where[:, 0], self.where[:, 1]].clone())
        self.bias = nn.Parameter(source.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.zeros(3, 6).index_put((self.where[:, 0], self.where[:, 1]), self.values)
        return nn.functional.linear(x, TYPE.fake_quantize(weight), TYPE.fake_quantize(self.bias))


def test_training_with_a_mask_is_training_without_those_connections() -> None:
    torch.manual_seed(1)
    layer = QuantLinear(nn.Linear(6, 3), TYPE, TYPE)
    layer.weight_mask.copy_((torch.rand(3, 6) > 0.5).float())
    fewer = Fewer(layer)
    model = nn.Sequential(layer)
    train(model, [layer], 20, hold=True, seed=2)
    train(fewer, [fewer], 20, hold=False, seed=2)
    kept = layer.weight.detach()[fewer.where[:, 0], fewer.where[:, 1]]
    torch.testing.assert_close(kept, fewer.values.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.bias, fewer.bias, rtol=1e-5, atol=1e-6)


def test_everything_is_restored_also_after_an_exception() -> None:
    model = network()
    model.train()
    model[3].eval()
    before = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match="in the middle"), restored(model):
        model.eval()
        model[3].weight_mask.zero_()
        with torch.no_grad():
            model[0].weight.mul_(3)
            model[1].weight.fill_(np.nan)
        raise RuntimeError("in the middle")
    for old, new in zip(
        (*before.parameters(), *before.buffers()), (*model.parameters(), *model.buffers()), strict=True
    ):
        assert torch.equal(old, new)
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]


def test_a_global_ranking_keeps_the_best_weight_of_every_output() -> None:
    """An output whose weights are all small is a class; without a weight it would be lost."""
    made = network()
    layers = list(prunable_layers(made).values())
    scores = {name: torch.rand(layer.weight.shape) for name, layer in prunable_layers(made).items()}
    last = list(scores)[-1]
    scores[last][0] *= 1e-6
    best = int(scores[last][0].argmax())
    raise_sparsity(made, scores, 0.5, "global")
    assert layers[-1].weight_mask[0, best] == 1 and int(layers[-1].weight_mask[0].sum()) == 1
    total = sum(layer.weight_mask.numel() for layer in layers)
    assert sum(int((layer.weight_mask == 0).sum()) for layer in layers) == round(0.5 * total)
