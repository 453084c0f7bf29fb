"""The C++ of an hls4ml project (``firmware/``): exactly what is synthesised, edits by hand included."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.calibration.module_names import kind_of
from trigger_prune.cost.hls.design import HlsLayer, LayerKind
from trigger_prune.cost.hls.reuse_factor import MULTIPLYING_KINDS
from trigger_prune.errors import FixedPointError, ReportFormatError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration.drafts import Draft, strategy_named

_TYPEDEF = re.compile(r"typedef\s+(?:nnet::array<\s*)?(ap_u?fixed<[^>]*>)(?:\s*,\s*([\d\s*]+)>)?[^;]*?\s(\w+)\s*;")
_STRUCT = re.compile(r"struct\s+(\w+)\s*:\s*nnet::(\w+)\s*\{(.*?)\n\};", re.DOTALL)
_CONSTANT = re.compile(r"static\s+const\s+\w+\s+(\w+)\s*=\s*([^;]+);")
_MEMBER_TYPE = re.compile(r"typedef\s+(\w+|ap_u?fixed<[^>]*>)\s+(\w+_t)\s*;")
_MACRO = re.compile(r"#define\s+(\w+)\s+(\d+)")
_CALL = re.compile(
    r"^[ \t]*nnet::(\w+)<\s*(\w+)\s*,\s*(\w+)\s*,\s*(?:\w+\s*,\s*)?(\w*config\w*)\s*>\s*\(([^;]*)\);"
    r"(?:[ \t]*//[ \t]*(\S+))?",
    re.MULTILINE,
)
_VALUES = re.compile(r"=\s*\{([^}]*)\}")

PARAMETERS = Path("firmware") / "parameters.h"


@dataclass(frozen=True)
class _Struct:
    """A configuration: constants and types by name."""

    constants: dict[str, int]
    words: dict[str, str]
    types: dict[str, str]


def drafts_from_headers(project: Path, top: str) -> tuple[Draft, ...]:
    """Layers in the order of the calls in ``firmware/TOP.cpp``.

    Raises ReportFormatError when a header is missing or states something that cannot be read.
    """
    firmware = project / "firmware"
    defines = _read(firmware / "defines.h")
    typedefs = _TYPEDEF.findall(defines)
    types = {name: _fixed(text, firmware) for text, _, name in typedefs}
    # In io_stream a type is that of all channels of one position: array<ap_fixed<8,3>, 6*1>.
    channels = {name: math.prod(map(int, size.split("*"))) for _, size, name in typedefs if size}
    macros = {name: int(value) for name, value in _MACRO.findall(defines)}
    structs = {
        name: _struct(body, macros) for name, _, body in _STRUCT.findall(_without_comments(_read(project / PARAMETERS)))
    }
    calls = _CALL.findall(_read(firmware / f"{top}.cpp"))
    if not calls:
        raise ReportFormatError(f"{firmware / f'{top}.cpp'} calls no function of hls4ml")
    drafts = []
    for function, input_name, output_name, config, arguments, name in calls:
        if config not in structs:
            raise ReportFormatError(f"{project / PARAMETERS} does not define {config}")
        if input_name not in types or output_name not in types:
            raise ReportFormatError(f"{firmware / 'defines.h'} does not define {input_name} or {output_name}")
        draft = _draft(
            function, types[input_name], types[output_name], config, arguments, structs[config], types, firmware
        )
        layer = draft.layer
        if input_name in channels and output_name in channels:
            layer = _streamed(layer, channels[input_name], channels[output_name])
        # hls4ml writes the layer's name behind the call.
        drafts.append(replace(draft, layer=replace(layer, name=name or layer.name)))
    return tuple(drafts)


def _streamed(layer: HlsLayer, channels_in: int, channels_out: int) -> HlsLayer:
    """Elements of one position, and the positions that follow each other, where the configuration counts them all."""
    positions = layer.n_in // channels_in
    if layer.kind in MULTIPLYING_KINDS:
        reads = layer.kind == "dense" and positions > 1
        return replace(layer, input_size=(positions,)) if reads else layer
    # Of one position alone nothing follows.
    output_size = layer.output_size or ((positions,) if positions > 1 and layer.kind != "global_pool" else ())
    return replace(layer, n_in=channels_in, n_out=channels_out, output_size=output_size)


def _draft(
    function: str,
    input_type: FixedPoint,
    output_type: FixedPoint,
    config: str,
    arguments: str,
    struct: _Struct,
    types: dict[str, FixedPoint],
    firmware: Path,
) -> Draft:
    kind = kind_of(function)
    names = [argument.strip() for argument in arguments.split(",")]
    strategy = strategy_named(struct.words.get("strategy", "latency").removeprefix("nnet::"))
    weight_type, bias_type, accum_type = (_member(struct, types, f"{name}_t") for name in ("weight", "bias", "accum"))
    n_in, n_out = _sizes(struct, kind)
    weight = bias = None
    kernel = _window(struct, "pool") or _window(struct, "filt")
    input_size, output_size = _window(struct, "in"), _window(struct, "out")
    if kind == "max_pool":
        kind = kind if "max" in struct.words.get("pool_op", "max").lower() else "average_pool"
    if kind in ("max_pool", "average_pool", "global_pool"):
        # In one dimension they are called n_in, n_out; global pooling has one output position.
        input_size = input_size or _lengths(struct, "n_in")
        output_size = output_size or _lengths(struct, "n_out")
        channels = struct.constants.get("n_filt", 0)
        n_in, n_out = channels * math.prod(input_size), channels * math.prod(output_size)
    implementation = struct.words.get("implementation", "stable").split("::")[-1].removeprefix("softmax_")
    if kind == "global_pool" and "average" in struct.words.get("pool_op", "").lower():
        implementation = "average"
    if kind in ("dense", "conv1d", "conv2d") and weight_type and bias_type and len(names) >= 4:
        weight = _weights(firmware, names[2], weight_type, n_in, n_out, kernel, strategy)
        bias = _read_weights(firmware, names[3], bias_type)
    layer = HlsLayer(
        name=config,
        kind=kind,
        n_in=n_in,
        n_out=n_out,
        input_type=input_type,
        output_type=output_type,
        strategy=strategy,
        reuse_factor=struct.constants.get("reuse_factor", 1),
        accum_type=accum_type,
        weight=weight,
        weight_type=weight_type,
        bias=bias,
        bias_type=bias_type,
        n_zeros=struct.constants.get("n_zeros"),
        kernel=kernel,
        stride=_window(struct, "stride"),
        input_size=input_size,
        output_size=output_size,
        table_size=struct.constants.get("table_size", 1024),
        implementation=implementation,
        parallelization_factor=_at_a_time(struct, output_size),
    )
    return Draft(layer, config)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ReportFormatError(f"{path} cannot be read: {error}") from None


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


def _fixed(text: str, firmware: Path) -> FixedPoint:
    try:
        return FixedPoint.parse(text)
    except FixedPointError as error:
        raise ReportFormatError(f"{firmware / 'defines.h'}: {error.message}") from None


def _struct(body: str, macros: dict[str, int]) -> _Struct:
    constants: dict[str, int] = {}
    words: dict[str, str] = {}
    for name, value in _CONSTANT.findall(body):
        value = value.strip()
        if value.lstrip("-").isdigit():
            constants[name] = int(value)
        elif value in macros:
            constants[name] = macros[value]
        else:
            words[name] = value
    return _Struct(constants, words, {name: text for text, name in _MEMBER_TYPE.findall(body)})


def _member(struct: _Struct, types: dict[str, FixedPoint], name: str) -> FixedPoint | None:
    text = struct.types.get(name)
    if text is None:
        return None
    try:
        return types.get(text) or FixedPoint.parse(text)
    except FixedPointError:
        return None  # ap_uint and the like: binary and ternary weights


def _sizes(struct: _Struct, kind: LayerKind) -> tuple[int, int]:
    get = struct.constants.get
    if kind in ("conv1d", "conv2d"):
        return get("n_chan", 0), get("n_filt", 0)
    n_in = get("n_in", get("n_chan", get("n_elem", 0)))
    return n_in, get("n_out", n_in) if kind == "dense" else n_in


def _window(struct: _Struct, prefix: str) -> tuple[int, ...]:
    pair = (struct.constants.get(f"{prefix}_height"), struct.constants.get(f"{prefix}_width"))
    return tuple(value for value in pair if value is not None)


def _lengths(struct: _Struct, name: str) -> tuple[int, ...]:
    value = struct.constants.get(name)
    return () if value is None else (value,)


def _at_a_time(struct: _Struct, output_size: tuple[int, ...]) -> int:
    """Output positions of a convolution that are computed side by side: hls4ml's parallelisation factor."""
    return max(math.prod(output_size) // struct.constants.get("n_partitions", math.prod(output_size) or 1), 1)


def _weights(
    firmware: Path, name: str, fixed: FixedPoint, n_in: int, n_out: int, kernel: tuple[int, ...], strategy: str
) -> NDArray[np.int64]:
    flat = _read_weights(firmware, name, fixed)
    shape = (*kernel, n_in, n_out)
    if flat.size != int(np.prod(shape)):
        raise ReportFormatError(f"weights/{name}.h holds {flat.size} values, not {'x'.join(map(str, shape))}")
    if strategy in ("resource", "resource_unrolled"):
        # hls4ml stores the weights of these strategies outputs first.
        return np.moveaxis(flat.reshape(n_out, *kernel, n_in), -1, 1)
    return np.moveaxis(flat.reshape(shape), (-1, -2), (0, 1))


def _read_weights(firmware: Path, name: str, fixed: FixedPoint) -> NDArray[np.int64]:
    """Codes as the C++ compiler computes them from the decimal text, with the rounding of the type."""
    path = firmware / "weights" / f"{name}.h"
    match = _VALUES.search(_read(path))
    if match is None:
        raise ReportFormatError(f"{path} holds no values")
    try:
        return fixed.to_code(np.array([float(value) for value in match.group(1).split(",")]))
    except (ValueError, FixedPointError) as error:
        raise ReportFormatError(f"{path}: {error}") from None
