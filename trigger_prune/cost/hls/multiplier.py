"""DSPs of one multiplication of two variables, by the widths of its operands and the compiler.

Thresholds found in module reports (cost of single multiplications, ``a`` the wider operand):

* Vivado HLS to 2020.1 and Vitis HLS to 2022.2: LUT up to 7 x 6 and at b <= 4, DSP from 16 x 5. Nothing between a = 8
  and a = 15 was seen; there the threshold b >= 5 is assumed.
* Vitis HLS from 2023: LUT for a <= 10, DSP from a = 11.

A DSP48E1/E2 multiplies 25 or 27 x 18 bits signed (UG479, UG579). Wider products take several: 18 x 18 one, 20 x 20 two,
32 x 14 two, 32 x 32 four.
"""

from __future__ import annotations

from trigger_prune.cost.hls.design import HlsSetting

ULTRASCALE_PORT = 27
"""Bits of the wider input of a DSP48E2."""
_WIDE_PORT = dict.fromkeys(("virtexuplus", "kintexuplus", "zynquplus", "virtexu", "kintexu"), ULTRASCALE_PORT)
_NARROW_PORT = 18
_WIDE_PORT_7_SERIES = 25


def dsp_per_multiplication(width_a: int, width_b: int, setting: HlsSetting) -> int:
    """DSPs of a signed product of ``width_a`` x ``width_b`` bits; 0 where the compiler uses LUTs."""
    if setting.forced_multiplier == "fabric":
        return 0
    wide, narrow = max(width_a, width_b), min(width_a, width_b)
    if setting.forced_multiplier != "dsp" and _in_fabric(wide, narrow, setting.release):
        return 0
    port = wide_port(setting)
    if narrow > _NARROW_PORT:
        # partial products share the sign bit: the first slice takes the whole port, each further one a bit less
        return _slices(wide, port) * _slices(narrow, _NARROW_PORT)
    return _slices(wide, port)


def wide_port(setting: HlsSetting) -> int:
    """Bits of the wider input of the part's DSP: 27 on UltraScale and UltraScale+, 25 before."""
    family = setting.family.lower()
    ultrascale = family in _WIDE_PORT or (
        not family and setting.part.lower().startswith(("xcu", "xcvu", "xcku", "xczu"))
    )
    return ULTRASCALE_PORT if ultrascale else _WIDE_PORT_7_SERIES


def _slices(width: int, port: int) -> int:
    return 1 if width <= port else 1 + -(-(width - port) // (port - 1))


def _in_fabric(wide: int, narrow: int, release: tuple[int, int]) -> bool:
    if release >= (2023, 1):
        return wide <= 10
    return narrow <= 4 or (wide <= 7 and narrow <= 6)
