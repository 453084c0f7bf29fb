"""hls4ml's own model graph -> ``HlsDesign``: what the project says, layer by layer, as the estimates read it."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting, IoType, LayerKind, Strategy
from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

DEFAULT_VERSION = {"Vitis": "2024.1", "Vivado": "2019.2"}
"""Release an estimate is made for when no tool is at hand: the ones that hls4ml 1.3.0 was tested with most."""

_KINDS: dict[str, LayerKind] = {
    "Dense": "dense",
    "Conv1D": "conv1d",
    "Conv2D": "conv2d",
    "PointwiseConv1D": "conv1d",
    "PointwiseConv2D": "conv2d",
    "BatchNormalization": "batchnorm",
    "ApplyAlpha": "batchnorm",
    "Softmax": "softmax",
    "GlobalPooling1D": "global_pool",
    "GlobalPooling2D": "global_pool",
    "Concatenate": "concatenate",
    "ZeroPadding1D": "zero_padding",
    "ZeroPadding2D": "zero_padding",
}
_ACTIVATIONS: dict[str, LayerKind] = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "linear": "linear"}
_IGNORED = ("Input", "Reshape", "Repack", "Clone", "Flatten")
_WINDOWED = ("conv1d", "conv2d", "max_pool", "average_pool")
_MULTIPLIED = ("dense", "conv1d", "conv2d")


def design_from_graph(hls_model: Any, setting: HlsSetting) -> HlsDesign:
    """Every layer of an hls4ml ``ModelGraph`` that becomes hardware.

    Raises ExportError when a layer's type is no fixed-point type, or its weights are not on their grid.
    """
    stream = setting.io_type == "io_stream"
    layers = [_layer(node, stream) for node in hls_model.get_layers() if node.class_name not in _IGNORED]
    return HlsDesign(tuple(layers), setting)


def setting_for(backend: str, part: str, clock_period_ns: float, io_type: str, release: str = "") -> HlsSetting:
    """The setting in which hls4ml's project is compiled. ``release`` "" = ``DEFAULT_VERSION``."""
    from trigger_prune.parts import find_part

    known = find_part(part)
    vivado = backend == "Vivado"
    return HlsSetting(
        tool="vivado_hls" if vivado else "vitis_hls",
        version=release or DEFAULT_VERSION[backend],
        part=part,
        family=known.family if known else "",
        clock_period_ns=clock_period_ns,
        # hls4ml's project.tcl asks for 12.5 % with Vivado HLS and 27 % with Vitis HLS.
        clock_uncertainty_ns=clock_period_ns * (0.125 if vivado else 0.27),
        io_type=cast(IoType, io_type),
    )


def _layer(node: Any, stream: bool) -> HlsLayer:
    kind = _kind(node)
    output = node.get_output_variable()
    source = node.get_input_variable()
    convolution = kind in ("conv1d", "conv2d")
    windowed = kind in _WINDOWED
    accumulator = node.get_attr("accum_t")
    multiplies = kind in _MULTIPLIED
    weight, weight_type = _codes(node, "weight") if multiplies else (None, None)
    bias, bias_type = _codes(node, "bias") if multiplies else (None, None)
    if weight is not None:
        weight = _out_in_kernel(node, kind, weight)
    return HlsLayer(
        name=node.name,
        kind=kind,
        n_in=int(node.get_attr("n_chan" if convolution else "n_in")) if multiplies else _elements(source, stream),
        n_out=int(node.get_attr("n_filt" if convolution else "n_out")) if multiplies else _elements(output, stream),
        input_type=_fixed(node, source.type.precision),
        output_type=_fixed(node, output.type.precision),
        strategy=cast(Strategy, str(node.get_attr("strategy") or "latency").lower()),
        reuse_factor=int(node.get_attr("reuse_factor") or 1),
        accum_type=None if accumulator is None else _fixed(node, accumulator.precision),
        weight=weight,
        weight_type=weight_type,
        bias=bias,
        bias_type=bias_type,
        n_zeros=None if weight is None else int(np.count_nonzero(weight == 0)),
        kernel=_sizes(node, "filt" if convolution else "pool") if windowed else (),
        stride=_sizes(node, "stride") if windowed else (),
        input_size=_sizes(node, "in") if windowed or kind == "zero_padding" else _reads(source, kind, stream),
        output_size=_positions(node, kind, output, stream),
        table_size=int(node.get_attr("table_size") or 1024),
        implementation=str(node.get_attr("implementation") or "stable") if kind == "softmax" else "stable",
        parallelization_factor=int(node.get_attr("parallelization_factor") or 1) if convolution else 1,
    )


def _kind(node: Any) -> LayerKind:
    name = str(node.class_name)
    if name in ("Pooling1D", "Pooling2D"):
        return "max_pool" if str(node.get_attr("pool_op")).lower() == "max" else "average_pool"
    if name == "Merge":
        return "add" if str(node.get_attr("op")).lower() == "add" else "other"
    if name in ("Activation", "ParametrizedActivation"):
        return _ACTIVATIONS.get(str(node.get_attr("activation")).lower(), "other")
    return _KINDS.get(name, "other")


def _elements(variable: Any, stream: bool) -> int:
    """Elements of one position where positions follow each other in a stream, else of the whole array."""
    return int(variable.shape[-1] if stream else math.prod(variable.shape))


def _sizes(node: Any, what: str) -> tuple[int, ...]:
    """Height and width of something of a layer in two dimensions, the width alone in one."""
    names = ("height", "width") if "2D" in node.class_name else ("width",)
    # Pooling in one dimension states plain n_in, n_out.
    return tuple(int(node.get_attr(f"{what}_{name}") or node.get_attr(f"n_{what}") or 1) for name in names)


def _reads(source: Any, kind: LayerKind, stream: bool) -> tuple[int, ...]:
    """Positions in which the inputs of a dense layer follow each other in a stream; () for one."""
    positions = math.prod(source.shape) // int(getattr(source.type, "n_elem", math.prod(source.shape)))
    return (positions,) if stream and kind == "dense" and positions > 1 else ()


def _positions(node: Any, kind: LayerKind, output: Any, stream: bool) -> tuple[int, ...]:
    """Positions of the output: those of the window, or those that follow each other in a stream."""
    if kind in (*_WINDOWED, "zero_padding"):
        return _sizes(node, "out")
    return tuple(int(size) for size in output.shape[:-1]) if stream else ()


def _fixed(node: Any, precision: Any) -> FixedPoint:
    rounding = getattr(precision, "rounding_mode", None)
    overflow = getattr(precision, "saturation_mode", None)
    try:
        return FixedPoint(
            int(precision.width),
            int(precision.integer),
            bool(precision.signed),
            Rounding(f"AP_{rounding.name}") if rounding is not None else Rounding.AP_TRN,
            Overflow(f"AP_{overflow.name}") if overflow is not None else Overflow.AP_WRAP,
        )
    except AttributeError:
        raise ExportError(f"layer {node.name!r} of the hls4ml project has no fixed-point type: {precision}") from None


def _codes(node: Any, name: str) -> tuple[NDArray[np.int64] | None, FixedPoint | None]:
    """Integer codes and type of the weights or the bias of a layer; None when it has none."""
    variable = node.weights.get(name)
    if variable is None:
        return None, None
    fixed = _fixed(node, variable.type.precision)
    values = np.asarray(variable.data, dtype=np.float64)
    if not fixed.contains(values).all():
        raise ExportError(f"{name} of layer {node.name!r} is not on the grid of its type {fixed}")
    return fixed.to_code(values), fixed


def _out_in_kernel(node: Any, kind: LayerKind, weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """hls4ml stores (kernel, in, out), or with the resource strategies (out, kernel, in): to (out, in, kernel)."""
    transposed = bool(node.get_attr("_weights_transposed", False))
    if kind == "dense":
        return weight if transposed else weight.T
    kernel_axes = tuple(range(weight.ndim - 2))
    if transposed:
        return weight.transpose(0, weight.ndim - 1, *(axis + 1 for axis in kernel_axes))
    return weight.transpose(weight.ndim - 1, weight.ndim - 2, *kernel_axes)
