"""Are the weights of a project those that were synthesised? Stored models are often newer than the reports.

A module of strategy latency reads exactly the inputs that some weight uses, returns exactly the outputs that the next
layer uses, and has no more multipliers than distinct products of three or more digits (canonical signed digit form).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.design import HlsLayer
from trigger_prune.synthesis.calibration.module_reports import ModuleReport

_SLACK = 0.02
"""Share of ports that may differ: a value that later turns out constant is not passed."""
_MULTIPLIERS_OVER = 1.05


def contradiction(layer: HlsLayer, module: ModuleReport, used_next: int | None) -> str | None:
    """Why ``module`` cannot have been made from ``layer.weight``, or None.

    used_next   outputs that the layers behind use; None = not known
    """
    if layer.weight is None or layer.weight.ndim != 2:
        return None
    read, returned = module.input_bits / layer.input_type.width, module.output_bits / layer.output_type.width
    if read > layer.n_in or returned > layer.n_out:
        return f"the module passes {read:g} -> {returned:g} values, the weights are {layer.n_in} x {layer.n_out}"
    if returned and used_next is not None and _differs(returned, used_next):
        return f"the module returns {returned:g} values, but {used_next} outputs are used"
    if layer.strategy != "latency":
        return None
    all_alive = returned >= layer.n_out
    used = used_inputs(layer.weight)
    # The first layer may be passed its whole array; with dead outputs, inputs that only they use are not read.
    if read and read != layer.n_in and (read > used * (1 + _SLACK) or (all_alive and _differs(read, used))):
        return f"the module reads {read:g} values, but the weights use {used} inputs"
    multipliers, most = module.report.used.dsp, many_digit_products(layer.weight)
    # A product wider than the ports of a DSP takes two, rarely four; only narrow ones say something.
    narrow = layer.weight_type is not None and max(layer.input_type.width, layer.weight_type.width) <= 18
    if narrow and multipliers is not None and multipliers > most * _MULTIPLIERS_OVER + 1:
        return f"the module has {multipliers} multipliers, the weights need {most} at most"
    return None


def _differs(first: float, second: float) -> bool:
    return abs(first - second) > _SLACK * second


def used_inputs(weight: NDArray[np.int64]) -> int:
    """Inputs with a weight that is not 0; ``weight`` is (out, in)."""
    return int((weight != 0).any(axis=0).sum())


def many_digit_products(weight: NDArray[np.int64]) -> int:
    """Distinct (input, constant) pairs with three or more canonical signed digits."""
    columns = np.broadcast_to(np.arange(weight.shape[1]), weight.shape)
    pairs = np.unique(np.stack([columns.ravel(), weight.ravel()]), axis=1)
    return int((signed_digits(pairs[1]) >= 3).sum())


def signed_digits(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Non-zero digits of the canonical signed digit form: bits that differ between 3 |v| and |v| (Reitwiesner)."""
    magnitude = np.abs(values)
    return np.bitwise_count((3 * magnitude) ^ magnitude).astype(np.int64)
