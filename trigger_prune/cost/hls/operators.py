"""Delays of adders and multipliers, by which an HLS compiler cuts a layer into clock cycles.

The scheduler packs as many operators into a cycle as fit into the period less the uncertainty. The delays depend on
the product family. They were found by matching the latencies and registers of module reports: 7 series from Vitis HLS
2021.1 (xc7z007s, 3.33 and 5 ns), UltraScale+ from Vivado HLS 2019.2 (xcu250, 5 ns). UltraScale was never seen: a value
between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trigger_prune.cost.hls.design import HlsSetting

DEFAULT_UNCERTAINTY = {"vivado_hls": 0.125, "vitis_hls": 0.27}
"""Part of the period that the tools keep as margin (and hls4ml 1.3.0 asks for) when nothing is set."""

DELAYS: Mapping[str, float] = {
    "add_ns_series7": 2.27,
    "add_ns_ultrascale": 1.2,
    "add_ns_plus": 0.785,
    "add_ns_per_bit_series7": 0.0275,
    "add_ns_per_bit_ultrascale": 0.025,
    "add_ns_per_bit_plus": 0.024,
    "dsp_ns_series7": 3.81,
    "dsp_ns_ultrascale": 2.5,
    "dsp_ns_plus": 1.763,
    "fabric_ns_series7": 5.28,
    "fabric_ns_ultrascale": 1.6,
    "fabric_ns_plus": 1.05,
}
"""An adder of 16 bits, each bit more or less; a multiplier in a DSP; one of 8 x 8 bits in LUTs."""

_PLUS_PART = re.compile(r"xc(u\d|zu|k\d|au|v[cepmh]\d|[vk]u\d+p)")
_ULTRASCALE_PART = re.compile(r"xc[vk]u\d")
_REFERENCE_BITS = 16
_FABRIC_REFERENCE_BITS = 8
_DSP_STAGES = 3
"""States of a DSP multiplication that does not fit into one cycle (``mul_..._3_1`` in the reports)."""
_TERNARY = 1.3
"""Delay of two adders in a row, grouped into a ternary adder, in units of one adder."""


@dataclass(frozen=True)
class Operators:
    """Delays at one clock, ns. ``budget_ns`` is the period less the uncertainty."""

    budget_ns: float
    add_16_ns: float
    add_per_bit_ns: float
    dsp_ns: float
    fabric_ns: float

    def add_ns(self, width: int) -> float:
        """Delay of an adder; never more than a cycle, as no tool splits an adder of these widths."""
        return min(self.add_16_ns + self.add_per_bit_ns * (width - _REFERENCE_BITS), self.budget_ns)

    def levels(self, start_ns: float, width: int, limit: int) -> int:
        """Adder levels that fit into a cycle from ``start_ns`` on; operands of ``width`` bits grow up to ``limit``."""
        time, levels = start_ns, 0
        while levels < 2 * _REFERENCE_BITS:
            width = min(width + 1, limit)
            time += self.add_ns(width)
            if time > self.budget_ns + 1e-9:
                break
            levels += 1
        return levels

    @property
    def ternary(self) -> bool:
        """Whether an adder that forms a product and the first adder of the tree fit into one cycle."""
        return self.add_16_ns * _TERNARY <= self.budget_ns

    def multiplier_ns(self, in_dsp: bool, width: int) -> float:
        """Delay of a multiplier whose wider operand has ``width`` bits."""
        return self.dsp_ns if in_dsp else self.fabric_ns * width / _FABRIC_REFERENCE_BITS

    def multiplier_states(self, in_dsp: bool, width: int) -> int:
        """Cycles that a multiplication takes for itself; 0 = adders follow in the same cycle."""
        delay = self.multiplier_ns(in_dsp, width)
        if delay + self.add_16_ns <= self.budget_ns:
            return 0
        return _DSP_STAGES if in_dsp and delay > self.budget_ns else 1


def family_group(setting: HlsSetting) -> str:
    """``series7``, ``ultrascale`` or ``plus``, from the part number or else the product family."""
    part, family = setting.part.lower(), setting.family.lower()
    if _PLUS_PART.match(part) or "plus" in family or "versal" in family:
        return "plus"
    return "ultrascale" if _ULTRASCALE_PART.match(part) or family in ("kintexu", "virtexu") else "series7"


def uncertainty_ns(setting: HlsSetting) -> float:
    """Margin the tool keeps."""
    if setting.clock_uncertainty_ns is not None:
        return setting.clock_uncertainty_ns
    return setting.clock_period_ns * DEFAULT_UNCERTAINTY[setting.tool]


def operators(setting: HlsSetting, parameters: Mapping[str, float]) -> Operators:
    """Delays for a part and a clock; ``parameters`` may override ``DELAYS``."""
    group, values = family_group(setting), {**DELAYS, **parameters}
    return Operators(
        budget_ns=max(setting.clock_period_ns - uncertainty_ns(setting), 0.1),
        add_16_ns=values[f"add_ns_{group}"],
        add_per_bit_ns=values[f"add_ns_per_bit_{group}"],
        dsp_ns=values[f"dsp_ns_{group}"],
        fabric_ns=values[f"fabric_ns_{group}"],
    )
