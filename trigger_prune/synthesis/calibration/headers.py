"""The C++ of an hls4ml project (``firmware/``): exactly what is synthesised, edits by hand included."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.calibration.module_names import kind_of
from trigger_prune.cost.hls.design import HlsLayer, LayerKind
from trigger_prune.errors import FixedPointError, ReportFormatError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration.drafts import Draft, strategy_named

_TYPEDEF = re.compile(r"typedef\s+(?:nnet::array<\s*)?(ap_u?fixed<[^>]*>)[^;]*?\s(\w+)\s*;")
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
    types = {name: _fixed(text, firmware) for text, name in _TYPEDEF.findall(defines)}
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
        # hls4ml writes the layer's name behind the call.
        drafts.append(replace(draft, layer=replace(draft.layer, name=name)) if name else draft)
    return tuple(drafts)


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
    kernel = _window(struct, "filt")
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
        input_size=_window(struct, "in"),
        output_size=_window(struct, "out"),
        table_size=struct.constants.get("table_size", 1024),
        implementation=struct.words.get("implementation", "stable").split("::")[-1].removeprefix("softmax_"),
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


def _weights(
    firmware: Path, name: str, fixed: FixedPoint, n_in: int, n_out: int, kernel: tuple[int, ...], strategy: str
) -> NDArray[np.int64]:
    flat = _read_weights(firmware, name, fixed)
    shape = (*kernel, n_in, n_out)
    if flat.size != int(np.prod(shape)):
        raise ReportFormatError(f"weights/{name}.h holds {flat.size} values, not {'x'.join(map(str, shape))}")
    if strategy == "resource":
        # hls4ml stores the weights of this strategy outputs first.
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
