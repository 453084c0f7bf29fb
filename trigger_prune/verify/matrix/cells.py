"""The cells of the matrix, and the target each of them asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from torch import fx

from trigger_prune.cost.hls.reuse_factor import allowed_reuse_factors, nearest_reuse_factor
from trigger_prune.export.support import BACKENDS, IO_TYPES, STRATEGIES
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.target import LayerLayout, Target

WISHED_REUSE = 4
"""Reuse factor that Resource and Resource_Unrolled take where the layer allows it, else the nearest above 1."""


@dataclass(frozen=True)
class Cell:
    """One way to build a network."""

    backend: str
    io_type: str
    strategy: str

    def __str__(self) -> str:
        return f"{self.backend} {self.io_type} {self.strategy}"


CELLS: tuple[Cell, ...] = tuple(Cell(*values) for values in product(BACKENDS, IO_TYPES, STRATEGIES))


def cell_target(network: fx.GraphModule, cell: Cell, base: Target | None = None, reuse: int | None = None) -> Target:
    """``base`` in the layout of ``cell``.

    reuse   of every layer; None: 1 for Latency and distributed_arithmetic, else the one nearest to ``WISHED_REUSE``
            that the layer allows, layer by layer
    """
    target = replace(base or Target(), io_type=cell.io_type, strategy=cell.strategy, layers=())
    if reuse is not None:
        return replace(target, reuse_factor=reuse)
    target = replace(target, reuse_factor=1)
    strategy: Any = cell.strategy.lower()
    if strategy in ("latency", "distributed_arithmetic"):
        return target
    layouts = []
    for name, layer in weight_layers(network).items():
        if getattr(layer, "groups", 1) > 1:
            continue
        valid = allowed_reuse_factors(layer.weight[0].numel(), len(layer.weight), strategy) or ()
        above_one = tuple(factor for factor in valid if factor > 1)
        factor = nearest_reuse_factor(above_one, WISHED_REUSE) if above_one else 1
        layouts.append(LayerLayout(name, cell.strategy, factor))
    return replace(target, layers=tuple(layouts))


ONE_OF_EACH: dict[str, Cell] = {
    "mlp": Cell("Vitis", "io_parallel", "Latency"),
    "conv1d": Cell("Vivado", "io_stream", "Resource_Unrolled"),
    "conv2d": Cell("Vitis", "io_stream", "Latency"),
    "deep_sets": Cell("Vitis", "io_stream", "Resource"),
    "residual": Cell("Vivado", "io_parallel", "Resource_Unrolled"),
    "two_inputs": Cell("Vivado", "io_stream", "distributed_arithmetic"),
    "autoencoder": Cell("Vivado", "io_parallel", "Resource"),
}
"""A cell for every row, together every backend, io_type and strategy: the part that every test run checks."""
