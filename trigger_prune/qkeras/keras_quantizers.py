"""What QKeras's quantisers do, as fixed-point types and codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qkeras import get_quantizer, quantized_bits, quantized_relu

from trigger_prune.errors import FixedPointError, ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.qkeras.description import Codes
from trigger_prune.quantize.integer_layers import narrowest_type

_STORED_BITS = 24
"""Weights are float32; a scale that is no power of two gives values that need all of its bits, or more."""


def activation_type(quantizer: Any, where: str) -> FixedPoint:
    """The type that an activation quantiser converts to. Raises ModelError, naming ``where``, for any other function.

    quantizer   object, text or dictionary, as a layer holds it
    """
    found = get_quantizer(quantizer)
    name = getattr(found, "__name__", type(found).__name__)
    plain = float(getattr(found, "qnoise_factor", 1.0)) == 1.0
    if isinstance(found, quantized_relu) and plain:
        bounded = found.relu_upper_bound is not None and not found.is_quantized_clip
        if not (found.use_sigmoid or found.negative_slope or bounded):
            return FixedPoint(int(found.bits), int(found.integer), False, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    if isinstance(found, quantized_bits) and plain and _has_unit_scale(found):
        return _declared(found)
    raise ModelError(
        f"{where}: activation {found if isinstance(found, quantized_bits | quantized_relu) else name} is not supported",
        hint="quantized_relu(bits, integer) and quantized_bits(bits, integer, alpha=1) have fixed-point counterparts",
    )


def stored_codes(values: Any, quantizer: Any, where: str) -> tuple[Codes, FixedPoint]:
    """Codes of weights as the layer uses them, and their type: the declared one, or the narrowest of scaled ones.

    Raises ModelError, naming ``where``, when there is no quantiser or its values are on no grid of powers of two.
    """
    if quantizer is None:
        raise ModelError(f"{where} is not quantised", hint="give the layer a kernel_quantizer and a bias_quantizer")
    found = get_quantizer(quantizer)
    quantised: NDArray[np.float64] = np.asarray(found(values), dtype=np.float64)
    if isinstance(found, quantized_bits) and _has_unit_scale(found):
        declared = _declared(found)
        fixed = declared if declared.signed else FixedPoint(declared.width + 1, declared.integer + 1)
    else:
        try:
            fixed = narrowest_type(quantised, where)
        except FixedPointError as error:
            raise ModelError(f"{where}: {error.message}", hint=_SCALE_HINT) from error
        if fixed.width > _STORED_BITS:
            raise ModelError(f"{where}: {found} gives values that need {fixed.width} bits", hint=_SCALE_HINT)
    fixed = FixedPoint(fixed.width, fixed.integer, True, Rounding.AP_RND_CONV, fixed.overflow)
    if fixed.overflow is not Overflow.AP_SAT_SYM:
        fixed = FixedPoint(fixed.width, fixed.integer, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    if not fixed.contains(quantised).all():
        raise ModelError(f"{where}: {found} gives values outside {fixed}")
    return fixed.to_code(quantised), fixed


_SCALE_HINT = "scales must be powers of two: alpha=1 or alpha='auto_po2'"


def _has_unit_scale(quantizer: Any) -> bool:
    scale = quantizer.alpha
    one = scale is None or (not isinstance(scale, str) and np.ndim(scale) == 0 and float(scale) == 1.0)
    return one and int(quantizer.bits) > int(bool(quantizer.keep_negative))


def _declared(quantizer: Any) -> FixedPoint:
    signed = bool(quantizer.keep_negative)
    overflow = Overflow.AP_SAT_SYM if quantizer.symmetric and signed else Overflow.AP_SAT
    return FixedPoint(int(quantizer.bits), int(quantizer.integer) + signed, signed, Rounding.AP_RND_CONV, overflow)
