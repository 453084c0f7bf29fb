"""LUTs that csynth counts for a comparison and for an adder, by width and compiler release.

Vivado HLS and Vitis HLS to 2022.2 read comparisons from a table of the next larger of a few widths (8 bits 11 LUT, 16
bits 13, 32 bits 18); from 2023 a comparison of w bits is w + 7. An adder of w bits is w up to 2021.1 and w + 7 from
2022.
"""

from __future__ import annotations

from trigger_prune.cost.hls.design import HlsSetting

_COMPARISON = ((4, 9.0), (8, 11.0), (16, 13.0), (32, 18.0), (64, 29.0))
_OVERHEAD = 7.0


def compare_lut(width: int, setting: HlsSetting) -> float:
    """LUTs of one comparison of two ``width``-bit numbers."""
    if setting.release >= (2023, 1):
        return width + _OVERHEAD
    return next((lut for limit, lut in _COMPARISON if width <= limit), 0.5 * width)


def adder_lut(width: int, setting: HlsSetting) -> float:
    """LUTs of one adder whose result has ``width`` bits."""
    return width + (_OVERHEAD if setting.release >= (2022, 1) else 0.0)
