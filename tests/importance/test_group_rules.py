"""Scores of groups against loops over groups and single events."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scored_networks import MIXED_LAYERS, events, mixed_network
from torch import Tensor, fx, nn

from trigger_prune.importance import CriterionData, Movement, criterion_by_name, criterion_names, score_groups
from trigger_prune.importance._base import Criterion
from trigger_prune.importance.batch_norm_scale import META_KEY
from trigger_prune.importance.obs import layer_hessians
from trigger_prune.importance.obs_score import output_fisher
from trigger_prune.quantize.graph import trace
from trigger_prune.structure._base import Groups
from trigger_prune.train.loss import event_losses

# attention has no rule of its own for groups
DATA_NAMES = sorted(set(criterion_names(with_data=True)) - {*criterion_names(with_data=False), "attention"})


def scattered(network: nn.Module) -> Groups:
    """Twelve groups over all layers and across their rows, some weights in none; one group has no weight left."""
    generator = torch.Generator().manual_seed(12)
    ids = {}
    for name in MIXED_LAYERS:
        layer = network.get_submodule(name)
        ids[name] = torch.randint(-1, 12, layer.weight.shape, generator=generator)
        layer.weight_mask[ids[name] == 7] = 0
    return Groups("scattered", ids, 12)


def neurons(network: nn.Module) -> Groups:
    """Every unit a group; those of ``left`` together with the same of ``second``, as a residual sum has them."""
    ids, count = {}, 0
    for name in ("first", "second", "left"):
        weight = network.get_submodule(name).weight
        start = count if name != "left" else count - 4
        numbers = torch.arange(start, start + len(weight)).reshape(-1, *[1] * (weight.ndim - 1))
        ids[name] = numbers.expand(weight.shape)
        count = start + len(weight)
    network.left.weight_mask[2] = 0
    network.second.weight_mask[2] = 0
    return Groups("neuron", ids, count)


def traced(make: object) -> tuple[fx.GraphModule, Groups]:
    network = trace(mixed_network())
    return network, make(network)  # type: ignore[operator]


def kept(network: nn.Module, name: str) -> np.ndarray:
    layer = network.get_submodule(name)
    return (layer.weight * layer.weight_mask).detach().numpy()


def group_of(groups: Groups, values: dict[str, np.ndarray], number: int) -> np.ndarray:
    """All values of a group in one row; leading axes are kept."""
    parts = []
    for name, ids in groups.ids.items():
        inside = (ids == number).numpy()
        value = values[name]
        parts.append(value[..., inside] if value.ndim == inside.ndim else value[:, inside])
    return np.concatenate(parts, axis=-1)


def event_gradients(network: nn.Module, names: list[str], data: CriterionData) -> dict[str, np.ndarray]:
    network.eval()
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for i in range(len(data.batches)):
        network.zero_grad()
        event = data.batches.take(slice(i, i + 1))
        event_losses(network(event.features), event.targets, data.task).sum().backward()
        for name in names:
            found[name].append(network.get_submodule(name).weight.grad.clone())
    return {name: torch.stack(values).numpy() for name, values in found.items()}


@pytest.mark.parametrize("make", [scattered, neurons])
def test_taylor_forms_take_the_group_as_a_whole_event_by_event(make: object) -> None:
    network, groups = traced(make)
    data = events((2, 8, 8), 40)
    gradients = event_gradients(network, list(groups.ids), data)
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    products = {name: gradients[name] * kept(network, name) for name in groups.ids}
    sums = np.stack([group_of(groups, products, k).sum(axis=1) for k in range(groups.count)], axis=1)
    found = {
        name: score_groups(criterion_by_name(name, with_data=True), network, groups, data).numpy()
        for name in ("taylor", "snip", "taylor_fisher", "gradient")
    }
    np.testing.assert_allclose(found["taylor_fisher"], share @ sums**2, rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(found["taylor"], np.abs(share @ sums), rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(found["snip"], found["taylor"])
    magnitudes = {
        name: np.tensordot(share, np.abs(gradients[name]), axes=1) * np.abs(kept(network, name)) for name in groups.ids
    }
    expected = [group_of(groups, magnitudes, k).sum() for k in range(groups.count)]
    np.testing.assert_allclose(found["gradient"], expected, rtol=1e-9, atol=1e-15)
    # not what the single weights' scores add up to
    singles = criterion_by_name("taylor_fisher", with_data=True).score(network, list(groups.ids), data)
    assert np.abs(groups.sums(singles).numpy() / np.maximum(found["taylor_fisher"], 1e-12) - 1).max() > 0.5


@pytest.mark.parametrize("make", [scattered, neurons])
def test_magnitudes_are_norms_of_what_is_kept(make: object) -> None:
    network, groups = traced(make)
    weights = {name: kept(network, name) for name in groups.ids}
    members = [group_of(groups, weights, k) for k in range(groups.count)]
    one, two = (score_groups(criterion_by_name(f"magnitude_l{p}"), network, groups).numpy() for p in (1, 2))
    np.testing.assert_allclose(one, [np.abs(w).sum() for w in members], rtol=1e-12)
    np.testing.assert_allclose(two, [np.linalg.norm(w) for w in members], rtol=1e-12)


@pytest.mark.parametrize("name", ["obd", "obd_fisher", "obd_hessian", "wanda", "attention"])
def test_sums_over_the_group(name: str) -> None:
    network, groups = traced(scattered)
    data = events((2, 8, 8), 40)
    criterion = criterion_by_name(name, with_data=True)
    singles = {k: v.numpy() for k, v in criterion.score(network, list(groups.ids), data).items()}
    expected = [group_of(groups, singles, k).sum() for k in range(groups.count)]
    np.testing.assert_allclose(score_groups(criterion, network, groups, data).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["apoz", "activation", "activation_variance"])
@pytest.mark.parametrize("make", [scattered, neurons])
def test_activity_of_a_group_is_the_mean_over_its_units(name: str, make: object) -> None:
    network, groups = traced(make)
    data = events((2, 8, 8), 40)
    criterion = criterion_by_name(name, with_data=True)
    units = criterion.unit_scores(network, list(groups.ids), data)  # type: ignore[attr-defined]
    expected = []
    for number in range(groups.count):
        values = [
            float(units[layer][row])
            for layer, ids in groups.ids.items()
            for row in range(len(ids))
            if bool(((ids[row] == number) & (network.get_submodule(layer).weight_mask[row] != 0)).any())
        ]
        expected.append(np.mean(values) if values else 0.0)
    np.testing.assert_allclose(score_groups(criterion, network, groups, data).numpy(), expected, rtol=1e-12)
    assert expected.count(0.0) >= 1


def test_random_does_not_depend_on_the_size_of_a_group() -> None:
    network = mixed_network()
    weight = network.first.weight
    ids = torch.arange(72).reshape(weight.shape).clone()
    ids[ids >= 36] = 36
    network.first.weight_mask.fill_(1)
    network.first.weight_mask.view(-1)[3] = 0
    large = []
    for seed in range(200):
        criterion = replace(criterion_by_name("random"), seed=seed)  # type: ignore[type-var]
        scores = score_groups(criterion, network, Groups("one large", {"first": ids}, 37))  # type: ignore[arg-type]
        assert float(scores[3]) == 0.0 and float(scores.max()) < 1.0
        large.append(float(scores[36]))
    assert abs(np.mean(large) - 0.5) < 5 * 0.29 / np.sqrt(200)


def test_lamp_of_groups_by_its_definition() -> None:
    network, groups = traced(neurons)
    squares = np.array([(group_of(groups, {n: kept(network, n) for n in groups.ids}, k) ** 2).sum() for k in range(8)])
    homes = groups.home()
    expected = [
        s / sum(t for t, other in zip(squares, homes, strict=True) if other == home and t >= s) if s else 0.0
        for s, home in zip(squares, homes, strict=True)
    ]
    np.testing.assert_allclose(score_groups(criterion_by_name("lamp"), network, groups).numpy(), expected, rtol=1e-12)


def test_batch_norm_scale_of_groups_is_the_mean_of_their_channels() -> None:
    network, groups = traced(neurons)
    scales = {"first": torch.tensor([1.0, -2.0, 3.0, 4.0]), "second": torch.tensor([0.5, 1.5, 0.1, 0.2])}
    network.meta[META_KEY] = scales
    found = score_groups(criterion_by_name("batchnorm_scale"), network, groups).numpy()
    left = 4.0 + np.linalg.norm(kept(network, "left"), axis=1)
    joint = [(abs(float(scales["second"][k])) + left[k]) / 2 for k in range(4)]
    joint[2] = 0.0  # masked in both
    np.testing.assert_allclose(found, [1.0, 2.0, 3.0, 4.0, *joint], rtol=1e-6)


def test_movement_of_groups_leaves_masked_weights_out() -> None:
    network, groups = traced(scattered)
    data = events((2, 8, 8), 40)
    network.eval()
    with Movement(network) as movement:
        event_losses(network(data.batches.features), data.batches.targets, "classify").mean().backward()
    # masked after they moved
    network.get_submodule("first").weight_mask[groups.ids["first"] == 3] = 0
    moved = {name: -(kept(network, name) * network.get_submodule(name).weight.grad.numpy()) for name in MIXED_LAYERS}
    expected = [group_of(groups, moved, k).sum() for k in range(groups.count)]
    expected[7] = -np.inf
    np.testing.assert_allclose(score_groups(movement, network, groups).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("make", [scattered, neurons])
def test_obs_of_a_group_is_the_least_error_of_removing_all_of_it(make: object) -> None:
    """Row by row, by Lagrange's equations; times half the output Fisher."""
    network, groups = traced(make)
    data = events((2, 8, 8), 60)
    hessians = layer_hessians(network, list(groups.ids), data)
    fisher = output_fisher(network, list(groups.ids), data)
    expected = np.zeros(groups.count)
    for name, ids in groups.ids.items():
        layer = network.get_submodule(name)
        rows, flat = kept(network, name).reshape(len(ids), -1), ids.flatten(1).numpy()
        mask = layer.weight_mask.flatten(1).numpy() != 0
        for row, w in enumerate(rows):
            hessian = hessians[name][row // (len(rows) // len(hessians[name]))].numpy()
            full = w if layer.bias is None else np.append(w, layer.bias[row].item())
            for number in np.unique(flat[row][(flat[row] >= 0) & mask[row]]):
                zero = [i for i in range(len(w)) if not mask[row, i] or flat[row, i] == number]
                n, m = len(full), len(zero)
                constraint = np.zeros((m, n))
                constraint[range(m), zero] = 1
                system = np.block([[hessian, constraint.T], [constraint, np.zeros((m, m))]])
                change = np.linalg.solve(system, np.concatenate([np.zeros(n), -full[zero]]))[:n]
                expected[number] += 0.5 * change @ hessian @ change * float(fisher[name][row]) / 2
    found = score_groups(criterion_by_name("obs", with_data=True), network, groups, data).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-18)


@pytest.mark.parametrize("name", [*DATA_NAMES, "taylor_fisher + 2 wanda", "obs * apoz by layer"])
@pytest.mark.parametrize("make", [scattered, neurons])
def test_scores_of_groups_do_not_depend_on_the_batch_size(name: str, make: object) -> None:
    network, groups = traced(make)
    data = events((2, 8, 8))
    criterion: Criterion = criterion_by_name(name, with_data=True)
    whole = score_groups(criterion, network, groups, replace(data, batch_size=1000))
    assert whole.shape == (groups.count,) and whole.dtype == torch.float64
    assert bool(torch.isfinite(whole).all()) and whole.unique().numel() > groups.count // 2
    for size in (7, 64):
        parts = score_groups(criterion, network, groups, replace(data, batch_size=size))
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-14)
