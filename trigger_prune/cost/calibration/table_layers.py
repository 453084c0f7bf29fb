"""Rows of ``layers.csv``, and layer entries of ``designs.csv``, as HlsLayer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trigger_prune.cost.calibration.module_names import kind_of, parse_module
from trigger_prune.cost.calibration.rows import Row
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerKind, Strategy
from trigger_prune.cost.hls.features import WeightFeatures
from trigger_prune.errors import DataError, FixedPointError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

INNER_FUNCTIONS = ("cnnshift", "dense_wrapper", "shift_line", "kernel_shift", "softmax_argmax")
"""Functions that are part of the module of another layer: they are no layer of their own."""

RECURRENT = ("lstm", "gru", "simple_rnn")
_ACTIVATIONS: dict[str, LayerKind] = {"relu": "relu", "softmax": "softmax", "sigmoid": "sigmoid", "tanh": "tanh"}
_ENTRY_KINDS: dict[str, LayerKind] = {
    "dense": "dense",
    "conv1d": "conv1d",
    "conv2d": "conv2d",
    "batchnorm": "batchnorm",
    "padding1d": "zero_padding",
    "padding2d": "zero_padding",
    "pooling1d": "max_pool",
    "pooling2d": "max_pool",
}
_THREE_DIGITS = 4.5
"""Bits of the narrowest constants of three digits: 1011 and 10101."""
DEFAULT_INTEGER = 6
"""Integer bits of hls4ml's default type, where a table states the width alone."""


def setting_of(row: Row, family: str, io_type: str | None = None) -> HlsSetting:
    """Compiler, part and clock of a row of ``layers.csv`` or ``designs.csv``.

    io_type   of the design that a layer is part of; None = as the row says
    """
    clock = row.real("clk")
    if clock is None:
        raise DataError(f"{row.source}: clk is empty")
    forced = row.text("forced_mul")
    if forced not in (None, "dsp", "fabric"):
        raise DataError(f"{row.source}: forced_mul is {forced!r}, not dsp or fabric")
    stream = io_type == "io_stream" or "io_stream" in (row.text("io"), row.text("io_type"))
    return HlsSetting(
        tool="vitis_hls" if row.flag("vitis") else "vivado_hls",
        version=row.required_text("tool"),
        part=row.required_text("part"),
        family=family,
        clock_period_ns=clock,
        clock_uncertainty_ns=row.real("unc"),
        io_type="io_stream" if stream else "io_parallel",
        forced_multiplier=forced,  # type: ignore[arg-type]  # checked above
    )


def measured_of(row: Row) -> LayerEstimate:
    """What the module report of a row of ``layers.csv`` states."""
    return LayerEstimate(
        row.real("LUT"), row.real("FF"), row.real("DSP"), row.real("BRAM"), row.real("lat"), row.real("ii")
    )


def features_of(row: Row) -> WeightFeatures | None:
    """Arithmetic of the weights, where the table knows them."""
    if row.text("nnz") is None or row.text("an_alive_out") is None or row.flag("bad_model"):
        return None
    alive, tree = row.required_integer("an_alive_out"), row.required_integer("an_tree_adders")
    u3, u1neg = row.required_integer("an_u3"), row.required_integer("an_u1neg")
    two_digits, three_digits = row.integer("nge2") or 0, row.integer("nge3") or 0
    made_by_adders = row.required_integer("an_csd_bits")
    input_bits, weight_bits = row.integer("in_W") or 0, row.integer("w_W") or 0
    # The table states no widths of single constants. Those of three and more digits are some 1.5 bits wider than the
    # mean of all; signs are half and half.
    nonzeros = row.required_integer("nnz")
    mean_bits = (row.real("wbits_sum") or 0.0) / max(nonzeros, 1)
    constant_bits = min(max(mean_bits + 1.5, _THREE_DIGITS), max(weight_bits - 1.0, 1.0))
    fraction = (row.integer("in_F") or 0) + (row.integer("w_F") or 0)
    dropped = max(fraction - (row.integer("acc_F") or fraction), 0)
    negation_bits = min(u1neg * (input_bits + 1), made_by_adders)
    return WeightFeatures(
        nonzeros=nonzeros,
        nonzeros_with_bias=tree + alive,
        u3=u3,
        u2=row.required_integer("an_u2"),
        u1neg=u1neg,
        tree_adders=tree,
        tree_bits=row.required_integer("an_tree_bits"),
        csd_bits=made_by_adders - negation_bits,
        fan_in=row.required_integer("an_fanin"),
        used_inputs=row.required_integer("in_used"),
        alive_outputs=alive,
        product_bits=round(u3 * max(input_bits + constant_bits - dropped, 1.0)),
        multiplier_weights=three_digits,
        adder_weights=two_digits - three_digits + (row.integer("npow2") or 0) // 2,
        negation_bits=negation_bits,
        constant_bits=constant_bits if u3 else 0.0,
    )


def layer_of(entry: Mapping[str, Any], row: Row | None, previous: FixedPoint | None = None) -> HlsLayer:
    """One layer, from its entry in ``designs.csv``, its row in ``layers.csv`` (None = it has no module of its own), or
    both; ``previous`` is the type of the values that reach it, where the row does not state it.

    Raises DataError for sizes or types that make no sense.
    """
    where = row.source if row else f"layer {entry.get('name') or entry.get('config')}"
    cells = {**entry, **({k: v for k, v in row.cells.items() if v not in ("", None)} if row else {})}
    merged = Row({k: str(v) for k, v in cells.items() if v is not None}, where)
    config = merged.text("config") or ""
    kind = _kind(entry, merged, config)
    module = parse_module(merged.text("module") or "")
    try:
        input_type = module.input_type or _width_type(merged, "in", previous)
        output_type = module.output_type or _width_type(merged, "out", input_type)
        weight_type = _stated_type(merged, "w", entry.get("weight_t"))
        accum_type = _stated_type(merged, "acc", entry.get("accum_t"))
    except FixedPointError as error:
        raise DataError(f"{where}: {error.message}") from None
    n_in, n_out = _sizes(merged, kind)
    kernel = _pair(merged, "filt_height", "filt_width")
    return HlsLayer(
        name=str(entry.get("name") or config),
        kind=kind,
        n_in=n_in,
        n_out=n_out,
        input_type=input_type,
        output_type=output_type,
        strategy=_strategy(merged, where),
        reuse_factor=merged.integer("rf") or merged.integer("reuse_factor") or 1,
        accum_type=accum_type,
        weight_type=weight_type,
        n_zeros=merged.integer("n_zeros"),
        features=features_of(row) if row is not None else None,
        kernel=kernel,
        # The tables state one stride: of width, the same for height.
        stride=(_pair(merged, "stride_height", "stride_width") * 2)[: len(kernel)],
        input_size=_pair(merged, "in_height", "in_width"),
        output_size=_pair(merged, "out_height", "out_width"),
        table_size=merged.integer("table_size") or 1024,
        implementation=merged.text("impl") or "stable",
    )


def _kind(entry: Mapping[str, Any], merged: Row, config: str) -> LayerKind:
    function = merged.text("func")
    if function is not None:
        return "other" if function.startswith(RECURRENT) else kind_of(function)
    if entry.get("kind") == "activ":
        return _ACTIVATIONS.get(config.split("_config")[0].lower(), "other")
    return _ENTRY_KINDS.get(str(entry.get("kind")).lower(), "other")


def _sizes(merged: Row, kind: LayerKind) -> tuple[int, int]:
    if kind in ("conv1d", "conv2d"):
        return merged.integer("n_chan") or 0, merged.integer("n_filt") or merged.integer("n_out") or 0
    if kind in ("max_pool", "zero_padding"):
        channels = merged.integer("n_chan") or merged.integer("n_filt") or 0
        return channels, channels
    n_in = merged.integer("n_in") or 0
    n_out = merged.integer("n_out")
    # Activations and batch normalisation state n_in alone, or n_out = -1 ("as many as inputs").
    return n_in, n_in if n_out is None or n_out < 0 or kind != "dense" else n_out


def _strategy(merged: Row, where: str) -> Strategy:
    strategy = (merged.text("strategy") or "latency").lower()
    if strategy not in ("latency", "resource", "resource_unrolled", "distributed_arithmetic"):
        raise DataError(f"{where}: strategy {strategy!r} is unknown")
    return strategy  # type: ignore[return-value]  # checked above


def _pair(merged: Row, height: str, width: str) -> tuple[int, ...]:
    pair = (merged.integer(height), merged.integer(width))
    return tuple(value for value in pair if value is not None)


def _width_type(merged: Row, side: str, like: FixedPoint | None) -> FixedPoint:
    """Type of one side. Where the table states the width alone, the integer bits of ``like`` or of hls4ml's default."""
    width = merged.integer(f"{side}_W")
    if width is None:
        if like is None:
            raise DataError(f"{merged.source}: {side}_W is empty")
        return like
    fraction = merged.integer(f"{side}_F")
    integer = like.integer if like is not None else min(DEFAULT_INTEGER, width)
    rounding = Rounding.AP_RND_CONV if merged.flag(f"{side}_rnd") else Rounding.AP_TRN
    overflow = Overflow.AP_SAT if merged.flag(f"{side}_sat") else Overflow.AP_WRAP
    signed = not merged.flag(f"{side}_u")
    return FixedPoint(width, integer if fraction is None else width - fraction, signed, rounding, overflow)


def _stated_type(merged: Row, prefix: str, text: str | None) -> FixedPoint | None:
    if text:
        return FixedPoint.parse(text)
    width, fraction = merged.integer(f"{prefix}_W"), merged.integer(f"{prefix}_F")
    return None if width is None or fraction is None else FixedPoint(width, width - fraction)
