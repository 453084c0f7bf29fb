"""Weight, block and N:M against their definitions, weight by weight."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from structure_networks import build
from torch import nn

from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.layers import QuantConv1d, QuantConv2d, QuantLinear
from trigger_prune.structure import Groups, structure_by_name, structure_names
from trigger_prune.structure.group_masks import remove_groups
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.structure.numbering import without_gaps

TYPE = FixedPoint(12, 2, overflow="AP_SAT")


def layers() -> nn.Sequential:
    frozen = QuantLinear(nn.Linear(4, 4), TYPE, TYPE)
    frozen.weight.requires_grad_(False)
    return nn.Sequential(
        QuantConv2d(nn.Conv2d(7, 5, (3, 2)), TYPE, TYPE),
        frozen,
        QuantLinear(nn.Linear(9, 6), TYPE, TYPE),
        QuantConv1d(nn.Conv1d(4, 4, 3, groups=2), TYPE, TYPE),
    )


def partition(groups: Groups) -> list[set[tuple[str, tuple[int, ...]]]]:
    result: list[set[tuple[str, tuple[int, ...]]]] = [set() for _ in range(groups.count)]
    for name, ids in groups.ids.items():
        for index in itertools.product(*map(range, ids.shape)):
            if ids[index] >= 0:
                result[int(ids[index])].add((name, index))
    return result


def test_every_trained_weight_is_a_group() -> None:
    groups = structure_by_name("weight").groups(layers())
    found = partition(groups)
    assert all(len(group) == 1 for group in found)
    assert groups.count == 5 * 7 * 3 * 2 + 6 * 9 + 4 * 2 * 3
    assert list(groups.ids) == ["0", "2", "3"]
    flat = torch.cat([ids.flatten() for ids in groups.ids.values()])
    assert torch.equal(flat, torch.arange(groups.count))


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (1, 1), (2, 3), (100, 5), (1, 1000)])
def test_blocks_tile_the_matrix(rows: int, columns: int) -> None:
    groups = structure_by_name("block", rows=rows, columns=columns).groups(layers())
    wanted = []
    for name, layer in prunable_layers(layers()).items():
        shape = tuple(layer.weight.shape)
        n_columns = math.prod(shape[1:])
        matrix = [[(name, index) for index in itertools.product([row], *map(range, shape[1:]))]
                  for row in range(shape[0])]  # fmt: skip
        for top in range(0, shape[0], rows):
            for left in range(0, n_columns, columns):
                wanted.append({place for row in matrix[top : top + rows] for place in row[left : left + columns]})
    assert partition(groups) == wanted


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (3, 8), (5, 16)])
def test_cells_are_consecutive_inputs_at_one_place_of_the_kernel(n: int, m: int) -> None:
    groups = structure_by_name("n_m", n=n, m=m).groups(layers())
    assert groups.cells is not None and isinstance(groups.removable_per_cell, torch.Tensor)
    found: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for members, cell in zip(partition(groups), groups.cells.tolist(), strict=True):
        found.setdefault(cell, []).append(members.pop())
    wanted = {}
    for name, layer in prunable_layers(layers()).items():
        shape = tuple(layer.weight.shape)
        for row, *kernel in itertools.product(range(shape[0]), *map(range, shape[2:])):
            for start in range(0, shape[1], m):
                stop = min(start + m, shape[1])
                wanted[frozenset((name, (row, i, *kernel)) for i in range(start, stop))] = max(0, stop - start - n)
    assert {frozenset(places): int(groups.removable_per_cell[cell]) for cell, places in found.items()} == wanted
    assert sum(map(len, found.values())) == groups.count


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2)])
def test_the_end_of_n_of_m_is_exactly_n_of_every_m(n: int, m: int, scope: str) -> None:
    """Also where a whole layer scores higher than all others, and in the smaller cells at the end of a row."""
    network = layers()
    groups = structure_by_name("n_m", n=n, m=m).groups(network)
    scores = torch.rand(groups.count, generator=torch.Generator().manual_seed(0))
    scores[groups.ids["2"].flatten()] += 10
    remove_groups(network, groups, scores, 1 - n / m, scope)  # type: ignore[arg-type]
    if scope == "layer":
        remove_groups(network, groups, scores, 1.0, scope)
    else:
        remove_groups(network, groups, scores, 0.999, "global")
    for layer in prunable_layers(network).values():
        mask, weights = layer.weight_mask, layer.weight.shape[1]
        for start in range(0, weights, m):
            kept = mask[:, start : start + m].sum(dim=1)
            assert bool((kept == min(n, min(start + m, weights) - start)).all())


def test_half_of_a_network_of_full_cells_is_two_of_four_at_once() -> None:
    network = nn.Sequential(*[QuantLinear(nn.Linear(16, 8), TYPE, TYPE) for _ in range(3)])
    groups = structure_by_name("n_m").groups(network)
    scores = torch.rand(groups.count, generator=torch.Generator().manual_seed(1))
    remove_groups(network, groups, scores, 0.5, "global")
    for number, layer in enumerate(network):
        cells = scores[128 * number : 128 * (number + 1)].reshape(8, 4, 4)
        best = cells >= cells.sort(dim=2).values[..., 2:3]
        assert torch.equal(layer.weight_mask.bool(), best.reshape(8, 16))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("block", {"rows": 0}, "rows is 0"),
        ("block", {"columns": 2.5}, "columns is 2.5"),
        ("n_m", {"n": 4, "m": 4}, "keep 4 of every 4"),
        ("n_m", {"n": 0}, "keep 0 of every 4"),
        ("n_m", {"m": "4"}, "'4' is no integer"),
        ("blok", {}, "did you mean 'block'"),
        ("weight", {"rows": 4}, "its options: none"),
        ("dsp", {}, "its options: reuse_factor"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        structure_by_name(name, **options)


def test_every_structure_is_known_by_its_name() -> None:
    assert structure_names() == (
        "block", "bram", "channel", "dsp", "filter", "head", "input", "layer", "n_m", "neuron", "weight"
    )  # fmt: skip
    for name in set(structure_names()) - {"channel"}:
        options = {"reuse_factor": 1} if name in ("dsp", "bram") else {}
        assert structure_by_name(name, **options).name == name


def test_a_graph_and_a_plain_module_part_alike() -> None:
    network = build("mlp")
    plain = nn.Sequential(*[network.get_submodule(name) for name in ("0", "2", "4", "6")])
    for name in ("weight", "block", "n_m"):
        one, other = structure_by_name(name).groups(network), structure_by_name(name).groups(plain)
        assert [ids.tolist() for ids in one.ids.values()] == [ids.tolist() for ids in other.ids.values()]


def test_numbers_follow_the_first_occurrence_of_a_mark() -> None:
    marks = {"a": torch.tensor([7, -1, 3]), "b": torch.tensor([-1, -1]), "c": torch.tensor([5, 3, 0, 7])}
    ids, count = without_gaps(marks)
    assert {name: values.tolist() for name, values in ids.items()} == {"a": [0, -1, 1], "c": [2, 1, 3, 0]}
    assert count == 4 and without_gaps({"b": marks["b"]}) == ({}, 0)
