"""The QONNX ``Quant`` node of a fixed-point type."""

from __future__ import annotations

from typing import Any

import torch

from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

QONNX_DOMAIN = "qonnx.custom_op.general"

_ROUNDING = {Rounding.AP_TRN: "FLOOR", Rounding.AP_RND_CONV: "ROUND"}
"""The modes that qonnx, hls4ml and alkaid all implement with the same bits."""


def quant_node(g: Any, x: Any, fixed: FixedPoint) -> Any:
    """Emit ``Quant(x, scale = LSB, zero point = 0, bit width)`` while torch exports the graph ``g``.

    Raises ExportError for a rounding or overflow mode that a Quant node cannot express.
    """
    rounding = _ROUNDING.get(fixed.rounding)
    if rounding is None or fixed.overflow not in (Overflow.AP_SAT, Overflow.AP_SAT_SYM):
        raise ExportError(
            f"{fixed} cannot be written as a QONNX Quant node",
            hint="use rounding AP_TRN or AP_RND_CONV and overflow AP_SAT",
        )

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
        rounding_mode_s=rounding,
    )
    return node.setType(x.type())
