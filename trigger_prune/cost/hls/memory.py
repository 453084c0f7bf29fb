"""Block RAMs of a read-only memory, as csynth counts them.

One 18K block is 512 x 36 or 1024 x 18. A deeper memory is cut into pieces of 1024 rows and a rest that is laid out on
its own. Memories below 1024 bits go into LUTs.
"""

from __future__ import annotations

_LEAST_BITS = 1024
_NARROW_ROWS, _NARROW_BITS = 1024, 18
_WIDE_ROWS, _WIDE_BITS = 512, 36


def rom_bram18(rows: int, width: int) -> int:
    """18K blocks of a ROM of ``rows`` x ``width`` bits."""
    if rows * width < _LEAST_BITS:
        return 0
    pieces, rest = divmod(rows, _NARROW_ROWS)
    blocks = pieces * -(-width // _NARROW_BITS)
    if rest > _WIDE_ROWS:
        blocks += -(-width // _NARROW_BITS)
    elif rest:
        blocks += -(-width // _WIDE_BITS)
    return blocks
