"""A design without its weights that costs the same: for groups that share what was synthesised, but not the network.

What stays are sizes, types, names and counts over the weights (``features.LayerCounts``): how many are zero, how many
digits and bits the others have, how many terms the outputs add. Which weight it is, its value and its sign go.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from trigger_prune.cost.hls import batch_norm, conv, dense_resource, distributed_arithmetic
from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting
from trigger_prune.cost.hls.features import (
    MULTIPLIER,
    LayerCounts,
    WeightFeatures,
    term_counts,
    weight_features,
    weight_table,
)
from trigger_prune.cost.hls.layers import family_of
from trigger_prune.cost.hls.reuse_factor import effective_strategy

_NOTHING = WeightFeatures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def without_weights(design: HlsDesign) -> HlsDesign:
    """The design with counts in place of weights and biases; layers whose weights are unknown stay as they are.

    Raises CostError for a kind of layer without formulas.
    """
    return replace(design, layers=tuple(_without_weights(layer, design.setting) for layer in design.layers))


def _without_weights(layer: HlsLayer, setting: HlsSetting) -> HlsLayer:
    if layer.weight is None:
        return replace(layer, bias=None)
    family = family_of(layer)
    if family == batch_norm.FAMILY:
        features = replace(_NOTHING, counts=LayerCounts(scales=batch_norm.scale_counts(layer)))
    elif family == distributed_arithmetic.FAMILY:
        features = replace(weight_features(layer), counts=LayerCounts(trees=distributed_arithmetic.tree_counts(layer)))
    else:
        features = _product_features(layer, setting)
    return replace(layer, weight=None, bias=None, features=features)


def _product_features(layer: HlsLayer, setting: HlsSetting) -> WeightFeatures:
    """Counts over one matrix product: of constants, and of the memory that strategy resource puts them into."""
    product = layer
    if family_of(layer) == conv.FAMILY:
        strategy = effective_strategy(layer.strategy, layer.reuse_factor, layer.kind, setting.io_type)
        product = replace(conv.matrix_product(layer), strategy=strategy)
        setting = replace(setting, io_type="io_parallel")
    table = weight_table(product)
    terms = term_counts(table)
    outputs = zip(terms.wires[0], terms.adders[0], terms.multipliers[0], terms.widest[0], strict=True)
    in_memory = layer.strategy in ("resource", "resource_unrolled") and layer.reuse_factor > 1
    widths = Counter(dense_resource.multiplier_widths(product, setting)) if in_memory else {}
    constants = Counter(table.constant_width[table.pair_kind == MULTIPLIER].tolist())
    counts = LayerCounts(
        outputs=tuple(sorted((int(w), int(a), int(m), int(b)) for w, a, m, b in outputs)),
        constant_widths=tuple(sorted(constants.items())),
        adder_value_bits=int(terms.adder_value_bits[0]),
        multiplier_widths=tuple(sorted(widths.items())),
    )
    return replace(weight_features(product), counts=counts)
