import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_fine_tune import before_every_step, events, masks, network, settings, weights
from torch import Tensor, fx, nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import CriterionData, obs_score  # noqa: F401
from trigger_prune.importance import _base as importance
from trigger_prune.importance.obs import layer_hessians
from trigger_prune.prune.fine_tune import RampPlan, criterion_events, ramp
from trigger_prune.prune.schedules import schedule_names
from trigger_prune.prune.schedules._timed import update_steps
from trigger_prune.prune.schedules.cubic import cubic_sparsity
from trigger_prune.prune.schedules.geometric import geometric_sparsity
from trigger_prune.prune.schedules.linear import linear_sparsity
from trigger_prune.prune.schedules.one_shot import one_shot_sparsity
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.structure._base import Groups
from trigger_prune.structure.group_masks import removed_groups
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.evaluate import Batches, predict
from trigger_prune.train.fit import FitSettings, fit

TIMED = {
    "one_shot": lambda u, a, b: b,
    "linear": lambda u, a, b: a + (b - a) * min(1.0, u),
    "geometric": lambda u, a, b: 1 - (1 - a) ** (1 - min(1.0, u)) * (1 - b) ** min(1.0, u),
    "cubic": lambda u, a, b: b - (b - a) * max(0.0, 1 - u) ** 3,
}
AT = {
    "one_shot": one_shot_sparsity,
    "linear": linear_sparsity,
    "geometric": geometric_sparsity,
    "cubic": cubic_sparsity,
}


def watched(net: fx.GraphModule, plan: RampPlan, epochs: int = 20, batch_size: int = 32) -> list[Tensor]:
    """The mask in the forward pass of every training step."""
    seen: list[Tensor] = []
    handle = net.get_submodule("0").register_forward_pre_hook(
        lambda *_: seen.append(masks(net)) if net.training else None
    )
    ramp(net, events(), events(), settings(epochs, batch_size), plan)
    handle.remove()
    return seen


def by_rows(net: fx.GraphModule) -> Groups:
    """Every output row of both layers is a group."""
    first, second = (layer.weight for layer in prunable_layers(net).values())
    ids = [torch.arange(len(w)).unsqueeze(1).expand(w.shape).clone() for w in (first, second)]
    return Groups("rows", {"0": ids[0], "2": ids[1] + len(first)}, len(first) + len(second))


@pytest.mark.parametrize("name", list(TIMED))
def test_schedules_are_their_closed_forms(name: str) -> None:
    for start, end in ((0.0, 0.9), (0.2, 0.97), (0.5, 0.5)):
        for step in (0, 1, 33, 50, 99, 100, 5000):
            assert AT[name](step, 100, start, end) == pytest.approx(TIMED[name](step / 100, start, end), abs=1e-12)
        assert AT[name](100, 100, start, end) == end == AT[name](0, 0, start, end)


def test_geometric_cuts_take_the_same_fraction_of_what_is_left() -> None:
    density = [1 - geometric_sparsity(step, 8, 0.1, 0.9) for step in range(9)]
    assert [b / a for a, b in pairwise(density)] == pytest.approx([(0.1 / 0.9) ** (1 / 8)] * 8)
    with pytest.raises(ConfigError, match="never reaches sparsity 1"):
        geometric_sparsity(1, 8, 0.1, 1.0)


@pytest.mark.parametrize(("ramp_steps", "interval"), [(0, 25), (1, 25), (7, 25), (160, 25), (1000, 25), (1013, 100)])
def test_updates_of_the_mask_are_even_and_end_at_the_end(ramp_steps: int, interval: int) -> None:
    steps = update_steps(ramp_steps, interval)
    gaps = [b - a for a, b in pairwise(steps)]
    assert steps[0] == 0 and steps[-1] == ramp_steps
    assert all(1 <= gap <= interval for gap in gaps) and (not gaps or max(gaps) - min(gaps) <= 1)
    assert len(gaps) >= min(ramp_steps, 16)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", list(TIMED))
def test_counts_are_exact_at_every_step_and_nothing_comes_back(name: str, scope: str) -> None:
    net = network()
    layers = prunable_layers(net)
    # a start that is not dense, the same in both layers
    for layer in layers.values():
        layer.weight_mask.flatten()[: layer.weight.numel() // 8] = 0
    sizes = [layer.weight.numel() for layer in layers.values()]
    seen = watched(net, RampPlan(0.83, schedule=name, scope=scope))  # type: ignore[arg-type]
    total, ramp_steps = 20 * 16, 160
    assert len(seen) == total
    updates = update_steps(ramp_steps)
    for step, mask in enumerate(seen):
        last = max(update for update in updates if update <= step)
        wanted = TIMED[name](last / ramp_steps, 1 / 8, 0.83)
        parts = [mask] if scope == "global" else list(mask.split(sizes))
        assert [int((part == 0).sum()) for part in parts] == [round(wanted * part.numel()) for part in parts]
    assert all(bool((after <= before).all()) for before, after in pairwise(seen))
    assert bool((weights(net)[masks(net) == 0] == 0).all())


@pytest.mark.parametrize("name", list(TIMED))
def test_equal_scores_prune_no_more_than_asked(name: str) -> None:
    net = network()
    plan = RampPlan(0.5, schedule=name, scores=lambda n: {k: torch.ones_like(v.weight) for k, v in layers(n).items()})
    seen = watched(net, plan)
    # under ties the lower indices go first; the share that every layer keeps is all that stands in the way
    n = len(seen[-1])
    assert int((seen[-1] == 0).sum()) == n // 2 and torch.equal(seen[-1][: n // 2], torch.zeros(n // 2))


layers = prunable_layers


@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [32, 512])
@pytest.mark.parametrize("name", list(TIMED))
def test_the_ramp_ends_at_the_sparsity_asked_for(name: str, epochs: int, batch_size: int) -> None:
    net = network()
    history = ramp(net, events(), events(), settings(epochs, batch_size), RampPlan(0.7, schedule=name))
    n = masks(net).numel()
    assert int((masks(net) == 0).sum()) == round(0.7 * n)
    assert bool((weights(net)[masks(net) == 0] == 0).all())
    # the epoch that was kept already had the final mask
    assert history.best.sparsity == pytest.approx(round(0.7 * n) / n)


@pytest.mark.parametrize("ramp_fraction", [0.0, 0.29, 0.8, 1.0])
def test_the_ramp_fills_its_fraction_of_the_epochs(ramp_fraction: float) -> None:
    seen = watched(network(), RampPlan(0.9, schedule="linear", ramp_fraction=ramp_fraction), epochs=10)
    zeros = [int((mask == 0).sum()) for mask in seen]
    end = {0.0: 0, 0.29: 2 * 16, 0.8: 8 * 16, 1.0: 9 * 16}[ramp_fraction]
    assert zeros.index(max(zeros)) == end and zeros[-1] == round(0.9 * seen[0].numel())


@pytest.mark.parametrize("name", ["one_shot", "linear", "geometric", "cubic"])
def test_groups_go_whole_and_in_exact_numbers(name: str) -> None:
    net = network()
    groups = by_rows(net)
    seen = watched(net, RampPlan(0.5, schedule=name, groups=groups))
    updates = update_steps(160)
    for step, mask in enumerate(seen):
        rows = torch.cat(
            [part.reshape(shape).sum(1) for part, shape in zip(mask.split([96, 32]), [(16, 6), (2, 16)], strict=True)]
        )
        assert set(rows.tolist()) <= {0.0, 6.0, 16.0}
        last = max(update for update in updates if update <= step)
        assert int((rows == 0).sum()) == round(TIMED[name](last / 160, 0.0, 0.5) * 18)


def test_scores_of_the_caller_are_summed_over_groups() -> None:
    net = network()
    groups = by_rows(net)
    wanted = torch.randperm(18, generator=torch.Generator().manual_seed(3)).double()

    def scores(n: fx.GraphModule) -> dict[str, Tensor]:
        return {k: wanted[groups.ids[k]] / layer.weight.shape[1] for k, layer in prunable_layers(n).items()}

    ramp(net, events(), events(), settings(2), RampPlan(0.5, groups=groups, scores=scores, scope="layer"))
    removed = removed_groups(net, groups)
    expected = torch.zeros(18, dtype=torch.bool)
    expected[torch.argsort(wanted[:16])[:8]] = True
    expected[16 + int(torch.argmin(wanted[16:]))] = True
    assert torch.equal(removed, expected)


@pytest.mark.parametrize("of_groups", [False, True])
def test_named_layers_get_exactly_theirs_and_the_others_share_the_rest(of_groups: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 2))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    net = quantize_model(model, events().features, FixedPoint(10, 4), bits)
    groups = None
    if of_groups:
        ids, n = {}, 0
        for name, layer in prunable_layers(net).items():
            ids[name] = n + torch.arange(layer.weight.numel()).reshape(layer.weight.shape) // 2
            n = int(ids[name].max()) + 1
        groups = Groups("pairs", ids, n)
    ramp(net, events(), events(), settings(4), RampPlan(0.8, groups=groups, layer_sparsity={"2": 0.35, "0": 0.0}))
    masked = {name: int((layer.weight_mask == 0).sum()) for name, layer in prunable_layers(net).items()}
    unit = 2 if of_groups else 1
    expected = {name: unit * round(s * n / unit) for name, s, n in (("0", 0.0, 120), ("2", 0.35, 320), ("4", 0.8, 32))}
    assert masked == expected
    with pytest.raises(ConfigError, match="'7' is no prunable layer"):
        ramp(net, events(), events(), settings(4), RampPlan(0.9, layer_sparsity={"7": 0.5}))


@pytest.mark.parametrize(("regrow", "interval"), [("none", 25), ("set", 100)])
def test_a_long_ramp_has_short_intervals_and_longer_ones_with_regrowth(regrow: str, interval: int) -> None:
    seen: list[Tensor] = []
    net = network()
    plan = RampPlan(0.9, schedule="linear", regrow=regrow, ramp_fraction=0.8)  # type: ignore[arg-type]
    with before_every_step(lambda _: seen.append(masks(net))):
        ramp(net, events(64), events(64), settings(2000, 64), plan)
    changes = [step for step in range(1, 2000) if not torch.equal(seen[step], seen[step - 1])]
    # every update takes one or two of the 128 weights
    assert changes == list(range(interval, 1601, interval))


def test_a_sparser_network_stays_as_it_is() -> None:
    net = network()
    ramp(net, events(), events(), settings(2), RampPlan(0.8))
    before = masks(net)
    ramp(net, events(), events(), settings(2), RampPlan(0.5))
    assert torch.equal(masks(net), before)


def test_repair_leaves_the_outputs_of_every_layer_at_their_least_error() -> None:
    """Against least squares on the layer's inputs, with the damping as extra rows, for the weights of the hardware."""
    net, plain = network(), network()
    plan = RampPlan(0.6, schedule="one_shot", repair=True)
    data = criterion_events(events(), "classify", 1)
    first = prunable_layers(net)["0"]
    w, b = first.quantized_weight().detach().double(), first.quantized_bias().detach().double()
    steps = torch.tensor([first.weight_type.lsb] * w.shape[1] + [first.bias_type.lsb])
    hessian = layer_hessians(net, ["0"], data)["0"][0]
    repaired: list[Tensor] = []
    handle = first.register_forward_pre_hook(
        lambda *_: (
            repaired.append(torch.cat([first.weight.detach(), first.bias.detach()[:, None]], 1).double().clone())
            if net.training
            else None
        )
    )
    for each, chosen in ((net, plan), (plain, RampPlan(0.6, schedule="one_shot"))):
        ramp(each, events(), events(), settings(1, 512), chosen)
    handle.remove()
    mask = first.weight_mask
    assert torch.equal(mask, prunable_layers(plain)["0"].weight_mask) and 0 < int(mask.sum()) < mask.numel()
    root = torch.linalg.cholesky(hessian).T
    for row in range(16):
        kept = torch.cat([mask[row] != 0, torch.tensor([True])])
        original = torch.cat([w[row], b[row : row + 1]])
        least = torch.linalg.lstsq(root[:, kept], (root @ original).unsqueeze(1)).solution.flatten()
        # on the nearest steps of the grid
        assert bool(((repaired[-1][row, kept] - least).abs() <= steps[kept] / 2 + 1e-6).all())
        assert bool((repaired[-1][row, ~kept] == 0).all())


@pytest.mark.parametrize("criterion", ["magnitude_l1", "obs"])
def test_repair_moves_the_outputs_less(criterion: str) -> None:
    """Inputs that say the same thing three times over: what one loses another can take on."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1000, 2, generator=generator).repeat(1, 3) + 0.3 * torch.randn(1000, 6, generator=generator)
    data = Batches(x, (x[:, 0] > 0).long(), torch.ones(1000))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    fit(model, data, data, settings(30))
    bits = SimpleNamespace(weight_bits=8, activation_bits=8, rounding="AP_TRN")
    trained = quantize_model(model, x, FixedPoint(10, 4), bits)
    # a learning rate of next to nothing: what is measured is the cut
    still = FitSettings("t", 1, 1000, 1e-12, seed=1, weight_decay=0.0)
    moved = {}
    for repair in (False, True):
        net = copy.deepcopy(trained)
        ramp(net, data, data, still, RampPlan(0.6, criterion, schedule="one_shot", repair=repair))
        assert int((masks(net) == 0).sum()) == round(0.6 * masks(net).numel())
        moved[repair] = float(np.mean((predict(net, x) - predict(trained, x)) ** 2))
    assert moved[True] < 0.4 * moved[False]


class Watching:
    """An accumulating criterion: the gradients' absolute values, summed over the steps; it counts what it sees."""

    name = "watching"

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.asked_after: list[int] = []
        self.steps = 0

    @contextmanager
    def watch(self, net: nn.Module) -> Iterator["Watching"]:
        def see(name: str, gradient: Tensor) -> None:
            self.sums[name] = self.sums.get(name, torch.zeros_like(gradient)) + gradient.abs()
            self.steps += name == "0"

        handles = [layer.weight.register_hook(lambda g, name=name: see(name, g)) for name, layer in layers(net).items()]
        yield self
        for handle in handles:
            handle.remove()

    def score(self, net: nn.Module, names: Sequence[str], data: CriterionData | None = None) -> dict[str, Tensor]:
        self.asked_after.append(self.steps)
        return {name: self.sums[name].double() for name in names}


@pytest.fixture
def watching() -> Iterator[Watching]:
    criterion = Watching()
    importance.register_data_criterion(criterion)
    yield criterion
    del importance._WITH_DATA["watching"]


@pytest.mark.parametrize("name", ["linear", "cubic", "geometric"])
def test_criteria_that_gather_while_training_see_every_step(watching: Watching, name: str) -> None:
    net = network()
    ramp(net, events(), events(), settings(8), RampPlan(0.6, criterion="watching", schedule=name))
    assert int((masks(net) == 0).sum()) == round(0.6 * masks(net).numel())
    # nothing is asked before there is something to say, and whenever something goes after that
    counts = {step: round(TIMED[name](step / 64, 0.0, 0.6) * 128) for step in update_steps(64)}
    assert watching.asked_after == [b for a, b in pairwise(counts) if counts[b] > counts[a]]
    assert watching.steps == 8 * 16


@pytest.mark.parametrize("criterion", ["watching", "watching + magnitude_l1"])
def test_a_cut_before_the_first_step_has_no_use_for_them(watching: Watching, criterion: str) -> None:
    for epochs, schedule in ((8, "one_shot"), (1, "cubic")):
        with pytest.raises(ConfigError, match="gathers its scores while training"):
            ramp(network(), events(), events(), settings(epochs), RampPlan(0.6, criterion, schedule=schedule))
    ramp(network(), events(), events(), settings(1), RampPlan(0.6, "magnitude_l1 + wanda", schedule="one_shot"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sparsity": 1.2}, "sparsity 1.2 is outside"),
        ({"sparsity": float("nan")}, "sparsity nan is outside"),
        ({"sparsity": 0.5, "ramp_fraction": -0.1}, "ramp_fraction -0.1"),
        ({"sparsity": 0.5, "layer_sparsity": {"0": 2.0}}, "layer_sparsity of '0' 2.0"),
        ({"sparsity": 0.5, "scope": "solver"}, "scope 'solver'"),
        ({"sparsity": 0.5, "regrow": "dense"}, "regrow 'dense'"),
        ({"sparsity": 0.5, "repair": True}, "repair belongs to a single cut"),
    ],
)
def test_plans_without_meaning_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RampPlan(**options)  # type: ignore[arg-type]


def test_unknown_schedules_are_named() -> None:
    assert set(schedule_names()) == {*TIMED, "adaptive"}
    with pytest.raises(ConfigError, match="did you mean 'cubic'"):
        ramp(network(), events(), events(), settings(1), RampPlan(0.5, schedule="cubik"))


def test_every_part_is_ranked_by_its_own_groups() -> None:
    net = network()
    ids = {"0": torch.arange(96).reshape(16, 6) // 2, "2": 48 + torch.arange(32).reshape(2, 16) // 2}
    groups = Groups("pairs", ids, 64)
    wanted = torch.randperm(64, generator=torch.Generator().manual_seed(3)).double()
    plan = RampPlan(
        0.75, groups=groups, layer_sparsity={"2": 0.25}, scores=lambda n: {name: wanted[i] for name, i in ids.items()}
    )
    ramp(net, events(), events(), settings(4), plan)
    # a quarter of 16 and three quarters of 48, the lowest of each
    expected = torch.zeros(64, dtype=torch.bool)
    expected[48 + torch.argsort(wanted[48:])[:4]] = True
    expected[torch.argsort(wanted[:48])[:36]] = True
    assert torch.equal(removed_groups(net, groups), expected)


def test_a_network_of_frozen_layers_has_nothing_to_prune() -> None:
    net = network()
    for layer in prunable_layers(net).values():
        layer.weight.requires_grad_(False)
    with pytest.raises(ModelError, match="no weight layer to prune"):
        ramp(net, events(), events(), settings(2), RampPlan(0.5))


@pytest.mark.parametrize("regrow", ["set", "rigl"])
def test_gathered_scores_go_with_regrowth(watching: Watching, regrow: str) -> None:
    net = network()
    prunable_layers(net)["0"].weight_mask[:4] = 0
    plan = RampPlan(0.6, criterion="watching", regrow=regrow)  # type: ignore[arg-type]
    ramp(net, events(), events(), settings(8), plan)
    assert int((masks(net) == 0).sum()) == round(0.6 * 128) and 0 not in watching.asked_after
