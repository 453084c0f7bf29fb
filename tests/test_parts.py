"""The parts catalogue."""

import csv
from pathlib import Path

import pytest

from trigger_prune.parts import PARTS, find_part

INDEX = Path(__file__).parents[2] / "shared" / "hls_reports" / "INDEX_csynth.csv"


def test_part_of_a_full_number():
    part = find_part("XCVU13P-flga2577-2-e")
    assert part is PARTS["xcvu13p"]
    # Data sheet DS890: 2,688 block RAMs of 36 Kbit, two 18 Kbit units each; two flip-flops per LUT
    assert part.bram18 == 2 * 2688
    assert part.ff == 2 * part.lut


@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("xc7z020clg400-1", "xc7z020"),
        ("xc7z020-clg400-1", "xc7z020"),
        ("xcku115-flvb2104-2-i", "xcku115"),
        ("xczu5ev-sfvc784-1-e", "xczu5ev"),
        (" xcu250-figd2104-2L-e ", "xcu250"),
    ],
)
def test_ways_to_write_a_part(number, name):
    assert find_part(number) is PARTS[name]


@pytest.mark.parametrize("number", ["", "xcvu1", "xcku0405-x", "xc7z0200clg400", "5CGXFC9E7F35C8"])
def test_unknown_part_is_none(number):
    assert find_part(number) is None


@pytest.mark.skipif(not INDEX.is_file(), reason="the collection of public HLS reports is not beside this checkout")
def test_catalogue_agrees_with_what_the_tools_report():
    compared = 0
    for row in csv.DictReader(INDEX.open()):
        part = find_part(row["part"])
        if part is None:
            continue
        stated = (row["av_LUT"], row["av_FF"], row["av_DSP48E"] or row["av_DSP"], row["av_BRAM_18K"], row["av_URAM"])
        assert tuple(int(float(v)) for v in stated) == (part.lut, part.ff, part.dsp, part.bram18, part.uram)
        assert part.family == row["family"]
        compared += 1
    assert compared > 30
