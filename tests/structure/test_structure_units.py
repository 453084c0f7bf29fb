"""Neurons and filters against a numeric oracle and against torch-pruning's dependency graph."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import torch_pruning
from structure_networks import NETWORKS, Source, build, coupled_sources, mlp, quantised
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import QuantLinear, weight_layers
from trigger_prune.structure import Groups, structure_by_name
from trigger_prune.structure.coupling import follow
from trigger_prune.structure.masks import prunable_layers


def rows_of(groups: Groups) -> list[frozenset[Source]]:
    """The outputs of each group; every weight of an output must be in the same group."""
    result: list[set[Source]] = [set() for _ in range(groups.count)]
    for name, ids in groups.ids.items():
        for row, own in enumerate(ids.flatten(1).tolist()):
            assert len(set(own)) == 1
            if own[0] >= 0:
                result[own[0]].add((name, row))
    return [frozenset(rows) for rows in result]


def expected(name: str, *, convolutions: bool) -> set[frozenset[Source]]:
    network = build(name)
    layers = weight_layers(network)
    units, kept = coupled_sources(network, NETWORKS[name][1])
    result = set()
    for unit in units:
        rows = {(layer, row) for layer, row in unit if layer and layers[layer].weight.requires_grad}
        has_conv = any(not isinstance(layers[layer], QuantLinear) for layer, _ in rows)
        from_input = any(not layer for layer, _ in unit)
        if rows and not unit & kept and not from_input and has_conv == convolutions:
            result.add(frozenset(rows))
    return result


@pytest.mark.parametrize("structure", ["neuron", "filter"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_coupled_is_one_group(name: str, structure: str) -> None:
    wanted = expected(name, convolutions=structure == "filter")
    if not wanted:
        with pytest.raises(ModelError, match="nothing can be removed"):
            structure_by_name(structure).groups(build(name))
        return
    groups = structure_by_name(structure).groups(build(name))
    rows = rows_of(groups)
    assert set(rows) == wanted and len(rows) == len(wanted)
    order = {(layer, row): place for place, (layer, row) in enumerate(
        (layer, row) for layer, module in prunable_layers(build(name)).items() for row in range(len(module.weight))
    )}  # fmt: skip
    firsts = [min(order[source] for source in group) for group in rows]
    assert firsts == sorted(firsts)


def test_the_oracle_itself_on_a_network_coupled_by_hand() -> None:
    groups = structure_by_name("neuron").groups(build("residual"))
    wanted = {frozenset({("left", i), ("right", i), ("back", i)}) for i in range(6)}
    assert set(rows_of(groups)) == wanted | {frozenset({("inner", i)}) for i in range(4)}
    filters = rows_of(structure_by_name("filter").groups(build("grouped")))
    halves = [
        frozenset({("0", 2 * h), ("0", 2 * h + 1)} | {("2", 3 * h + i) for i in range(3)}
                  | {("4", 6 * h + i) for i in range(6)}) for h in range(2)
    ]  # fmt: skip
    assert filters == [*halves, *[frozenset({("6", i)}) for i in range(5)]]


class Plain(nn.Module):
    """A float network whose dependencies torch-pruning can follow: pooling, sums, a depthwise layer, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.point = nn.Conv2d(4, 4, 1)
        self.pool, self.flat = nn.MaxPool2d(2), nn.Flatten()
        self.one, self.two, self.head = nn.Linear(16, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(y + self.point(torch.relu(self.deep(y))))
        y = torch.relu(self.one(self.flat(self.pool(y))))
        return self.head(torch.relu(y + self.two(y)))


def test_groups_are_those_of_torch_pruning() -> None:
    torch.manual_seed(0)
    plain = Plain()
    network = quantised(copy.deepcopy(plain), 2, 4, 4)
    graph = torch_pruning.DependencyGraph().build_dependency(plain, torch.randn(1, 2, 4, 4))
    outputs = (torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels,
               torch_pruning.prune_depthwise_conv_out_channels)  # fmt: skip
    names = {module: name for name, module in plain.named_modules()}
    wanted = set()
    for module, name in names.items():
        if name == "head" or not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        rule = outputs[2] if getattr(module, "groups", 1) > 1 else outputs[isinstance(module, nn.Linear)]
        for row in range(len(module.weight)):
            group = graph.get_pruning_group(module, rule, [row])
            wanted.add(frozenset((names[step.target.module], row) for step, where in group
                                 if step.handler in outputs and where == [row]))  # fmt: skip
    got = rows_of(structure_by_name("filter").groups(network)) + rows_of(structure_by_name("neuron").groups(network))
    assert set(got) == wanted and len(got) == len(wanted) == 4 + 5


def test_the_output_and_frozen_layers_are_never_in_a_group() -> None:
    network = build("mlp")
    assert list(structure_by_name("neuron").groups(network).ids) == ["0", "2", "4"]
    network.get_submodule("2").weight.requires_grad_(False)
    assert list(structure_by_name("neuron").groups(network).ids) == ["0", "4"]
    sets = build("sets")
    assert list(structure_by_name("filter").groups(sets).ids) == ["0"]


class FrozenSummand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trained, self.fixed, self.free = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)
        self.head = nn.Linear(2, 2)
        self.fixed.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.free(torch.relu(self.trained(x) + self.fixed(x)))))


def test_a_neuron_added_to_a_frozen_one_stays() -> None:
    assert rows_of(structure_by_name("neuron").groups(quantised(FrozenSummand(), 4))) == [
        frozenset({("free", 0)}),
        frozenset({("free", 1)}),
    ]


def test_impossible_networks_are_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match="0: it is an output of the network"):
        structure_by_name("neuron").groups(quantised(nn.Sequential(nn.Linear(4, 3)), 4))
    with pytest.raises(ModelError, match="no layer is of this kind"):
        structure_by_name("filter").groups(build("mlp"))
    sequence = nn.Sequential(*build("mlp").children())
    with pytest.raises(ModelError, match="Sequential is no graph"):
        structure_by_name("neuron").groups(sequence)
    for parameter in sequence.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ModelError, match="no quantised weight layer to prune"):
        structure_by_name("neuron").groups(sequence)
    with pytest.raises(ModelError, match="no quantised weight layer to prune"):
        structure_by_name("weight").groups(mlp())


def test_following_the_graph_leaves_the_network_alone() -> None:
    network = build("residual conv")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    metas = [dict(node.meta) for node in network.graph.nodes]
    structure_by_name("filter").groups(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [dict(node.meta) for node in network.graph.nodes] == metas
    assert network.training


def test_channel_is_another_name_of_filter() -> None:
    one, other = structure_by_name("channel").groups(build("sets")), structure_by_name("filter").groups(build("sets"))
    assert one.structure == "filter" and torch.equal(one.ids["0"], other.ids["0"])


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(2, 3), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [torch.relu(self.first(x[:, :3])), torch.relu(self.second(x[:, 3:]))]
        result: torch.Tensor = self.last(torch.cat(parts, dim=1))
        return result


def test_neurons_are_followed_through_the_parts_of_the_input() -> None:
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    torch.manual_seed(0)
    events = torch.randn(200, 5).mul(8).round().div(8)
    network = quantize_model(_TwoInputs(), events, FixedPoint(8, 4), bits)
    coupling = follow(network)
    assert coupling.columns["first"].tolist() == coupling.inputs[:3].tolist()
    assert coupling.columns["second"].tolist() == coupling.inputs[3:].tolist()
    assert coupling.columns["last"].tolist() == [*coupling.rows["first"], *coupling.rows["second"]]
