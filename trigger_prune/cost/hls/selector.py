"""LUTs that csynth counts for a selector of one out of n words.

Independent of the width of the words: reports of Vivado HLS 2019.1 state 25 LUT for selectors of 4 to 128 words of 20
bits, 33 for 7 to 15 words of 1, 11 or 32 bits, and those of Vitis HLS the same for 7 and 8 bits.

* Vivado HLS to 2019.x: nor does n matter: 25 on 7-series parts, 273 on UltraScale+ (module reports of
  uw-acme/HLS4ML_VS_MANUAL).
* from 2020.1 it grows with n: the table is read off the public sweep wa-hls4ml-search (2020.1, 32 to 256 words: cost of
  one more multiplier, less its adder). Vitis HLS states its 65 for 16 words, too.
"""

from __future__ import annotations

from itertools import pairwise

from trigger_prune.cost.hls.design import HlsSetting
from trigger_prune.cost.hls.multiplier import ULTRASCALE_PORT, wide_port

_TABLE = ((1, 0.0), (2, 9.0), (4, 20.0), (8, 36.0), (16, 65.0), (32, 130.0), (64, 280.0), (128, 679.0), (256, 1368.0))
_BEFORE_2020_SERIES_7, _BEFORE_2020 = 25.0, 273.0


def selector_lut(words: int, setting: HlsSetting) -> float:
    """LUTs of one selector; between the sizes of the table linear, above in proportion."""
    if words <= 1:
        return 0.0
    if setting.release < (2020, 1):
        return _BEFORE_2020 if wide_port(setting) == ULTRASCALE_PORT else _BEFORE_2020_SERIES_7
    for (fewer, low), (more, high) in pairwise(_TABLE):
        if words <= more:
            return low + (high - low) * (words - fewer) / (more - fewer)
    size, lut = _TABLE[-1]
    return lut * words / size
