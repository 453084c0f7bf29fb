import copy
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_fine_tune import before_every_step, events, masks, network, settings, weights
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.fine_tune import RampPlan, ramp
from trigger_prune.prune.regrowth import cosine, dense_gradients, exchange, random_growth
from trigger_prune.prune.schedules._timed import update_steps
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.structure._base import Groups
from trigger_prune.structure.masks import LAYER_SHARE, prunable_layers, raise_sparsity
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.loss import event_losses

SIZES = [96, 32]


def sparse_network(sparsity: float = 0.6) -> fx.GraphModule:
    net = network()
    layers = prunable_layers(net)
    raise_sparsity(net, {name: layer.weight.detach().abs() for name, layer in layers.items()}, sparsity, "global")
    return net


def gradients_by_hand(net: fx.GraphModule, batch: Batches) -> list[np.ndarray]:
    """Of the weighted mean cross-entropy by each effective weight, written out for the network of ``network()``."""
    layers = list(prunable_layers(net).values())
    dense = [layer.quantized_weight().detach().double().requires_grad_() for layer in layers]
    biases = [layer.quantized_bias().detach().double() for layer in layers]  # type: ignore[union-attr]
    hidden = batch.features.double() @ dense[0].T + biases[0]
    kind = net.get_submodule("1_quant").fixed
    scaled = torch.relu(hidden) / kind.lsb
    code = torch.floor(scaled.detach())
    inside = (code >= kind.min_code) & (code <= kind.max_code)
    value = code.clamp(kind.min_code, kind.max_code) * kind.lsb
    hidden = torch.where(inside, value + (torch.relu(hidden) - torch.relu(hidden).detach()), value)
    logits = hidden @ dense[1].T + biases[1]
    losses = functional.cross_entropy(logits, batch.targets, reduction="none")
    loss = (losses * batch.weights).sum() / batch.weights.sum()
    return [g.numpy() for g in torch.autograd.grad(loss, dense)]


def test_dense_gradients_are_those_of_the_effective_weights_masked_ones_included() -> None:
    net = sparse_network()
    batch = events(200)
    batch = Batches(batch.features, batch.targets, torch.rand(200, generator=torch.Generator().manual_seed(4)))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    found = list(dense_gradients(net, batch, settings(1)).values())
    for mine, expected in zip(found, gradients_by_hand(net, batch), strict=True):
        assert mine.numpy() == pytest.approx(expected, abs=1e-12)
    masked = torch.cat([g.flatten() for g in found])[masks(net) == 0]
    assert bool((masked != 0).any())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_dense_gradients_are_of_the_loss_that_is_trained() -> None:
    net = sparse_network()
    other = FitSettings("t", 1, 32, 1e-3, seed=1, batch_loss=lambda outputs, batch: outputs[:, 0].mean())
    found = dense_gradients(net, events(), other)
    second = found["2"]
    # the mean of the hidden outputs for output 0, nothing for output 1
    hidden = net.get_submodule("1_quant")(torch.relu(net.get_submodule("0")(events().features)))
    assert second[0].numpy() == pytest.approx(hidden.mean(0).detach().numpy(), abs=1e-6)
    assert bool((second[1] == 0).all())


def brute_force(kept: np.ndarray, scores: np.ndarray, growth: np.ndarray, fraction: float, safe: set[int]) -> set[int]:
    """Kept indices after the exchange, with sorted lists."""
    n = min(round(fraction * int(kept.sum())), len(set(np.flatnonzero(kept)) - safe))
    droppable = sorted((i for i in np.flatnonzero(kept) if i not in safe), key=lambda i: (scores[i], i))
    remaining = set(np.flatnonzero(kept)) - set(droppable[:n])
    free = sorted((i for i in range(len(kept)) if i not in remaining), key=lambda i: (-growth[i], i))
    return remaining | set(free[:n])


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_exchange_is_brute_force(scope: str, fraction: float) -> None:
    for trial in range(10):
        net = sparse_network(0.3 + 0.06 * trial)
        draws = torch.Generator().manual_seed(trial)
        layers = prunable_layers(net)
        # few different values: ties have to be decided as documented
        scores = {
            name: torch.randint(0, 6, layer.weight.shape, generator=draws).double() for name, layer in layers.items()
        }
        growth = {
            name: torch.randint(0, 9, layer.weight.shape, generator=draws).double() for name, layer in layers.items()
        }
        before = masks(net).numpy() != 0
        flat = [np.concatenate([v.flatten().numpy() for v in values.values()]) for values in (scores, growth)]
        parts = [slice(0, 128)] if scope == "global" else [slice(0, 96), slice(96, 128)]
        expected: set[int] = set()
        for part in parts:
            safe: set[int] = set()
            if scope == "global":
                for begin, size in ((0, 96), (96, 32)):
                    ranked = sorted((i for i in range(begin, begin + size) if before[i]), key=lambda i: (flat[0][i], i))
                    n_safe = min(len(ranked), int(np.ceil(LAYER_SHARE * before.sum() / 128 * size)))
                    safe |= set(ranked[len(ranked) - n_safe :])
            chosen = brute_force(before[part], flat[0][part], flat[1][part], fraction, safe)
            expected |= {i + part.start for i in chosen}
        old = weights(net).clone()
        exchange(layers, scores, growth, fraction, scope)  # type: ignore[arg-type]
        after = masks(net).numpy() != 0
        assert set(np.flatnonzero(after)) == expected
        assert after.sum() == before.sum()
        new = torch.from_numpy(after & ~before)
        assert bool((weights(net)[new] == 0).all())
        stayed = torch.from_numpy(after & before)
        assert torch.equal(weights(net)[stayed], old[stayed])
        if scope == "layer":
            assert after[:96].sum() == before[:96].sum()


def test_cosine_decay() -> None:
    assert cosine(0, 100, 0.3) == pytest.approx(0.3) and cosine(50, 100, 0.3) == pytest.approx(0.15)
    assert cosine(100, 100, 0.3) == 0.0 == cosine(170, 100, 0.3) == cosine(0, 0, 0.3)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("regrow", ["set", "rigl"])
@pytest.mark.parametrize("schedule", ["one_shot", "cubic", "linear", "geometric"])
def test_counts_stay_exact_while_weights_are_exchanged(schedule: str, regrow: str, scope: str) -> None:
    net, plain = network(), network()
    seen: list[Tensor] = []
    expected: list[Tensor] = []
    plan = RampPlan(0.75, schedule=schedule, regrow=regrow, scope=scope)  # type: ignore[arg-type]
    with before_every_step(lambda _: seen.append(masks(net))):
        ramp(net, events(), events(), settings(20), plan)
    with before_every_step(lambda _: expected.append(masks(plain))):
        ramp(plain, events(), events(), settings(20), replace(plan, regrow="none"))
    # the counts are those of the schedule without regrowth, at the updates that the regrowth has
    for step in update_steps(160, 100):
        parts = zip(seen[step].split(SIZES), expected[step].split(SIZES), strict=True)
        assert int(seen[step].sum()) == int(expected[step].sum())
        assert scope == "global" or all(int(a.sum()) == int(b.sum()) for a, b in parts)
    came_back = sum(int((after > before).sum()) for before, after in pairwise(seen))
    assert came_back > (20 if regrow == "set" else 0), came_back
    # frozen in the second half, and what is masked is zero
    assert all(torch.equal(mask, seen[160]) for mask in seen[160:])
    assert bool((weights(net)[masks(net) == 0] == 0).all())


def test_rigl_exchanges_in_training_what_brute_force_says() -> None:
    """At the first step nothing has moved yet: the cut, and the exchange by the gradient's size, by hand."""
    net = network()
    sizes = [0, 96, 128]
    magnitudes = weights(net).abs().numpy()
    cut = network()
    raise_sparsity(
        cut, {name: layer.weight.detach().abs() for name, layer in prunable_layers(cut).items()}, 0.6, "layer"
    )
    gradients = [np.abs(g).flatten() for g in gradients_by_hand(cut, events())]
    expected: set[int] = set()
    for (begin, end), gradient in zip(pairwise(sizes), gradients, strict=True):
        kept = masks(cut).numpy()[begin:end] != 0
        expected |= {begin + i for i in brute_force(kept, magnitudes[begin:end], gradient, 0.3, set())}
    seen: list[Tensor] = []
    with before_every_step(lambda _: seen.append(masks(net))):
        ramp(net, events(), events(), settings(2), RampPlan(0.6, schedule="one_shot", scope="layer", regrow="rigl"))
    assert set(np.flatnonzero(seen[0].numpy())) == expected
    assert expected != set(np.flatnonzero(masks(cut).numpy()))


@pytest.mark.parametrize("regrow", ["set", "rigl"])
def test_new_weights_start_at_zero_without_momentum(regrow: str) -> None:
    net = network()
    layers = list(prunable_layers(net).values())
    seen: list[Tensor] = []
    grown = 0

    def look(optimizer: torch.optim.Optimizer) -> None:
        nonlocal grown
        if seen and optimizer.state:
            new = masks(net) > seen[-1]
            grown += int(new.sum())
            assert bool((weights(net)[new] == 0).all())
            for key in ("exp_avg", "exp_avg_sq"):
                moments = torch.cat([optimizer.state[layer.weight][key].flatten() for layer in layers])
                assert bool((moments[new] == 0).all())
        seen.append(masks(net))

    with before_every_step(look):
        ramp(net, events(), events(), settings(12), RampPlan(0.7, regrow=regrow))  # type: ignore[arg-type]
    assert grown > (10 if regrow == "set" else 2)


def test_rigl_gives_an_input_back_that_was_cut_by_mistake_and_set_follows_its_seed() -> None:
    """Inputs 0 and 1 decide; a ranking that removes them first is put right by the gradient."""

    def backwards(net: fx.GraphModule) -> dict[str, Tensor]:
        scores = {name: layer.weight.detach().abs().double() for name, layer in prunable_layers(net).items()}
        young = masks(net).numel() == int(masks(net).sum())
        if young:
            scores["0"][:, :2] = -1.0
        return scores

    back = {}
    for regrow in ("none", "rigl"):
        net = network()
        plan = RampPlan(0.6, schedule="one_shot", scope="layer", scores=backwards, regrow=regrow)  # type: ignore[arg-type]
        ramp(net, events(), events(), settings(20), plan)
        back[regrow] = int(prunable_layers(net)["0"].weight_mask[:, :2].sum())
    assert back["none"] == 0 and back["rigl"] >= 8
    draws = [random_growth(network(), torch.Generator().manual_seed(seed))["0"] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_groups_do_not_grow_back() -> None:
    groups = Groups("rows", {"0": torch.arange(16).unsqueeze(1).expand(16, 6).clone()}, 16)
    with pytest.raises(ConfigError, match="gives back single weights"):
        RampPlan(0.5, groups=groups, regrow="set")


def test_named_layers_keep_their_counts() -> None:
    net = network()
    plan = RampPlan(0.8, layer_sparsity={"2": 0.25}, regrow="rigl")
    ramp(net, events(), events(), settings(10), plan)
    counts = {name: int((layer.weight_mask == 0).sum()) for name, layer in prunable_layers(net).items()}
    assert counts == {"0": round(0.8 * 96), "2": round(0.25 * 32)}


@pytest.mark.parametrize("kind", ["conv1d", "conv2d", "binary"])
def test_dense_gradients_of_other_networks(kind: str) -> None:
    """Against the training's own gradient in a copy whose removed weights are kept ones of value zero."""
    torch.manual_seed(2)
    shape = {"conv1d": (2, 9), "conv2d": (1, 5, 5), "binary": (6,)}[kind]
    bits = SimpleNamespace(weight_bits=8, activation_bits=8, rounding="AP_TRN")
    first: dict[str, list[nn.Module]] = {
        "conv1d": [nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(28, 3)],
        "conv2d": [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)],
        "binary": [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)],
    }
    x = torch.randn(60, *shape)
    net = quantize_model(nn.Sequential(*first[kind]).eval(), x, FixedPoint(12, 4), bits)
    targets = torch.randint(0, 2, (60,)).float() if kind == "binary" else torch.randint(0, 3, (60,))
    task = "binary" if kind == "binary" else "classify"
    batch = Batches(x, targets, torch.rand(60) + 0.1)
    layers = prunable_layers(net)
    raise_sparsity(net, {name: torch.rand(layer.weight.shape) for name, layer in layers.items()}, 0.5, "layer")
    twin = copy.deepcopy(net).double().eval()
    for layer in prunable_layers(twin).values():
        with torch.no_grad():
            layer.weight.copy_(layer.quantized_weight())
        layer.weight_mask.fill_(1)
    double = Batches(x.double(), targets.double() if kind == "binary" else targets, batch.weights.double())
    losses = event_losses(twin(double.features), double.targets, task)
    ((losses * double.weights).sum() / double.weights.sum()).backward()
    chosen = FitSettings("t", 1, 32, 1e-3, seed=1, task=task)
    found = dense_gradients(net, batch, chosen)
    for name, layer in prunable_layers(twin).items():
        saturated = (layer.weight <= layer.weight_type.min_value) | (layer.weight >= layer.weight_type.max_value)
        difference = (found[name] - layer.weight.grad).masked_fill(saturated, 0)
        assert float(difference.abs().max()) < 1e-7
        assert bool((found[name][layers[name].weight_mask == 0] != 0).any())
