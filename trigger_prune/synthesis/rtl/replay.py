"""Teaches alkaid the toolkit's own layers, ``FixedQuantizer`` and ``ChannelQuantizer``.

alkaid finds this through the entry point ``alkaid_torch: trigger_prune``, so ``alkaid`` can also be used directly on
networks made here. Importing the module imports alkaid; the package imports it only when a network is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trigger_prune.errors import UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

_ROUND_MODES = {Rounding.AP_TRN: "TRN", Rounding.AP_RND: "RND", Rounding.AP_RND_CONV: "RND_CONV"}
_OVERFLOW_MODES = {Overflow.AP_WRAP: "WRAP", Overflow.AP_SAT: "SAT", Overflow.AP_SAT_SYM: "SAT_SYM"}

_registered = False


def to_kif(fixed: FixedPoint) -> tuple[int, int, int]:
    """alkaid's (sign bit, integer bits without sign, fraction bits) of a type."""
    return int(fixed.signed), fixed.integer - int(fixed.signed), fixed.fraction


def replay_quantizer(x: Any, fixed: FixedPoint) -> Any:
    """``FixedQuantizer`` on a symbolic ``FVArray`` of any shape.

    Raises UnsupportedLayerError for a rounding or overflow mode that alkaid has no logic for.
    """
    _require_logic(fixed)
    return _elementwise(x, lambda index: fixed)


def replay_channels(x: Any, types: Sequence[FixedPoint | None]) -> Any:
    """``ChannelQuantizer`` on a symbolic ``FVArray`` ``(1, channels, ...)``. Raises as ``replay_quantizer``."""
    for fixed in types:
        if fixed is not None:
            _require_logic(fixed)
    return _elementwise(x, lambda index: types[index[1]])


def _require_logic(fixed: FixedPoint) -> None:
    if fixed.rounding not in _ROUND_MODES or fixed.overflow not in _OVERFLOW_MODES:
        raise UnsupportedLayerError(
            f"{fixed} cannot be turned into Verilog: alkaid has no logic for this rounding or overflow",
            hint=f"rounding is one of {', '.join(_ROUND_MODES)}; overflow one of {', '.join(_OVERFLOW_MODES)}",
        )
    if fixed.overflow is Overflow.AP_SAT_SYM and fixed.signed and fixed.width == 1:
        # ap_fixed keeps -1 here, alkaid's symmetric saturation makes it 0.
        raise UnsupportedLayerError(f"{fixed} cannot be turned into Verilog", hint="use AP_SAT for a one-bit type")


def _elementwise(x: Any, type_at: Callable[[tuple[int, ...]], FixedPoint | None]) -> Any:
    from alkaid.trace import FVArray

    elements = np.asarray(x)
    converted = np.empty(elements.shape, dtype=object)
    for index, element in np.ndenumerate(elements):
        fixed = type_at(index)
        if fixed is None:
            converted[index] = 0.0
            continue
        # alkaid 0.8.2 wraps an unsigned constant modulo twice its range, so constants are converted here.
        is_constant = element.low == element.high
        converted[index] = float(fixed.quantize(element.low)) if is_constant else _convert(element, fixed)
    return FVArray(converted, x.solver_options, hwconf=x.hwconf)


def _convert(element: Any, fixed: FixedPoint) -> Any:
    k, i, f = to_kif(fixed)
    round_mode = _ROUND_MODES[fixed.rounding]
    if round_mode == "RND_CONV":
        element, round_mode = _ties_to_even(element, f), "TRN"
    return element.quantize(k, i, f, overflow_mode=_OVERFLOW_MODES[fixed.overflow], round_mode=round_mode)


def _ties_to_even(element: Any, f: int) -> Any:
    """``element`` plus what makes a truncation to ``f`` fraction bits round to nearest, ties to even.

    alkaid 0.8.2's own RND_CONV is wrong for values that do not fill their type. Here half an LSB is added, less one
    LSB of the source unless the last bit kept is set: then exactly the ties above even values stay below the step.
    """
    source_f = int(element.kif[2])
    if f >= source_f:
        return element
    source_lsb, lsb = 2.0**-source_f, 2.0**-f
    last_bit_kept = element.quantize(0, 1 - f, f, overflow_mode="WRAP", round_mode="TRN")
    return element + last_bit_kept * (source_lsb / lsb) + (lsb / 2 - source_lsb)


def register() -> None:
    """Register the layer with alkaid (alkaid's metaclass does it when the class is made). Safe to call again."""
    global _registered
    if _registered:
        return
    from alkaid.converter.builtin.torch.layers.modules import ReplayModuleBase

    from trigger_prune.quantize.layers import ChannelQuantizer, FixedQuantizer

    class ReplayFixedQuantizer(ReplayModuleBase):  # type: ignore[misc]
        handles = (FixedQuantizer,)

        def call(self, input: Any) -> Any:
            return replay_quantizer(input, self.module.fixed)

    class ReplayChannelQuantizer(ReplayModuleBase):  # type: ignore[misc]
        handles = (ChannelQuantizer,)

        def call(self, input: Any) -> Any:
            return replay_channels(input, self.module.types)

    _registered = True
