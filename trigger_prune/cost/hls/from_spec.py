"""NetworkSpec -> HlsDesign, with the types and functions that hls4ml 1.3.0 generates for this project's export.

Checked against generated projects: accumulators and results of dense layers and convolutions are as hls4ml infers them
(``infer_precision.py``), every ReLU or quantiser is one activation function with the type of the quantiser, and nothing
follows the last layer. Sizes of convolutions that a NetworkSpec does not state are inferred from their positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting, Strategy
from trigger_prune.cost.hls.reuse_factor import check_layer
from trigger_prune.cost.network import NetworkSpec, PoolLayer, WeightLayer
from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.parts import find_part
from trigger_prune.target import Target

HLS_VERSION = "2024.1"
"""Release of Vitis HLS that an estimate assumes when nothing else is said, at its default uncertainty of 27 %."""

_STRATEGIES: dict[str, Strategy] = {
    "latency": "latency",
    "resource": "resource",
    "resource_unrolled": "resource_unrolled",
    "distributed_arithmetic": "distributed_arithmetic",
}
_MISSING_BIAS = FixedPoint(16, 6)
"""Type that hls4ml gives the bias of a layer that has none."""


def design_from_spec(spec: NetworkSpec, target: Target, hls_version: str = HLS_VERSION) -> HlsDesign:
    """The design that hls4ml generates for ``spec`` on ``target``.

    Raises ConfigError for an unknown strategy, io_type or release, and for a reuse factor that hls4ml would replace.
    """
    _strategy(target.strategy)
    require_layers(target, [layer.name for layer in spec.layers])
    if target.io_type not in ("io_parallel", "io_stream"):
        raise ConfigError(f"io_type {target.io_type!r} is unknown", hint="one of io_parallel, io_stream")
    part = find_part(target.part)
    try:
        year, number = (int(value) for value in hls_version.split(".")[:2])
    except ValueError:
        raise ConfigError(f"{hls_version!r} is no release of an HLS compiler", hint="e.g. 2019.2 or 2024.1") from None
    setting = HlsSetting(
        # hls4ml's Vivado backend builds with releases up to 2020.1, its Vitis backend with later ones.
        tool="vivado_hls" if (year, number) <= (2020, 1) else "vitis_hls",
        version=hls_version,
        part=target.part,
        family=part.family if part else "",
        clock_period_ns=target.clock_period_ns,
        io_type=target.io_type,  # type: ignore[arg-type]
    )
    layers: list[HlsLayer] = []
    size: tuple[int, ...] = spec.input_shape[1:]
    for index, layer in enumerate(spec.layers):
        layers += [_pool(pool, target) for pool in spec.pools if pool.after == index]
        if layer.kind != "dense":
            size = layer.output_size or _size(layer, size)
        layout = target.layout(layer.name)
        compute = _compute_layer(layer, _strategy(layout.strategy), layout.reuse_factor, size)
        check_layer(compute, setting.io_type)
        if target.io_type == "io_stream":
            compute, padding = _streamed(compute, layers[-1] if layers else None)
            layers += padding
        layers.append(compute)
        if layer.relu or layer.output_type is not None:
            layers.append(_activation(layer, compute, target, size))
    layers += [_pool(pool, target) for pool in spec.pools if pool.after == len(spec.layers)]
    return HlsDesign(tuple(layers), setting)


def require_layers(target: Target, names: Sequence[str]) -> None:
    """Raise ConfigError when ``target.layers`` names a layer that is not among ``names``."""
    unknown = [entry.layer for entry in target.layers if entry.layer not in names]
    if unknown:
        raise ConfigError(f"the target lays out {', '.join(unknown)}", hint=f"weight layers: {', '.join(names)}")


def _strategy(name: str) -> Strategy:
    strategy = _STRATEGIES.get(name.lower())
    if strategy is None:
        raise ConfigError(f"strategy {name!r} is unknown", hint=f"one of {', '.join(_STRATEGIES)}")
    return strategy


def inferred_type(layer: WeightLayer) -> FixedPoint:
    """Accumulator and result type that hls4ml infers: no sum overflows or is rounded.

    Raises ConfigError when that takes more than 52 bits.
    """
    bias = _MISSING_BIAS if _has_no_bias(layer) else layer.bias_type
    growth = math.ceil(math.log2(math.prod(layer.weight.shape[1:])))
    inputs, weights = layer.input_type, layer.weight_type
    signed = weights.signed or inputs.signed
    integer = weights.integer + inputs.integer + growth
    fraction = inputs.fraction + weights.fraction
    integer = max(integer + (bias.signed and not signed), bias.integer + (signed and not bias.signed)) + 1
    return FixedPoint(integer + max(fraction, bias.fraction), integer, signed or bias.signed)


def _has_no_bias(layer: WeightLayer) -> bool:
    """A depthwise convolution without bias: the mean over positions."""
    return layer.groups > 1 and not layer.bias.any()


def _compute_layer(layer: WeightLayer, strategy: Strategy, reuse_factor: int, size: tuple[int, ...]) -> HlsLayer:
    accumulator = inferred_type(layer)
    convolution = layer.kind != "dense"
    return HlsLayer(
        name=layer.name,
        kind=layer.kind,
        n_in=int(layer.weight.shape[1]),
        n_out=len(layer.weight),
        input_type=layer.input_type,
        output_type=accumulator,
        strategy=strategy,
        reuse_factor=reuse_factor,
        accum_type=accumulator,
        weight=layer.weight,
        weight_type=layer.weight_type,
        bias=layer.bias,
        bias_type=layer.bias_type,
        n_zeros=int(layer.weight.size - layer.nonzeros),
        kernel=tuple(layer.weight.shape[2:]) if convolution else (),
        stride=(layer.stride or (1,) * (layer.weight.ndim - 2)) if convolution else (),
        input_size=(layer.input_size or size) if convolution else (),
        output_size=size if convolution else (),
    )


def _streamed(compute: HlsLayer, before: HlsLayer | None) -> tuple[HlsLayer, list[HlsLayer]]:
    """The layer as it reads a stream, and the zero padding that hls4ml puts before a convolution.

    A dense layer behind a convolution reads one position a cycle.
    """
    if compute.kind == "dense":
        positions = math.prod(before.output_size) if before is not None and before.output_size else 1
        return (replace(compute, input_size=(positions,)) if positions > 1 else compute), []
    sizes = zip(compute.input_size, compute.output_size, compute.stride, compute.kernel, strict=True)
    padded = tuple(max(size, (out - 1) * step + width) for size, out, step, width in sizes)
    if padded == compute.input_size:
        return compute, []
    padding = HlsLayer(
        name=f"{compute.name}_padding",
        kind="zero_padding",
        n_in=compute.n_in,
        n_out=compute.n_in,
        input_type=compute.input_type,
        output_type=compute.input_type,
        input_size=compute.input_size,
        output_size=padded,
    )
    return replace(compute, input_size=padded), [padding]


def _activation(layer: WeightLayer, compute: HlsLayer, target: Target, size: tuple[int, ...]) -> HlsLayer:
    elements = compute.n_out * (layer.positions if target.io_type == "io_parallel" else 1)
    return HlsLayer(
        name=f"{layer.name}_{'relu' if layer.relu else 'quantizer'}",
        kind="relu" if layer.relu else "linear",
        n_in=elements,
        n_out=elements,
        input_type=compute.output_type,
        output_type=layer.output_type or compute.output_type,
        reuse_factor=target.layout(layer.name).reuse_factor,
        output_size=size if layer.kind != "dense" and target.io_type == "io_stream" else (),
    )


def _pool(pool: PoolLayer, target: Target) -> HlsLayer:
    parallel = target.io_type == "io_parallel"
    return HlsLayer(
        name=pool.name,
        kind="max_pool",
        n_in=pool.channels * (math.prod(pool.input_size) if parallel else 1),
        n_out=pool.channels * (math.prod(pool.output_size) if parallel else 1),
        input_type=pool.value_type,
        output_type=pool.value_type,
        reuse_factor=target.reuse_factor,
        kernel=pool.kernel,
        stride=pool.stride,
        input_size=pool.input_size,
        output_size=pool.output_size,
    )


def _size(layer: WeightLayer, before: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width, or length, whose product is the number of positions, in the proportions of the input."""
    rank = layer.weight.ndim - 2
    if math.prod(before) == layer.positions and len(before) == rank:
        return before
    if rank == 1:
        return (layer.positions,)
    proportion = before[0] / before[1] if len(before) == 2 else 1.0
    heights = [height for height in range(1, layer.positions + 1) if layer.positions % height == 0]
    height = min(heights, key=lambda h: abs(math.log(h * h / layer.positions / proportion)))
    return (height, layer.positions // height)
