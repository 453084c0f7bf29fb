"""What the constants of a dense layer ask of an HLS compiler in strategy latency.

A product with a constant of one canonical signed digit is wiring (an adder if the digit is negative), of two digits one
adder, of three or more a multiplier. Equal products (same input, same signed constant) are computed once. The products
of an output, truncated to the accumulator's LSB, are added in a tree of neighbouring pairs; an adder is one bit wider
than its wider operand, up to the accumulator's width.

``term_counts`` counts all this for many masks of one layer at once; ``weight_features`` sums it up for one layer.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.csd import csd_count
from trigger_prune.cost.hls.design import HlsLayer
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint

WIRE, ADDER, MULTIPLIER = 1, 2, 3
_FIELD = 20
"""Bits per counter in a packed count; a layer has fewer than 2**20 inputs."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LayerCounts:
    """All that the formulas read of a layer's weights, as counts: the same estimate, without the weights.

    outputs             wires, adders, multipliers and widest product (bits) of every output (``TermCounts``), sorted
    constant_widths     bits -> distinct (input, constant) pairs of >= 3 digits
    adder_value_bits    widths of the distinct products made by adders added up
    multiplier_widths   strategy resource: bits of the weights -> multipliers
    trees               distributed arithmetic; None for every other strategy
    scales              batch normalisation: scales of >= 3 digits, of two digits, biases that are not 0; else None
    """

    outputs: tuple[tuple[int, int, int, int], ...] = ()
    constant_widths: tuple[tuple[int, int], ...] = ()
    adder_value_bits: int = 0
    multiplier_widths: tuple[tuple[int, int], ...] = ()
    trees: TreeCounts | None = None
    scales: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class TreeCounts:
    """Of the adder trees of a layer (``cost.adder_tree.AdderTrees``); ``varying`` outputs depend on an input."""

    adder_bits: int
    terms: int
    inputs: int
    varying: int
    level_bits: tuple[int, ...]
    live_bits: tuple[int, ...]


@dataclass(frozen=True)
class WeightFeatures:
    """Counts over the integer weights of one dense layer (or one position of a convolution).

    nonzeros              weights that are not 0; ``nonzeros_with_bias`` with the biases of their outputs
    u3, u2, u1neg         distinct (input, signed constant) pairs of >= 3 canonical signed digits, of exactly 2, of
                          exactly one that is negative
    tree_adders           two-input adders of the sums; ``tree_bits`` their widths added up
    csd_bits              widths of the adders that form the products of u2 added up; ``negation_bits`` those of u1neg
    fan_in                largest number of terms in one output's sum, bias included
    used_inputs           inputs with a weight that is not 0; ``alive_outputs`` outputs with one
    product_bits          widths of the products of u3 added up
    multiplier_weights    weights, equal ones counted each, of >= 3 digits; ``adder_weights`` those of u2 and u1neg
    constant_bits         mean two's complement width of the constants of u3 (0 when u3 is 0)
    counts                all that the formulas read of the weights; None = what is above is all that is known
    """

    nonzeros: int
    nonzeros_with_bias: int
    u3: int
    u2: int
    u1neg: int
    tree_adders: int
    tree_bits: int
    csd_bits: int
    fan_in: int
    used_inputs: int
    alive_outputs: int
    product_bits: int = 0
    multiplier_weights: int = 0
    adder_weights: int = 0
    negation_bits: int = 0
    constant_bits: float = 0.0
    counts: LayerCounts | None = None


@dataclass(frozen=True, eq=False)
class WeightTable:
    """One layer's weights, classified. Arrays ``(out * in,)`` unless said otherwise; pairs are (input, constant).

    packed          one count in the field of the weight's kind
    width           bits of the product after truncation
    by_pair         positions of the weights that are not 0, sorted by pair; ``pair_start`` where each pair begins
    pair_kind       WIRE (negative only counts as ADDER), ADDER, MULTIPLIER, ``(pairs,)``
    pair_width      bits of the pair's product; ``pair_adder`` of the adder that makes it, 0 if none
    constant_width  two's complement bits of the pair's constant
    """

    shape: tuple[int, int]
    nonzero: Bools
    packed: Ints
    width: NDArray[np.int8]
    by_pair: Ints
    pair_start: Ints
    pair_kind: NDArray[np.int8]
    pair_width: Ints
    pair_adder: Ints
    pair_negation: Bools
    constant_width: Ints
    has_bias: Bools
    accumulator_width: int


@dataclass(frozen=True, eq=False)
class TermCounts:
    """Terms of every output, ``(masks, out)``, and sums over the layer, ``(masks,)``.

    wires, adders, multipliers    terms by kind, a bias counts as a wire; ``widest`` is the widest product, bits
    shared_adders, shared_multipliers, negations    distinct pairs
    adder_bits      of all adders: tree, two-digit products and negations
    adder_value_bits, product_bits    widths of the distinct products made by adders, by multipliers
    pairs           distinct pairs of >= 3 digits that occur, ``(masks, pairs of the table)``; None = not known
    """

    wires: Ints
    adders: Ints
    multipliers: Ints
    widest: Ints
    shared_adders: Ints
    shared_multipliers: Ints
    negations: Ints
    tree_adders: Ints
    tree_bits: Ints
    csd_bits: Ints
    negation_bits: Ints
    adder_value_bits: Ints
    product_bits: Ints
    used_inputs: Ints
    nonzeros: Ints
    pairs: Bools | None

    @property
    def terms(self) -> Ints:
        """Terms of every output, ``(masks, out)``."""
        return self.wires + self.adders + self.multipliers

    @property
    def alive(self) -> Bools:
        """Outputs that depend on an input."""
        alive: Bools = self.widest > 0
        return alive

    @property
    def adder_bits(self) -> Ints:
        """Bits of all adders."""
        return self.tree_bits + self.csd_bits + self.negation_bits


def accumulator_type(layer: HlsLayer) -> FixedPoint:
    """The accumulator's type; that of the output when the layer states none."""
    return layer.accum_type or layer.output_type


def weight_table(layer: HlsLayer) -> WeightTable:
    """Classify the weights ``(out, in)`` of ``layer``. Raises CostError when they are unknown."""
    if layer.weight is None or layer.weight_type is None:
        raise CostError(f"layer {layer.name!r}: its weights are not known", hint="give integer weights and their type")
    codes = layer.weight.reshape(layer.weight.shape[0], -1)
    accumulator = accumulator_type(layer)
    dropped = max(layer.input_type.fraction + layer.weight_type.fraction - accumulator.fraction, 0)
    digits = csd_count(codes)
    negation = (digits == 1) & (codes < 0)
    kind = np.where(codes == 0, 0, np.where(digits >= 3, MULTIPLIER, np.where((digits == 2) | negation, ADDER, WIRE)))
    magnitude = np.abs(codes)
    bits = np.frexp(magnitude.astype(np.float64))[1].astype(np.int64)
    raw_width = layer.input_type.width + bits
    width = np.where(codes == 0, 0, np.clip(raw_width - dropped, 1, min(accumulator.width, 100)))
    flat, kinds = codes.reshape(-1), kind.reshape(-1)
    inputs = np.broadcast_to(np.arange(codes.shape[1]), codes.shape).reshape(-1)
    used = np.flatnonzero(flat)
    lowest = int(flat.min(initial=0))
    key = inputs[used] * (int(flat.max(initial=0)) - lowest + 1) + (flat[used] - lowest)
    by_key = np.argsort(key)
    order, key = used[by_key], key[by_key]
    start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else used
    pair = order[start]
    pair_negation = negation.reshape(-1)[pair]
    pair_adder = np.where(pair_negation, layer.input_type.width + 1, raw_width.reshape(-1)[pair])
    bias = np.zeros(len(codes), dtype=bool) if layer.bias is None else layer.bias != 0
    constant_width = bits.reshape(-1)[pair] + (flat[pair] < 0)
    return WeightTable(
        shape=(codes.shape[0], codes.shape[1]),
        nonzero=flat != 0,
        packed=np.where(kinds == 0, 0, np.int64(1) << (_FIELD * np.maximum(kinds - 1, 0))),
        width=width.reshape(-1).astype(np.int8),
        by_pair=order,
        pair_start=start,
        pair_kind=kinds[pair].astype(np.int8),
        pair_width=width.reshape(-1)[pair],
        pair_adder=np.where(kinds[pair] == ADDER, pair_adder, 0),
        pair_negation=pair_negation,
        constant_width=constant_width,
        has_bias=bias,
        accumulator_width=accumulator.width,
    )


def term_counts(table: WeightTable, masks: Bools | None = None) -> TermCounts:
    """Counts for masks ``(masks, out * in)`` of kept weights; None = one mask that keeps them all."""
    kept = table.nonzero[None, :] if masks is None else masks & table.nonzero
    count, outs, ins = len(kept), *table.shape
    packed = np.where(kept, table.packed, 0).reshape(count, outs, ins).sum(axis=2)
    width = np.where(kept, table.width, np.int8(0)).reshape(count * outs, ins)
    widest = width.max(axis=1, initial=0).astype(np.int64).reshape(count, outs)
    alive = widest > 0
    field = (np.int64(1) << _FIELD) - 1
    wires = (packed & field) + (table.has_bias & alive)
    tree_adders, tree_bits = _tree(width, table, alive)
    if len(table.pair_start):
        occurs = np.logical_or.reduceat(kept[:, table.by_pair], table.pair_start, axis=1)
    else:
        occurs = np.zeros((count, 0), dtype=bool)
    multiplied, added = table.pair_kind == MULTIPLIER, (table.pair_kind == ADDER) & ~table.pair_negation
    properties = np.stack(
        [
            added,
            multiplied,
            table.pair_negation,
            added * table.pair_adder,
            table.pair_negation * table.pair_adder,
            (table.pair_kind == ADDER) * table.pair_width,
            multiplied * table.pair_width,
        ],
        axis=1,
    )
    sums = np.rint(occurs.astype(np.float64) @ properties.astype(np.float64)).astype(np.int64)
    return TermCounts(
        wires=wires,
        adders=(packed >> _FIELD) & field,
        multipliers=packed >> (2 * _FIELD),
        widest=widest,
        shared_adders=sums[:, 0],
        shared_multipliers=sums[:, 1],
        negations=sums[:, 2],
        tree_adders=tree_adders,
        tree_bits=tree_bits,
        csd_bits=sums[:, 3],
        negation_bits=sums[:, 4],
        adder_value_bits=sums[:, 5],
        product_bits=sums[:, 6],
        used_inputs=kept.reshape(count, outs, ins).any(axis=1).sum(axis=1),
        nonzeros=kept.sum(axis=1),
        pairs=occurs[:, multiplied],
    )


def _tree(width: NDArray[np.int8], table: WeightTable, alive: Bools) -> tuple[Ints, Ints]:
    """Adders and their bits of the trees of neighbouring pairs; a bias is added last, at the accumulator's width."""
    rows, limit = len(width), np.int8(min(table.accumulator_width, 100))
    present = width > 0
    position = np.cumsum(present, axis=1, dtype=np.int32) - 1
    most = int(position[:, -1].max(initial=-1)) + 1 if width.shape[1] else 0
    level = np.zeros((rows, most), dtype=np.int8)
    row, column = np.nonzero(present)
    level[row, position[row, column]] = width[row, column]
    adders, bits = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    while level.shape[1] > 1:
        if level.shape[1] % 2:
            level = np.concatenate([level, np.zeros((rows, 1), dtype=np.int8)], axis=1)
        left, right = level[:, ::2], level[:, 1::2]
        paired = right > 0
        joined = np.minimum(np.maximum(left, right) + np.int8(1), limit)
        adders += paired.sum(axis=1)
        bits += np.where(paired, joined, np.int8(0)).sum(axis=1, dtype=np.int64)
        level = np.where(paired, joined, left)
    with_bias = alive & table.has_bias
    shape = alive.shape
    return (
        adders.reshape(shape).sum(axis=1) + with_bias.sum(axis=1),
        bits.reshape(shape).sum(axis=1) + with_bias.sum(axis=1) * table.accumulator_width,
    )


def weight_features(layer: HlsLayer) -> WeightFeatures:
    """Features of a layer from its integer codes, or those it carries. Raises CostError when it has neither."""
    if layer.weight is None and isinstance(layer.features, WeightFeatures):
        return layer.features
    table = weight_table(layer)
    counts = term_counts(table)
    constants = table.constant_width[table.pair_kind == MULTIPLIER]
    alive = counts.alive
    return WeightFeatures(
        nonzeros=int(counts.nonzeros[0]),
        nonzeros_with_bias=int(np.where(alive, counts.terms, 0).sum()),
        u3=int(counts.shared_multipliers[0]),
        u2=int(counts.shared_adders[0]),
        u1neg=int(counts.negations[0]),
        tree_adders=int(counts.tree_adders[0]),
        tree_bits=int(counts.tree_bits[0]),
        csd_bits=int(counts.csd_bits[0]),
        fan_in=int(np.where(alive, counts.terms, 0).max(initial=0)),
        used_inputs=int(counts.used_inputs[0]),
        alive_outputs=int(alive.sum()),
        product_bits=int(counts.product_bits[0]),
        multiplier_weights=int(counts.multipliers.sum()),
        adder_weights=int(counts.adders.sum()),
        negation_bits=int(counts.negation_bits[0]),
        constant_bits=float(constants.mean()) if len(constants) else 0.0,
    )


def stated_counts(layer: HlsLayer) -> LayerCounts:
    """What is known of weights that are themselves unknown; empty when the weights are known, or nothing is."""
    features = layer.features if layer.weight is None else None
    return LayerCounts() if features is None or features.counts is None else features.counts


def counts_from_features(features: WeightFeatures, layer: HlsLayer) -> TermCounts:
    """Terms of every output when only sums are known: equally many in each, but for one of the largest fan-in.

    Exact where the features hold the counts of every output. Else, where a table lacks the later fields of
    ``WeightFeatures`` (they are 0), weights of a kind are taken to be as frequent as its distinct pairs, and products
    as wide as the tree's mean adder.
    """
    f = features

    def one(value: int) -> Ints:
        return np.array([value], dtype=np.int64)

    def rows(values: NDArray[np.float64]) -> Ints:
        return np.rint(values).astype(np.int64)[None, :]

    if f.counts is not None:
        columns = np.array(f.counts.outputs, dtype=np.float64).reshape(-1, 4).T
        wires, adders, multipliers, widest = columns
        product_bits, adder_value_bits, negation_bits = f.product_bits, f.counts.adder_value_bits, f.negation_bits
    else:
        wires, adders, multipliers, widest = _even_outputs(f, layer)
        width = int(widest.max(initial=1)) or 1
        product_bits, adder_value_bits = f.product_bits or f.u3 * width, (f.u2 + f.u1neg) * width
        negation_bits = f.negation_bits or f.u1neg * (layer.input_type.width + 1)
    return TermCounts(
        wires=rows(wires),
        adders=rows(adders),
        multipliers=rows(multipliers),
        widest=rows(widest),
        shared_adders=one(f.u2),
        shared_multipliers=one(f.u3),
        negations=one(f.u1neg),
        tree_adders=one(f.tree_adders),
        tree_bits=one(f.tree_bits),
        csd_bits=one(f.csd_bits),
        negation_bits=one(negation_bits),
        adder_value_bits=one(adder_value_bits),
        product_bits=one(product_bits),
        used_inputs=one(f.used_inputs),
        nonzeros=one(f.nonzeros),
        pairs=None,
    )


def _even_outputs(f: WeightFeatures, layer: HlsLayer) -> tuple[Floats, Floats, Floats, Floats]:
    """Wires, adders, multipliers and widest product of every output, as if the outputs were alike."""
    outs = max(f.alive_outputs, 1)
    pairs = max(f.u3 + f.u2 + f.u1neg, 1)
    multiplied = f.multiplier_weights or round(f.nonzeros * f.u3 / max(pairs, f.used_inputs, 1))
    added = f.adder_weights or round(f.nonzeros * (f.u2 + f.u1neg) / max(pairs, f.used_inputs, 1))
    width = min(max(round(f.tree_bits / max(f.tree_adders, 1)) - 1, 1), accumulator_type(layer).width)
    terms = np.full(outs, f.nonzeros_with_bias / outs)
    terms[0] = max(f.fan_in, terms[0])
    share3, share2 = multiplied / max(f.nonzeros_with_bias, 1), added / max(f.nonzeros_with_bias, 1)
    multipliers, adders = np.rint(terms * share3), np.rint(terms * share2)
    widest = np.full(outs, float(width if f.nonzeros else 0))
    return np.maximum(terms - multipliers - adders, 0), adders, multipliers, widest


FEATURE_NAMES = tuple(f.name for f in fields(WeightFeatures) if f.name != "counts")
"""Names of everything counted, as tables may state it."""
