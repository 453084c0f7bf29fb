"""Where the adder graph is cut into pipeline stages, and how long a stage takes by a stated delay model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from trigger_prune.cost.delay_model import DelayModel
from trigger_prune.errors import CostError

__all__ = ["DelayModel", "adder_depth", "longest_stage", "path_delay", "stages_for_clock"]

_ADDITIONS = (0, 1, 4)  # alkaid's operations a + b, a - b and a + constant
_INPUT, _CONSTANT = -1, 5


def path_delay(ops: Sequence[Any]) -> float:
    """Longest delay through alkaid operations, in alkaid's units: an adder of ``w`` bits takes 1.07 + 0.025 w.

    ``ops`` state when each value is there, counted from the network's input; what counts for one stage is the delay
    of each operation, because every value from an earlier stage is there when the stage begins.
    """
    ends: list[float] = []
    for op in ops:
        ends.append(max((ends[i] for i in op.addr), default=0.0) + _own_delay(op, ops))
    return max(ends, default=0.0)


def adder_depth(comb: Any) -> int:
    """Most additions and subtractions one after the other between input and output."""
    depth: list[int] = []
    for op in comb.ops:
        depth.append(max((depth[i] for i in op.addr), default=0) + (op.opcode in _ADDITIONS))
    return max((depth[i] for i in comb.out_idxs if i >= 0), default=0)


def longest_stage(logic: Iterable[Any]) -> float:
    """Longest delay of the pieces of logic between registers, alkaid's units."""
    return max((path_delay(comb.ops) for comb in logic), default=0.0)


def stages_for_clock(comb: Any, clock_period_ns: float, delays: DelayModel) -> int:
    """Smallest number of balanced stages whose estimated period (``delays``) is at most ``clock_period_ns``.

    Raises CostError when the period is too short for the slowest single operation.
    """
    from alkaid.trace.pipeline import to_pipeline

    budget = delays.units(clock_period_ns)
    slowest = max((_own_delay(op, comb.ops) for op in comb.ops), default=0.0)
    if slowest > budget or budget <= 0:
        raise CostError(
            f"no pipeline reaches a clock period of {clock_period_ns:g} ns by {delays}: the slowest operation alone "
            f"takes {delays.period_ns(slowest):.2f} ns",
            hint="choose a longer clock period, or give the delay model of your device",
        )
    total = max((op.latency for op in comb.ops), default=0.0)
    stages = max(1, math.ceil(total / budget))
    # Equal cuts leave stages that are longer than their share by up to one operation, so more may be needed.
    while longest_stage(to_pipeline(comb, n_stages=stages, verbose=False).logic.values()) > budget:
        stages += 1
    return stages


def _own_delay(op: Any, ops: Sequence[Any]) -> float:
    if op.opcode in (_INPUT, _CONSTANT):
        return 0.0
    return max(float(op.latency) - max((ops[i].latency for i in op.addr), default=0.0), 0.0)
