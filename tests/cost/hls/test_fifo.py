"""FIFOs against sums of public csynth reports."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.cost.hls.design import HlsSetting
from trigger_prune.cost.hls.fifo import predict_fifo

SETTING = HlsSetting("vivado_hls", "2019.2", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0, io_type="io_stream")


@pytest.mark.parametrize(("count", "depth", "width", "lut", "ff"), [(517, 2, 16, 14476, 2585), (243, 2, 4, 3888, 1215)])
def test_shallow_ones_are_exact(count: int, depth: int, width: int, lut: int, ff: int):
    one = predict_fifo(depth, width, SETTING)
    assert (count * one[0], count * one[1], one[2]) == (lut, ff, 0)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(16, 0), (36, 2), (64, 2), (1024, 2), (1156, 4), (4096, 8), (4356, 16), (16384, 32), (16900, 64)],
)
def test_block_rams_of_32_bit_words(depth: int, blocks: int):
    assert predict_fifo(depth, 32, SETTING)[2] == blocks


@pytest.mark.parametrize(
    ("filters", "lut", "ff", "blocks"), [(4, 3035, 2245, 59), (8, 5687, 4321, 115), (64, 42815, 33385, 899)]
)
def test_networks_of_sixteen_bit_channels(filters: int, lut: int, ff: int, blocks: int):
    first, second = filters, 2 * filters
    channels = [(3, 400), (first, 256), (first, 256), (first, 64), (first, 100), (second, 64), (second, 64)]
    channels += [(second, 100), (second, 64), (second, 64), (second, 16), (8, 1)]
    total = np.sum([np.array(predict_fifo(depth, 16, SETTING)) * count for count, depth in channels], axis=0)
    assert total[2] == blocks
    assert total[0] == pytest.approx(lut, rel=0.05)
    assert total[1] == pytest.approx(ff, rel=0.06)
