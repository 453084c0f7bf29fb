"""Costs of many candidate masks of one dense layer at once, by the same formulas as a single estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.dense_latency import LayerCosts, costs_of
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.cost.hls.features import term_counts, weight_table
from trigger_prune.errors import CostError

_CHUNK_WEIGHTS = 1 << 18
"""Weights looked at together: a few MB of temporaries, which stay in the cache."""


def mask_costs(
    layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float], masks: NDArray[np.bool_]
) -> LayerCosts:
    """Costs of ``layer`` with each of the ``masks``, ``(masks, out, in)``, True = kept.

    Equal to ``dense_latency.predict`` of ``masked_layer``. Raises CostError for another kind of layer or strategy, for
    unknown weights, or masks of another shape.
    """
    if layer.kind != "dense" or layer.strategy != "latency":
        raise CostError(f"layer {layer.name!r}: masks are costed for dense layers of strategy latency only")
    table = weight_table(layer)
    if masks.ndim != 3 or masks.shape[1:] != table.shape or masks.dtype != np.bool_:
        raise CostError(
            f"layer {layer.name!r}: masks of shape {masks.shape} ({masks.dtype}) do not fit weights {table.shape}",
            hint="give booleans (masks, out, in)",
        )
    flat = masks.reshape(len(masks), -1)
    step = max(_CHUNK_WEIGHTS // max(flat.shape[1], 1), 1)
    parts = []
    for start in range(0, max(len(flat), 1), step):
        counts = term_counts(table, flat[start : start + step])
        removed = int(table.nonzero.sum()) - counts.nonzeros
        parts.append(costs_of(layer, setting, parameters, counts, table, removed))
    names = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
    return LayerCosts(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def masked_layer(layer: HlsLayer, mask: NDArray[np.bool_]) -> HlsLayer:
    """``layer`` with the weights outside of ``mask`` ``(out, in)`` set to 0. Raises CostError for unknown weights."""
    if layer.weight is None:
        raise CostError(f"layer {layer.name!r}: its weights are not known")
    weight = np.where(mask, layer.weight, 0)
    removed = int(np.count_nonzero(layer.weight) - np.count_nonzero(weight))
    n_zeros = None if layer.n_zeros is None else layer.n_zeros + removed
    return replace(layer, weight=weight, n_zeros=n_zeros)
