"""Names that HLS compilers give to the functions of hls4ml, and the C++ types in them.

``nnet::dense_latency<ap_fixed<8,2>, ap_fixed<16,4>, config2>`` becomes the module
``dense_latency_ap_fixed_8_2_5_3_0_ap_fixed_16_4_5_3_0_config2_s``; long names lose types, or everything but the
function. Logs keep the template in full: ``dense_latency<ap_fixed<8, 2, (ap_q_mode)5, (ap_o_mode)3, 0>, ...>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trigger_prune.cost.hls.design import LayerKind
from trigger_prune.errors import FixedPointError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

_ROUNDING = tuple(Rounding)
"""In the order of ``ap_q_mode`` (AMD ap_int headers): AP_RND is 0, AP_TRN 5."""
_OVERFLOW = tuple(Overflow)
"""In the order of ``ap_o_mode``: AP_SAT is 0, AP_WRAP 3."""

_MODULE_TYPE = re.compile(r"ap_(u?)fixed_(\d+)_(m?\d+)_(\d)_(\d)_\d+")
_TEMPLATE_TYPE = re.compile(
    r"ap_(u?)fixed<\s*(\d+)\s*,\s*(-?\d+)\s*,\s*(?:\(ap_q_mode\))?(\d)\s*,\s*(?:\(ap_o_mode\))?(\d)\s*,\s*\d+\s*>"
)
_CONFIG = re.compile(r"(?<![A-Za-z0-9])((?:[A-Za-z]+_)?config\d+(?:_(?:mult|recr|[12]))?)(?![A-Za-z0-9])")
_TYPE_REST = re.compile(r"ap_u?fixed|array")
_FUNCTION = re.compile(r"[A-Za-z][A-Za-z0-9_]*?(?=_ap_u?fixed|_array|_config\d|_0_0|<|_s$|$)")

_KINDS: tuple[tuple[str, LayerKind], ...] = (
    ("dense", "dense"),
    ("conv_1d", "conv1d"),
    ("conv_2d", "conv2d"),
    ("pointwise_conv_1d", "conv1d"),
    ("pointwise_conv_2d", "conv2d"),
    ("normalize", "batchnorm"),
    ("relu", "relu"),
    ("leaky_relu", "leaky_relu"),
    ("softmax", "softmax"),
    ("sigmoid", "sigmoid"),
    ("tanh", "tanh"),
    ("linear", "linear"),
    ("global_pooling", "global_pool"),
    ("pooling", "max_pool"),
    ("zeropad", "zero_padding"),
    ("add", "add"),
    ("concatenate", "concatenate"),
)

_NAMED_AFTER_WINDOWS = re.compile(r"(?:\w+_)?conv_[12]d|(?:\w+_)?pooling[12]d|zeropad[12]d|leaky_relu")
_OWN = re.compile(
    r"(?:(?:(?:pointwise_|depthwise_|separable_)?conv_[12]d|(?:global_)?pooling[12]d|zeropad[12]d)"
    r"(?:_(?:large|cl|cl2|cf|latency|resource|buffer|encoded))*|leaky_relu(?:_stream)?)(?:_s)?"
)
"""``conv_2d_cl``, ``conv_1d_latency_cl``, ``pooling2d_cl`` ...; a project's own end otherwise (``conv_2d_cl_me``)."""


@dataclass(frozen=True)
class FunctionName:
    """A function of hls4ml: its C++ name, the types of its input and output, its configuration (None = not stated)."""

    function: str
    input_type: FixedPoint | None
    output_type: FixedPoint | None
    config: str | None


def fixed_type(unsigned: str, width: str, integer: str, rounding: str, overflow: str) -> FixedPoint:
    """A type from the numbers in a name. Raises FixedPointError for one that is not supported."""
    try:
        modes = _ROUNDING[int(rounding)], _OVERFLOW[int(overflow)]
    except IndexError:
        raise FixedPointError(f"rounding mode {rounding} or overflow mode {overflow} of ap_fixed is unknown") from None
    return FixedPoint(int(width), int(integer.replace("m", "-")), not unsigned, *modes)


def parse_module(name: str) -> FunctionName:
    """Parts of a module name, with or without the ``_s`` and ``_csynth`` that the tools add."""
    return _parse(name, _MODULE_TYPE)


def parse_template(text: str) -> FunctionName:
    """Parts of ``nnet::relu<ap_fixed<...>, ap_fixed<...>, relu_config4>``."""
    return _parse(text.removeprefix("nnet::"), _TEMPLATE_TYPE)


def _parse(text: str, pattern: re.Pattern[str]) -> FunctionName:
    types: list[FixedPoint | None] = []
    for match in pattern.finditer(text):
        try:
            types.append(fixed_type(*match.groups()))
        except FixedPointError:
            types.append(None)  # wider than any type the estimates know
    if len(types) < 2:
        # A name that has lost one of the types keeps that of the output.
        types = [None, *types, None][:2]
    function = _FUNCTION.match(text)
    config = _CONFIG.search(_TYPE_REST.sub(" ", pattern.sub(" ", text)))
    return FunctionName(
        function.group(0) if function else text, types[0], types[1], config.group(1) if config else None
    )


def is_hls4mls_own(function: str) -> bool:
    """False for a function on windows or a leaky ReLU that is a project's own variant of hls4ml's, by its name."""
    if not _NAMED_AFTER_WINDOWS.match(function):
        return True
    return _OWN.fullmatch(function) is not None


def kind_of(function: str) -> LayerKind:
    """Kind of layer that a function of hls4ml computes; ``other`` for recurrent layers, resizing, windows ..."""
    name = function.lower()
    for prefix, kind in _KINDS:
        if name.startswith(prefix):
            return kind
    return "other"
