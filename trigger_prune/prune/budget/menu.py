"""From a quantised network to the solver's menus: what removing more of each layer would cost and save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from trigger_prune.cost.dataflow import live_layers
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.errors import ConfigError
from trigger_prune.prune.budget.estimators import LayerEstimator
from trigger_prune.prune.budget.options import CostVector, EdgeCost, LayerMenu, Option, Problem
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.graph import is_add, is_cat, module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS
from trigger_prune.structure._base import Groups
from trigger_prune.structure.group_masks import mask_groups, removed_groups
from trigger_prune.target import LayerLayout, Target

_FINEST = 0.015
"""The first option removes this part of what is left, the next ones ever larger parts: on a ramp of many solutions the
small steps are the ones that are taken, and near its end they decide how much of the budget stays unused."""

_LEAST_DENSITY = 0.01
"""No option removes more of a layer: what is left of it would be chosen by noise."""

_WIDTHS = ("neuron", "filter", "channel")
"""Structures that change the next layer's inputs."""

_Columns = NDArray[np.int64]


@dataclass(frozen=True)
class Removal:
    """What the removal of each group would do, in float64 ``(count,)``.

    loss    predicted increase of the loss
    price   resource that it would save, in any unit, above zero; within a layer the least loss per price goes first
    """

    loss: Tensor
    price: Tensor


@dataclass(frozen=True)
class MenuSettings:
    """Layouts that a layer may take, as (strategy, reuse factor), and factors by which resources are multiplied.

    ``scale`` holds measured / estimated of what was measured before, by resource.
    """

    layouts: tuple[tuple[str, int], ...]
    scale: Mapping[str, float]


def build_problem(
    network: fx.GraphModule,
    groups: Groups,
    removal: Removal,
    estimator: LayerEstimator,
    target: Target,
    settings: MenuSettings,
) -> Problem:
    """Menus of every weight layer, from its present density down to 1 %, in every layout that it can have.

    Groups that are gone stay gone. Where whole neurons or filters are removed from a chain of layers, the saved
    columns of the next layer are costs on the edge between them.
    Raises ConfigError when a layer can have none of the layouts, naming why the last one is impossible.
    """
    spec = live_spec(network)
    removed = removed_groups(network, groups)
    homes = np.array(groups.home())
    ratio = (removal.loss / removal.price).numpy()
    menus, zeroed = [], {}
    for layer in spec.layers:
        mine = np.flatnonzero(homes == layer.name) if layer.name in groups.ids else np.empty(0, dtype=np.int64)
        left = mine[~removed.numpy()[mine]] if len(mine) else mine
        order = left[np.argsort(ratio[left], kind="stable")]
        options: list[Option] = []
        bare: list[WeightLayer] = []
        for n_kept in _kept_counts(len(mine), len(left)):
            gone = order[: len(left) - n_kept]
            smaller = _without(layer, groups, gone)
            found = _layouts(smaller, len(mine), n_kept, gone, removal, estimator, target, settings)
            options += found
            bare += [smaller] * len(found)
        menus.append(LayerMenu(layer.name, tuple(options)))
        zeroed[layer.name] = bare
    if groups.structure not in _WIDTHS or _branches(network):
        # nothing is charged to the edges, and of branching networks the measured cost corrects the sum; they are there
        # because latency adds up along them
        return Problem(tuple(menus), tuple(EdgeCost(before, after) for before, after in _links(network)))
    edges = []
    for number, (before, after) in enumerate(pairwise(menus), start=1):
        menus[number], edge = _edge(before, zeroed[before.name], after, zeroed[after.name], estimator, target, settings)
        edges.append(edge)
    return Problem(tuple(menus), tuple(edges))


def live_spec(network: fx.GraphModule) -> NetworkSpec:
    """The network as integers, without the weights that no synthesis keeps: rows of neurons that are constant or that
    nothing reads, and the columns that read constants. Of a branching network all weights are kept."""
    spec = describe_network(network)
    if _branches(network):
        return spec
    layers: list[WeightLayer] = []
    dead: NDArray[np.bool_] = np.zeros(1, dtype=np.bool_)
    for live in live_layers(spec):
        weight = np.where(live.alive.reshape(-1, *[1] * (live.layer.weight.ndim - 1)), live.layer.weight, 0)
        columns = _columns(live.layer, dead)
        if columns is not None:
            weight[:, columns] = 0
        layers.append(replace(live.layer, weight=weight))
        dead = ~live.alive
    return replace(spec, layers=tuple(layers))


def _links(network: fx.GraphModule) -> list[tuple[str, str]]:
    """(producer, consumer) of all weight layers between which no other one lies."""
    reached: dict[fx.Node, tuple[str, ...]] = {}
    links = []
    for node in network.graph.nodes:
        before = tuple(dict.fromkeys(name for source in node.all_input_nodes for name in reached[source]))
        if isinstance(module_of(network, node), WEIGHT_LAYERS):
            links += [(name, str(node.target)) for name in before]
            before = (str(node.target),)
        reached[node] = before
    return links


def _branches(network: fx.GraphModule) -> bool:
    return any(is_add(node) or is_cat(node) for node in network.graph.nodes)


def _columns(consumer: WeightLayer, rows: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Columns of a consumer that read the ``rows`` (bool) of its producer; None where that is not known."""
    channels = int(consumer.weight.shape[1])
    if consumer.groups != 1 or channels % len(rows) or not rows.any():
        return None
    return np.repeat(rows, channels // len(rows))


def apply_options(network: fx.GraphModule, groups: Groups, options: Mapping[str, Option]) -> tuple[LayerLayout, ...]:
    """Mask what the chosen options remove, in place; returns every layer's layout."""
    chosen = torch.zeros(groups.count, dtype=torch.bool)
    for option in options.values():
        chosen[torch.from_numpy(option.payload["removed"])] = True
    mask_groups(network, groups, chosen)
    return tuple(option.payload["layout"] for option in options.values())


def _kept_counts(n: int, left: int) -> list[int]:
    """How many groups of a layer the options keep, most first."""
    if not n:
        return [0]
    least = min(left, max(1, math.ceil(_LEAST_DENSITY * n)))
    counts, k = {left}, 0
    while min(counts) > least:
        k += 1
        counts.add(max(least, math.ceil(left * math.exp(-_FINEST * k * (1 + k / 4)))))
    return sorted(counts, reverse=True)


def _without(layer: WeightLayer, groups: Groups, gone: _Columns) -> WeightLayer:
    if not len(gone):
        return layer
    ids = groups.ids[layer.name].cpu().numpy()
    return replace(layer, weight=np.where(np.isin(ids, gone), 0, layer.weight))


def _layouts(
    layer: WeightLayer,
    n: int,
    n_kept: int,
    gone: _Columns,
    removal: Removal,
    estimator: LayerEstimator,
    target: Target,
    settings: MenuSettings,
) -> list[Option]:
    """The layer in every layout that it can have."""
    found, impossible = [], None
    loss = float(removal.loss[torch.from_numpy(gone)].sum()) if len(gone) else 0.0
    for strategy, factor in settings.layouts:
        layout = LayerLayout(layer.name, strategy, factor)
        try:
            cost = _scaled(estimator.layer_cost(layer, layout, target), settings.scale)
        except ConfigError as error:
            impossible = error
            continue
        found.append(
            Option(
                label=f"{n_kept}/{n} {strategy} RF {factor}",
                loss_increase=loss,
                cost=cost,
                output_width=int(np.any(layer.weight.reshape(len(layer.weight), -1), axis=1).sum()),
                sparsity=1.0 - n_kept / n if n else 0.0,
                reuse_factor=factor,
                strategy=strategy,
                payload={"removed": gone, "layout": layout},
            )
        )
    if not found and impossible is not None:
        raise impossible
    return found


def _scaled(cost: CostVector, scale: Mapping[str, float]) -> CostVector:
    return replace(cost, **{name: getattr(cost, name) * factor for name, factor in scale.items()})


def _edge(
    before: LayerMenu,
    producers: list[WeightLayer],
    after: LayerMenu,
    consumers: list[WeightLayer],
    estimator: LayerEstimator,
    target: Target,
    settings: MenuSettings,
) -> tuple[LayerMenu, EdgeCost]:
    """The consumer's menu with the least that every option costs behind any producer, and on the edge what each
    producer's option adds to it: the columns that read its rows."""
    known: dict[bytes, list[CostVector]] = {}
    lines = []
    for producer in producers:
        gone = ~np.any(producer.weight.reshape(len(producer.weight), -1), axis=1)
        if gone.tobytes() not in known:
            known[gone.tobytes()] = [
                _behind(option, consumer, gone, estimator, target, settings)
                for option, consumer in zip(after.options, consumers, strict=True)
            ]
        lines.append(known[gone.tobytes()])
    names = [name for name in vars(lines[0][0]) if name != "ii"]
    tables = {name: np.array([[getattr(cost, name) for cost in line] for line in lines]) for name in names}
    least = {name: table.min(axis=0) for name, table in tables.items()}
    options = tuple(
        replace(option, cost=replace(option.cost, **{name: float(least[name][k]) for name in names}))
        for k, option in enumerate(after.options)
    )
    added = {name: table - least[name] for name, table in tables.items() if np.ptp(table, axis=0).any()}
    return LayerMenu(after.name, options), EdgeCost(before.name, after.name, added)


def _behind(
    option: Option,
    consumer: WeightLayer,
    gone: NDArray[np.bool_],
    estimator: LayerEstimator,
    target: Target,
    settings: MenuSettings,
) -> CostVector:
    """Cost of the consumer without the columns that read ``gone`` rows of its producer."""
    columns = _columns(consumer, gone)
    if columns is None:
        return option.cost
    weight = consumer.weight.copy()
    weight[:, columns] = 0
    return _scaled(
        estimator.layer_cost(replace(consumer, weight=weight), option.payload["layout"], target), settings.scale
    )
