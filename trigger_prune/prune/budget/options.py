"""The budget problem: a menu of options per layer, costs on layers and on the edges between them.

A choice of neurons or activation bits in one layer changes the inputs of the next. What a layer costs is therefore its
own cost (a function of its own option) plus one table per incoming edge, cost[producer option, consumer option]. With
several producers (a residual sum, a concatenation) the tables add, which is exact for the columns of a matrix product.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from trigger_prune.errors import ConfigError

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CostVector:
    """Cost of an option, of an edge entry or of a plan; the names are those of ``target.Budget``.

    ``latency_cycles`` adds along a path and the longest path counts; ``ii`` (initiation interval, cycles) is the
    largest anywhere; everything else adds over all layers and edges. The run times (microseconds on a processor) add
    over parallel branches too, because a processor runs the layers one after another.
    """

    lut: float = 0.0
    ff: float = 0.0
    dsp: float = 0.0
    bram18: float = 0.0
    uram: float = 0.0
    latency_cycles: float = 0.0
    ii: float = 0.0
    latency_p99_us: float = 0.0
    event_time_us: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not np.isfinite(value):
                raise ConfigError(f"the cost {name} = {value} is not finite")
        if self.latency_cycles < 0 or self.ii < 0:
            raise ConfigError(f"latency {self.latency_cycles} or II {self.ii} is negative")


RESOURCES: tuple[str, ...] = tuple(field.name for field in fields(CostVector))
ADDITIVE: tuple[str, ...] = tuple(name for name in RESOURCES if name not in ("latency_cycles", "ii"))
"""Resources that add over layers and edges, whatever the graph."""


@dataclass(frozen=True)
class Option:
    """One way to build one layer.

    ``loss_increase`` is what the network's loss grows by if only this layer is changed (any unit, the same for all
    layers; it may be negative). ``cost`` is the layer's own cost, without what depends on its producers' options.
    ``payload`` carries whatever the caller needs to apply the option; the solver does not look at it.
    """

    label: str
    loss_increase: float
    cost: CostVector = CostVector()
    output_width: int | None = None
    weight_bits: float | None = None
    output_bits: float | None = None
    sparsity: float | None = None
    reuse_factor: int | None = None
    strategy: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not np.isfinite(self.loss_increase):
            raise ConfigError(f"option {self.label!r}: the loss increase {self.loss_increase} is not finite")


@dataclass(frozen=True)
class LayerMenu:
    """The options of one layer. Raises ConfigError for an empty menu."""

    name: str
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise ConfigError(f"layer {self.name!r} has an empty menu", hint="offer at least the unchanged layer")


@dataclass(frozen=True, eq=False)
class EdgeCost:
    """What the consumer costs on top of its own cost, given the producer's option.

    ``cost`` maps a resource to a table [producer option, consumer option]; a missing resource costs nothing.
    """

    producer: str
    consumer: str
    cost: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Problem:
    """Menus on a directed acyclic graph. Layers without a common edge do not influence each other's cost.

    ``equal_width``: groups of layers whose chosen ``output_width`` must agree (the summands of a residual sum).
    Raises ConfigError for unknown or doubled names, a table of the wrong shape or not finite, and a cycle.
    """

    menus: tuple[LayerMenu, ...]
    edges: tuple[EdgeCost, ...] = ()
    equal_width: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        sizes = {menu.name: len(menu.options) for menu in self.menus}
        if not sizes:
            raise ConfigError("the budget problem has no layers")
        if len(sizes) < len(self.menus):
            raise ConfigError(f"two menus have the same layer name: {sorted(menu.name for menu in self.menus)}")
        seen = set()
        for edge in self.edges:
            where = f"edge {edge.producer} -> {edge.consumer}"
            for name in (edge.producer, edge.consumer):
                if name not in sizes:
                    raise ConfigError(f"{where}: there is no menu of layer {name!r}")
            if (edge.producer, edge.consumer) in seen:
                raise ConfigError(f"{where} is given twice", hint="add the two tables into one edge")
            seen.add((edge.producer, edge.consumer))
            shape = (sizes[edge.producer], sizes[edge.consumer])
            for resource, table in edge.cost.items():
                if resource not in RESOURCES:
                    raise ConfigError(f"{where}: {resource!r} is no resource", hint=f"one of {', '.join(RESOURCES)}")
                if np.shape(table) != shape or not np.isfinite(table).all():
                    raise ConfigError(f"{where}: the table of {resource} is not a finite table of shape {shape}")
                if resource not in ADDITIVE and np.min(table) < 0:
                    raise ConfigError(f"{where}: the table of {resource} holds a negative number of cycles")
        by_name = {menu.name: menu for menu in self.menus}
        for group in self.equal_width:
            for name in group:
                if name not in sizes:
                    raise ConfigError(f"equal width {group}: there is no menu of layer {name!r}")
                if any(option.output_width is None for option in by_name[name].options):
                    raise ConfigError(f"equal width {group}: an option of {name!r} states no output_width")
        self.order()

    def order(self) -> tuple[str, ...]:
        """Layer names, producers before their consumers; else in the order of the menus."""
        position = {menu.name: number for number, menu in enumerate(self.menus)}
        missing = dict.fromkeys(position, 0)
        consumers: dict[str, list[str]] = {name: [] for name in position}
        for edge in self.edges:
            missing[edge.consumer] += 1
            consumers[edge.producer].append(edge.consumer)
        ready = [number for name, number in position.items() if not missing[name]]
        done: list[str] = []
        while ready:
            done.append(self.menus[heapq.heappop(ready)].name)
            for name in consumers[done[-1]]:
                missing[name] -= 1
                if not missing[name]:
                    heapq.heappush(ready, position[name])
        if len(done) < len(position):
            raise ConfigError(f"the edges form a cycle through {sorted(position.keys() - set(done))}")
        return tuple(done)


def edge_cost(producer: LayerMenu, consumer: LayerMenu, cost: Callable[[Option, Option], CostVector]) -> EdgeCost:
    """Table the function ``cost(producer option, consumer option)`` over both menus."""
    entries = [[cost(before, after) for after in consumer.options] for before in producer.options]
    tables = {}
    for resource in RESOURCES:
        table = np.array([[getattr(entry, resource) for entry in row] for row in entries], dtype=np.float64)
        if table.any():
            tables[resource] = table
    return EdgeCost(producer.name, consumer.name, tables)
