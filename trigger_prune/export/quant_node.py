"""The QONNX ``Quant`` node of a fixed-point type."""

from __future__ import annotations

from typing import Any

import torch

from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

QONNX_DOMAIN = "qonnx.custom_op.general"

_ROUNDING = {Rounding.AP_TRN: "FLOOR", Rounding.AP_RND_CONV: "ROUND"}
"""The modes that qonnx, hls4ml and alkaid all implement with the same bits."""


def require_expressible(fixed: FixedPoint, where: str) -> None:
    """Raise ExportError, naming ``where``, for a type that no Quant node gives with the same bits."""
    if fixed.rounding not in _ROUNDING or fixed.overflow not in (Overflow.AP_SAT, Overflow.AP_SAT_SYM):
        raise ExportError(
            f"{where}: {fixed} cannot be written as a QONNX Quant node",
            hint="use rounding AP_TRN or AP_RND_CONV and overflow AP_SAT",
        )
    if fixed.signed and fixed.width == 1:
        # qonnx reads one signed bit as -1 and +1, ap_fixed as -1 and 0.
        raise ExportError(
            f"{where}: {fixed} is a lone sign bit, which tools read as 0 and -1 or as +1 and -1",
            hint="use two bits or more for signed values",
        )


def quant_node(g: Any, x: Any, fixed: FixedPoint) -> Any:
    """Emit ``Quant(x, scale = LSB, zero point = 0, bit width)`` while torch exports the graph ``g``.

    Raises ExportError for a type that a Quant node cannot express.
    """
    require_expressible(fixed, "a quantiser")

    def constant(value: float) -> Any:
        return g.op("Constant", value_t=torch.tensor(value, dtype=torch.float32))

    node = g.op(
        f"{QONNX_DOMAIN}::Quant",
        x,
        constant(fixed.lsb),
        constant(0.0),
        constant(float(fixed.width)),
        signed_i=int(fixed.signed),
        narrow_i=int(fixed.signed and fixed.overflow is Overflow.AP_SAT_SYM),
        rounding_mode_s=_ROUNDING[fixed.rounding],
    )
    return node.setType(x.type())
