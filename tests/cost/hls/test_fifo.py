"""FIFOs against sums of public csynth reports."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cost.hls.design import HlsSetting
from trigger_prune.cost.hls.fifo import predict_fifo

SETTING = HlsSetting("vivado_hls", "2019.2", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0, io_type="io_stream")


DESIGNS = Path(__file__).parents[4] / "shared" / "synthesis" / "designs.csv"


@pytest.mark.parametrize(("width", "lut"), [(16, 28), (4, 16)])
def test_shallow_ones(width: int, lut: int):
    # Vivado HLS counts a shift register as width + 12 LUT and 5 flip-flops of control
    assert predict_fifo(2, width, SETTING) == (lut, 5, 0)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(16, 0), (36, 2), (64, 2), (1024, 2), (1156, 4), (4096, 8), (4356, 16), (16384, 32), (16900, 64)],
)
def test_block_rams_of_32_bit_words(depth: int, blocks: int):
    assert predict_fifo(depth, 32, SETTING)[2] == blocks


@pytest.mark.skipif(not DESIGNS.is_file(), reason="the tables of public syntheses are not beside this checkout")
def test_networks_of_sixteen_bit_channels():
    compared = set()
    for row in csv.DictReader(DESIGNS.open()):
        model = re.search(r"line_buffer/model(\d+)", row["design"])
        if model is None or not row["top_fifo_lut"]:
            continue
        first, second = int(model[1]), 2 * int(model[1])
        channels = [(3, 400), (first, 256), (first, 256), (first, 64), (first, 100), (second, 64), (second, 64)]
        channels += [(second, 100), (second, 64), (second, 64), (second, 16), (8, 1)]
        total = np.sum([np.array(predict_fifo(depth, 16, SETTING)) * count for count, depth in channels], axis=0)
        assert total[2] == float(row["top_fifo_bram"])
        assert total[0] == pytest.approx(float(row["top_fifo_lut"]), rel=0.05)
        assert total[1] == pytest.approx(float(row["top_fifo_ff"]), rel=0.06)
        compared.add(first)
    assert len(compared) >= 3
