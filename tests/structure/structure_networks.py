"""Networks of every topology that the toolkit quantises, and a numeric oracle of what is coupled in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.deep_sets import mean_over_positions
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import QuantLinear, weight_layers

INPUT = FixedPoint(16, 6)


class Bits:
    weight_bits, activation_bits, rounding = 14, 14, "AP_RND_CONV"


def quantised(model: nn.Module, *shape: int) -> fx.GraphModule:
    torch.manual_seed(1)
    return quantize_model(model, INPUT.fake_quantize(torch.randn(64, *shape)), INPUT, Bits())


class Residual(nn.Module):
    """A sum of two layers feeds a block whose output is added to that sum, and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 6), nn.Linear(5, 6)
        self.inner, self.back, self.head = nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.left(x) + self.right(x))
        return self.head(torch.relu(x + self.back(torch.relu(self.inner(x)))))


class Branches(nn.Module):
    """Two branches side by side, one of them also read by a third layer; one output is a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 3), nn.Linear(4, 5), nn.Linear(3, 2)
        self.head, self.short = nn.Linear(10, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.a(x)), torch.relu(self.b(x))
        return self.head(torch.cat([a, b, torch.relu(self.c(a))], dim=1)) + self.short(x)


class FromInput(nn.Module):
    """The input itself is added to a layer and concatenated with another."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.wide, self.head = nn.Linear(4, 4), nn.Linear(4, 6), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([torch.relu(self.same(x) + x), torch.relu(self.wide(x))], dim=1))


class ResidualConv(nn.Module):
    """Depthwise convolution, residual sum, pooling, and a flattened sum of a convolution and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.point = nn.Conv2d(4, 4, 1)
        self.pool, self.flat = nn.MaxPool2d(2), nn.Flatten()
        self.side, self.dense, self.head = nn.Linear(2 * 16, 16), nn.Linear(16, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(y + self.point(torch.relu(self.deep(y))))
        y = self.flat(self.pool(y)) + self.side(self.flat(x))
        return self.head(torch.relu(self.dense(torch.relu(y))))


class Joined(nn.Module):
    """A concatenation that a third layer is added to, and another one along the positions of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.next, self.flat = nn.Conv1d(3, 2, 2), nn.Flatten()
        self.one, self.two = nn.Conv1d(2, 3, 2), nn.Conv1d(2, 3, 3)
        self.a, self.b, self.c, self.head = nn.Linear(8, 3), nn.Linear(8, 5), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([torch.relu(self.one(x)), torch.relu(self.two(x))], dim=-1)
        y = self.flat(torch.relu(self.next(y)))
        return self.head(torch.relu(torch.cat([self.a(y), self.b(y)], dim=1) + self.c(y)))


def grouped() -> nn.Module:
    """A convolution in two groups, and a depthwise one with two filters per channel."""
    return nn.Sequential(
        nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Conv1d(4, 6, 3, groups=2), nn.ReLU(),
        nn.Conv1d(6, 12, 2, groups=6), nn.ReLU(), nn.Conv1d(12, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(15, 2),
    )  # fmt: skip


def sets() -> nn.Module:
    """Per-particle layers, a frozen mean over particles, and layers on the mean."""
    return nn.Sequential(
        nn.Conv1d(3, 6, 1), nn.ReLU(), mean_over_positions(6, 5), nn.Flatten(), nn.Linear(6, 4), nn.ReLU(),
        nn.Linear(4, 3),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (4,)),
    "residual": (Residual, (5,)),
    "branches": (Branches, (4,)),
    "from input": (FromInput, (4,)),
    "residual conv": (ResidualConv, (2, 4, 4)),
    "joined": (Joined, (2, 4)),
    "grouped": (grouped, (3, 7)),
    "sets": (sets, (3, 5)),
}


def build(name: str) -> fx.GraphModule:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    return quantised(make(), *shape)


Source = tuple[str, int]
"""A layer and its output; layer ``""`` for the network's (flat) inputs."""


def coupled_sources(network: fx.GraphModule, shape: tuple[int, ...]) -> tuple[list[set[Source]], set[Source]]:
    """What is coupled, found by changing one output of one layer after the other while all other layers stand still.

    Two outputs that reach the same column of some layer are one unit; so are the two sides of a grouped convolution.
    Returns the units and the outputs that reach the output of the network or belong to a frozen full layer.
    """
    layers = weight_layers(network)
    torch.manual_seed(3)
    events = INPUT.fake_quantize(torch.randn(32, *shape))
    seen: dict[str, Tensor] = {}
    base: dict[str, Tensor] = {}
    change: dict[str, Any] = {}

    def before(name: str) -> Any:
        return lambda module, args: seen.__setitem__(name, args[0].detach().clone())

    def after(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            if name not in base:
                base[name] = output.detach().clone()
            result = base[name].clone()
            if change.get("layer") == name:
                result[:, change["row"]] += change["by"]
            return result

        return hook

    handles = [layer.register_forward_pre_hook(before(name)) for name, layer in layers.items()]
    handles += [layer.register_forward_hook(after(name)) for name, layer in layers.items()]
    with torch.no_grad():
        plain_output = network(events)
        plain = {name: value.clone() for name, value in seen.items()}

        def reached(run_on: Tensor) -> tuple[set[Source], bool]:
            output = network(run_on)
            columns = {
                (name, column)
                for name in layers
                for column in range(plain[name].shape[1])
                if not torch.equal(plain[name][:, column], seen[name][:, column])
            }
            return columns, not torch.equal(output, plain_output)

        reach: dict[Source, set[Source]] = {}
        kept: set[Source] = set()
        for name, layer in layers.items():
            for row in range(layer.weight.shape[0]):
                source = (name, row)
                reach[source] = set()
                for by in (-3.0, 3.0):
                    change.update(layer=name, row=row, by=by)
                    columns, is_output = reached(events)
                    reach[source] |= columns
                    kept |= {source} if is_output else set()
                if not layer.weight.requires_grad and getattr(layer, "groups", 1) == 1:
                    kept.add(source)
        change.clear()
        for index in range(events[0].numel()):
            source, changed = ("", index), events.clone()
            changed.view(len(events), -1)[:, index] += 2.0
            columns, is_output = reached(changed)
            reach[source] = columns
            kept |= {source} if is_output else set()
    for handle in handles:
        handle.remove()

    units: list[tuple[set[Source], set[Source]]] = []
    together = [({source}, columns) for source, columns in reach.items()]
    for name, layer in layers.items():
        groups = 1 if isinstance(layer, QuantLinear) else layer.groups
        for group in range(groups if groups > 1 else 0):
            n_in, n_out = layer.weight.shape[1], layer.weight.shape[0] // groups
            rows = {(name, row) for row in range(group * n_out, (group + 1) * n_out)}
            together.append((rows, {(name, column) for column in range(group * n_in, (group + 1) * n_in)}))
    for sources, columns in together:
        merged = (set(sources), set(columns))
        for unit in [unit for unit in units if unit[0] & sources or unit[1] & columns]:
            merged = (merged[0] | unit[0], merged[1] | unit[1])
            units.remove(unit)
        units.append(merged)
    return [sources for sources, _ in units], kept
