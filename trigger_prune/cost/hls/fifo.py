"""FIFOs between the functions of an io_stream (or dataflow) design: one for every channel.

Read off the FIFO tables of csynth reports of Vivado HLS 2018.2-2019.2 (Keb-L/hls4ml-data, uw-acme/HLS4ML_VS_MANUAL,
crimson1256/hls4ml_modified_yolo_v3_tiny):

* LUT = 12 + width (at least 4) for a shallow one: 517 of depth 2 x 16 bits sum to 14 476, exactly. Block RAM adds 17,
  and 21 for every further block in depth.
* block RAM from 1024 bits on: ceil(width / 18) columns of 1024 words, depth rounded up to a power of two.
* FF = 5 while in LUTs; else the output word, an address that counts on both sides, and the joint of several blocks.
"""

from __future__ import annotations

import math

from trigger_prune.cost.hls.design import HlsSetting

_LEAST_BITS = 1024
_ROWS, _COLUMN_BITS = 1024, 18
_CONTROL_LUT = 12.0
_LEAST_WIDTH = 4
_BLOCK_LUT, _JOINT_LUT = 17.0, 21.0
_SHALLOW_FF = 5.0
_ADDRESS_FF, _CONTROL_FF, _JOINT_FF = 3.0, 3.0, 3.6


def predict_fifo(depth: int, width_bits: int, setting: HlsSetting) -> tuple[float, float, float]:
    """(LUT, FF, 18K block RAMs) of one FIFO of ``depth`` words. ``setting`` is not used: all releases agree so far."""
    lut = _CONTROL_LUT + max(width_bits, _LEAST_WIDTH)
    if depth * width_bits < _LEAST_BITS:
        return lut, _SHALLOW_FF, 0.0
    columns = -(-width_bits // _COLUMN_BITS)
    rows = -(-(2 ** (depth - 1).bit_length()) // _ROWS)
    joints = columns * (rows - 1)
    ff = width_bits + _ADDRESS_FF * math.log2(depth) + _CONTROL_FF + _JOINT_FF * joints
    return lut + _BLOCK_LUT + _JOINT_LUT * joints, ff, float(columns * rows)
