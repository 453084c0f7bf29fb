"""The parts catalogue: what the FPGAs of trigger boards and of common development boards offer.

Sources: AMD data sheets DS180 and DS190 (7 series, Zynq-7000), DS890 and DS891 (UltraScale, UltraScale+), and the
product tables of the Alveo and Kria cards. A block RAM of 36 Kbit counts as two.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Part:
    """Resources of one FPGA. BRAM is counted in 18 Kbit units, as HLS reports do; ``family`` as they name it."""

    name: str
    family: str
    lut: int
    ff: int
    dsp: int
    bram18: int
    uram: int = 0


def _parts(family: str, *rows: tuple[str, int, int, int, int]) -> list[Part]:
    """Parts with two flip-flops per LUT: every family listed here has them."""
    return [Part(name, family, lut, 2 * lut, dsp, bram18, uram) for name, lut, dsp, bram18, uram in rows]


PARTS = MappingProxyType(
    {
        part.name: part
        for part in (
            *_parts(
                "virtexuplus",
                ("xcvu3p", 394_080, 2_280, 1_440, 320),
                ("xcvu7p", 788_160, 4_560, 2_880, 640),
                ("xcvu9p", 1_182_240, 6_840, 4_320, 960),
                ("xcvu11p", 1_296_000, 9_216, 4_032, 960),
                ("xcvu13p", 1_728_000, 12_288, 5_376, 1_280),
                ("xcvu37p", 1_303_680, 9_024, 4_032, 960),
                ("xcu50", 871_680, 5_952, 2_688, 640),
                ("xcu55c", 1_303_680, 9_024, 4_032, 960),
                ("xcu200", 1_182_240, 6_840, 4_320, 960),
                ("xcu250", 1_728_000, 12_288, 5_376, 1_280),
                ("xcu280", 1_303_680, 9_024, 4_032, 960),
            ),
            *_parts("kintexuplus", ("xcku15p", 522_720, 1_968, 1_968, 128)),
            *_parts(
                "kintexu",
                ("xcku040", 242_400, 1_920, 1_200, 0),
                ("xcku060", 331_680, 2_760, 2_160, 0),
                ("xcku115", 663_360, 5_520, 4_320, 0),
            ),
            *_parts(
                "zynquplus",
                ("xczu3eg", 70_560, 360, 432, 0),
                ("xczu5ev", 117_120, 1_248, 288, 64),
                ("xczu7ev", 230_400, 1_728, 624, 96),
                ("xczu9eg", 274_080, 2_520, 1_824, 0),
                ("xczu19eg", 522_720, 1_968, 1_968, 128),
                ("xczu28dr", 425_280, 4_272, 2_160, 80),
                ("xczu48dr", 425_280, 4_272, 2_160, 80),
                ("xck26", 117_120, 1_248, 288, 64),
            ),
            *_parts(
                "virtex7",
                ("xc7vx485t", 303_600, 2_800, 2_060, 0),
                ("xc7vx690t", 433_200, 3_600, 2_940, 0),
            ),
            *_parts("kintex7", ("xc7k325t", 203_800, 840, 890, 0)),
            *_parts("artix7", ("xc7a35t", 20_800, 90, 100, 0), ("xc7a100t", 63_400, 240, 270, 0)),
            *_parts(
                "zynq",
                ("xc7z007s", 14_400, 66, 100, 0),
                ("xc7z020", 53_200, 220, 280, 0),
                ("xc7z045", 218_600, 900, 1_090, 0),
            ),
        )
    }
)
"""Catalogue entries by device name."""


def find_part(part_number: str) -> Part | None:
    """The entry of a full part number, or None when the part is not in the catalogue.

    The package may follow the device with a hyphen (``xcvu13p-flga2577-2-e``) or without (``xc7z020clg400-1``).
    """
    number = part_number.strip().lower()
    fitting = [name for name in PARTS if number.startswith(name) and not number[len(name) : len(name) + 1].isdigit()]
    return PARTS[max(fitting, key=len)] if fitting else None
