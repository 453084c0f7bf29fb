"""QONNX ``Quant`` nodes on wires: the fixed-point type that has the same bits, or why there is none.

The modes are those that qonnx executes (``resolve_rounding_mode``): its HALF_UP rounds ties away from zero and its
HALF_DOWN towards zero, where their names in ap_fixed (AP_RND, AP_RND_MIN_INF) point to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from trigger_prune.entry.entered import refusal
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

POWER_OF_TWO_HINT = (
    "train with power-of-two scales (Brevitas: restrict_scaling_type=RestrictValueType.POWER_OF_TWO, e.g. the "
    "quantisers ...FixedPoint), or ask for the nearest ones (--nearest-power-of-two), which changes the outputs"
)

_EXACT = {"ROUND": Rounding.AP_RND_CONV, "HALF_EVEN": Rounding.AP_RND_CONV, "FLOOR": Rounding.AP_TRN}
_NOT_NEGATIVE = {"DOWN": Rounding.AP_TRN, "ROUND_TO_ZERO": Rounding.AP_TRN, "HALF_UP": Rounding.AP_RND}


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute, text as str."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def wire_type(
    node: onnx.NodeProto,
    parameters: list[NDArray[Any] | None],
    *,
    not_negative: bool,
    nearest: Callable[[str], None] | None = None,
) -> FixedPoint:
    """The type that a Quant node on a wire converts to.

    parameters    scale, zero point and bit width
    not_negative  the wire can never be negative
    nearest       told of every scale that was replaced by the nearest power of two; None refuses it

    Raises UnsupportedLayerError naming node, reason and remedy.
    """
    if node.op_type == "BipolarQuant":
        raise refusal(
            node, "its output is +1 or -1, which no fixed-point type holds", "use two bits or more for activations"
        )
    names = ("scale", "zero point", "bit width")
    values = []
    for name, entry in zip(names, parameters, strict=True):
        if entry is None:
            raise refusal(node, f"its {name} is computed from the events", "export a model with fixed quantisers")
        if np.unique(entry).size != 1:
            raise refusal(
                node,
                f"it has {np.unique(entry).size} different values of {name}, one per channel of a wire",
                "use one scale per tensor for activations; weights may have one per channel",
            )
        values.append(float(entry.flat[0]))
    scale, zero_point, width = values
    if zero_point != 0:
        raise refusal(
            node, f"its zero point is {zero_point:g}, not 0", "use symmetric quantisation (Brevitas: ...FixedPoint)"
        )
    if not (width.is_integer() and 1 <= width <= 24):
        raise refusal(node, f"{width:g} bits are not a whole number from 1 to 24", "export a model with fixed bits")
    signed, narrow = bool(attribute(node, "signed", 1)), bool(attribute(node, "narrow", 0))
    if signed and width == 1:
        raise refusal(node, "one signed bit means +1 or -1 in QONNX, 0 or -1 in hardware", "use two bits or more")
    if narrow and not signed:
        raise refusal(
            node, f"unsigned and narrow: the largest code {2 ** int(width) - 1} is left out", "export it with narrow=0"
        )
    fraction = -exponent_of(node, scale, nearest)
    rounding = _rounding(node, str(attribute(node, "rounding_mode", "ROUND")).upper(), not_negative)
    overflow = Overflow.AP_SAT_SYM if narrow else Overflow.AP_SAT
    return FixedPoint(int(width), int(width) - fraction, signed, rounding, overflow)


def exponent_of(node: onnx.NodeProto, scale: float, nearest: Callable[[str], None] | None = None) -> int:
    """log2 of a scale; of the nearest power of two when ``nearest`` is told of it. Raises UnsupportedLayerError."""
    if not (math.isfinite(scale) and scale > 0):
        raise refusal(node, f"its scale {scale:g} is not a positive number", "export the model again")
    mantissa, exponent = math.frexp(scale)
    if mantissa == 0.5:
        return exponent - 1
    if nearest is None:
        raise refusal(node, f"its scale {scale:.9g} is no power of two", POWER_OF_TWO_HINT)
    found = round(math.log2(scale))
    nearest(f"{node.name or node.output[0]}: scale {scale:.6g} became {2.0**found:g}")
    return found


def _rounding(node: onnx.NodeProto, mode: str, not_negative: bool) -> Rounding:
    found = _EXACT.get(mode) or (_NOT_NEGATIVE.get(mode) if not_negative else None)
    if found is None:
        where = "behind a ReLU only" if mode in _NOT_NEGATIVE else "in no case"
        raise refusal(
            node,
            f"rounding mode {mode} has the same bits in every tool {where}",
            "use ROUND (to nearest, ties to even) or FLOOR",
        )
    return found
