"""Exact counts of removed groups, against a loop that takes one group after the other."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from structure_networks import build
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.layers import QuantConv1d, QuantLinear
from trigger_prune.structure import Groups, structure_by_name
from trigger_prune.structure.group_masks import mask_groups, remove_groups, removed_fraction, removed_groups
from trigger_prune.structure.masks import LAYER_SHARE, Scope, prunable_layers

TYPE = FixedPoint(12, 2, overflow="AP_SAT")
SHAPES = {"0": (4, 3, 2), "1": (5, 4), "2": (3, 5)}


def layers() -> nn.Sequential:
    return nn.Sequential(
        QuantConv1d(nn.Conv1d(3, 4, 2), TYPE, TYPE),
        QuantLinear(nn.Linear(4, 5), TYPE, TYPE),
        QuantLinear(nn.Linear(5, 3), TYPE, TYPE),
    )


def one_by_one(
    groups: Groups, masks: dict[str, NDArray[np.float64]], scores: NDArray[np.float64], fraction: float, scope: Scope
) -> dict[str, NDArray[np.float64]]:
    """The masks after removing group after group, lowest score first, each unless something forbids it."""
    members = [{name: ids.numpy() == number for name, ids in groups.ids.items()} for number in range(groups.count)]
    home = [next(name for name in groups.ids if here[name].any()) for here in members]
    gone = {g for g, here in enumerate(members) if not any((masks[name] * here[name]).any() for name in here)}
    cells = [0] * groups.count if groups.cells is None else groups.cells.tolist()
    limit = [groups.count] if groups.cells is None else groups.removable_per_cell
    result = {name: mask.copy() for name, mask in masks.items()}
    names = list(groups.ids)
    for part in [names] if scope == "global" else [[name] for name in names]:
        wanted = round(fraction * sum(home[g] in part for g in range(groups.count)))
        for g in sorted(range(groups.count), key=lambda g: (scores[g], g)):
            siblings = [o for o in range(groups.count) if home[o] == home[g]]
            least = math.ceil(LAYER_SHARE * (1.0 - fraction) * len(siblings)) if scope == "global" else 0
            in_cell = sum(o in gone for o in range(groups.count) if cells[o] == cells[g])
            most = limit if isinstance(limit, int) else int(limit[cells[g]])
            if (
                g not in gone
                and home[g] in part
                and sum(home[o] in part for o in gone) < wanted
                and (groups.whole_layers or len(siblings) - sum(o in gone for o in siblings) > least)
                and in_cell < most
            ):
                gone.add(g)
    for g in gone:
        for name, here in members[g].items():
            result[name][here] = 0
    return result


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    n_groups=st.integers(2, 30),
    fraction=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 0.99, 1.0]),
    scope=st.sampled_from(["global", "layer"]),
    tied=st.booleans(),
    n_cells=st.integers(0, 6),
    already=st.sampled_from([0.0, 0.4, 0.9]),
)
def test_removing_groups_is_the_loop_over_single_groups(
    seed: int, n_groups: int, fraction: float, scope: Scope, tied: bool, n_cells: int, already: float
) -> None:
    """Any groups, over several layers too, with weights in none, with ties, with cells, with weights already gone."""
    rng = np.random.default_rng(seed)
    flat = rng.integers(-1, n_groups, size=sum(math.prod(shape) for shape in SHAPES.values()))
    found = np.unique(flat[flat >= 0])
    flat = np.where(flat >= 0, np.searchsorted(found, flat), -1)
    parts = np.split(flat, np.cumsum([math.prod(shape) for shape in SHAPES.values()])[:-1])
    ids = {name: torch.from_numpy(part.reshape(SHAPES[name])) for name, part in zip(SHAPES, parts, strict=True)}
    cells = limits = None
    if n_cells:
        cells = torch.from_numpy(rng.integers(0, n_cells, size=len(found)))
        limits = torch.from_numpy(rng.integers(0, 4, size=n_cells)) if n_cells % 2 else int(rng.integers(0, 4))
    groups = Groups("any", ids, len(found), cells=cells, removable_per_cell=limits)
    scores = rng.integers(0, 3, size=len(found)).astype(float) if tied else rng.normal(size=len(found))
    network = layers()
    for layer in prunable_layers(network).values():
        layer.weight_mask.copy_(torch.from_numpy((rng.random(tuple(layer.weight.shape)) >= already).astype("float32")))
    before = {name: layer.weight_mask.numpy().copy() for name, layer in prunable_layers(network).items()}
    remove_groups(network, groups, torch.from_numpy(scores), fraction, scope)
    wanted = one_by_one(groups, before, scores, fraction, scope)
    for name, layer in prunable_layers(network).items():
        assert np.array_equal(layer.weight_mask.numpy(), wanted[name]), name


OPTIONS = {"dsp": {"reuse_factor": 2}, "bram": {"reuse_factor": 2}, "block": {"rows": 2, "columns": 3}}


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("network_name", "structure"),
    [
        *[("mlp", name) for name in ("weight", "block", "n_m", "dsp", "bram", "neuron", "input")],
        *[("residual", name) for name in ("weight", "neuron", "input")],
        *[("residual conv", name) for name in ("block", "filter", "neuron")],
        *[("sets", name) for name in ("weight", "filter", "input")],
    ],
)
def test_every_structure_loses_exactly_what_is_asked(
    network_name: str, structure: str, tied: bool, scope: Scope
) -> None:
    torch.manual_seed(5)
    groups = structure_by_name(structure, **OPTIONS.get(structure, {})).groups(build(network_name))
    scores = torch.zeros(groups.count) if tied else torch.rand(groups.count)
    home = np.array(groups.home())
    for fraction in (0.0, 0.2, 0.35, 0.5):
        network = build(network_name)
        masks = {name: prunable_layers(network)[name].weight_mask.numpy().copy() for name in groups.ids}
        wanted = one_by_one(groups, masks, scores.double().numpy(), fraction, scope)
        remove_groups(network, groups, scores, fraction, scope)
        for name, layer in prunable_layers(network).items():
            assert np.array_equal(layer.weight_mask.numpy(), wanted.get(name, np.ones(layer.weight.shape)))
        # 2 of 4 at half: the six inputs of the last layer are a cell of four and one of two, which loses none
        room = {"6": 6} if structure == "n_m" else {}
        counts = {name: round(fraction * int((home == name).sum())) for name in groups.ids}
        counts = {name: min(count, room.get(name, count)) for name, count in counts.items()}
        asked = round(fraction * groups.count)
        n_removed = min(asked, 72 + 6 if structure == "n_m" else asked) if scope == "global" else sum(counts.values())
        assert int(removed_groups(network, groups).sum()) == n_removed
        assert removed_fraction(network, groups) == pytest.approx(n_removed / groups.count, abs=1e-12)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_removal_only_grows(scope: Scope) -> None:
    network = build("residual")
    groups = structure_by_name("neuron").groups(network)
    generator = torch.Generator().manual_seed(1)
    seen: list[Tensor] = []
    for fraction in (0.2, 0.5, 0.3, 0.7):
        remove_groups(network, groups, torch.rand(groups.count, generator=generator), fraction, scope)
        seen.append(removed_groups(network, groups))
    assert all(bool((later | ~earlier).all()) for earlier, later in pairwise(seen))
    assert torch.equal(seen[1], seen[2])


def test_a_partly_masked_group_is_not_removed_and_home_is_the_first_layer() -> None:
    network = build("residual")
    groups = structure_by_name("neuron").groups(network)
    prunable_layers(network)["left"].weight_mask[0] = 0
    assert not bool(removed_groups(network, groups).any())
    assert groups.home() == ["left"] * 6 + ["inner"] * 4
    mask_groups(network, groups, torch.arange(10) == 0)
    for name in ("left", "right", "back"):
        mask = prunable_layers(network)[name].weight_mask
        assert not bool(mask[0].any()) and bool(mask[1:].all())


def test_groups_of_a_million_weights_are_numbered_once_each() -> None:
    """Every group of a large layer is found again: nothing overflows and nothing is counted twice."""
    network = nn.Sequential(QuantLinear(nn.Linear(1000, 1000), TYPE, TYPE))
    groups = structure_by_name("n_m").groups(network)
    remove_groups(network, groups, torch.arange(groups.count) % 7, 0.5, "global")
    mask = prunable_layers(network)["0"].weight_mask
    assert groups.count == 1_000_000 and int(mask.sum()) == 500_000
    assert bool((mask.reshape(1000, 250, 4).sum(dim=2) == 2).all())


def test_wrong_requests_are_named() -> None:
    network = layers()
    groups = structure_by_name("weight").groups(network)
    with pytest.raises(ModelError, match=r"fraction of 1\.2"):
        remove_groups(network, groups, torch.zeros(groups.count), 1.2, "global")
    with pytest.raises(ModelError, match=r"\(3,\) scores for 59 groups"):
        remove_groups(network, groups, torch.zeros(3), 0.5, "global")
    with pytest.raises(ModelError, match="1 scores of structure 'weight' are NaN"):
        scores = torch.zeros(groups.count)
        scores[4] = torch.nan
        remove_groups(network, groups, scores, 0.5, "global")
    ids = {"1": torch.zeros(5, 4, dtype=torch.int64)}
    with pytest.raises(ModelError, match="of 2 groups some have no weight"):
        Groups("any", ids, 2)
    with pytest.raises(ModelError, match="group beyond 0"):
        Groups("any", {"1": ids["1"] + 1}, 1)
    with pytest.raises(ModelError, match="come together"):
        Groups("any", ids, 1, cells=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ModelError, match="2 limits for cell 2"):
        Groups("any", ids, 1, cells=torch.tensor([2]), removable_per_cell=torch.tensor([1, 1]))
