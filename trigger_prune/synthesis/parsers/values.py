"""Numbers as the vendor tools print them. Everything else is an error that says where it stood.

What a tool writes for "not known" (``?``, ``undef``, ``-``, ``NA``) becomes None, never zero; an empty cell is an
error.
"""

from __future__ import annotations

import math
import re

from trigger_prune.errors import ReportFormatError

UNKNOWN = frozenset({"?", "undef", "-", "NA", "N/A"})

# Written out, because int() and float() also take underscores, other scripts' digits, "nan" and "infinity".
_WHOLE = re.compile(r"[0-9]{1,18}")
_REAL = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,3})?")
_TIME = re.compile(r"(\S+) ?(ps|ns|us|ms|sec|s)")
_RANGE = re.compile(r"(\S+) ~ (\S+)")
_VERSION = re.compile(r"[12][0-9]{3}\.[0-9][\w.]*", re.ASCII)
_PART = re.compile(r"[a-zA-Z0-9]+(?:[-_][a-zA-Z0-9]+)*")
_NS = {"ps": 1e-3, "ns": 1.0, "us": 1e3, "ms": 1e6, "sec": 1e9, "s": 1e9}


def whole(text: str, where: str) -> int:
    """A count. ``where`` (file, section, entry) begins the message of the ReportFormatError for anything else."""
    text = text.strip()
    if _WHOLE.fullmatch(text) is None:
        raise _not("a whole number", text, where)
    return int(text)


def real(text: str, where: str) -> float:
    """A finite number with an optional sign, fraction and exponent."""
    text = text.strip()
    value = float(text) if _REAL.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise _not("a number", text, where)
    return value


def amount(text: str, where: str) -> float:
    """A number that cannot be negative: a period, a duration, memory."""
    value = real(text, where)
    if value < 0:
        raise ReportFormatError(f"{where} is {text.strip()!r}, below zero")
    return value


def whole_if_known(text: str, where: str) -> int | None:
    """``whole``, or None where the tool says that it does not know."""
    return None if text.strip() in UNKNOWN else whole(text, where)


def real_if_known(text: str, where: str) -> float | None:
    """``real``, or None where the tool says that it does not know."""
    return None if text.strip() in UNKNOWN else real(text, where)


def amount_if_known(text: str, where: str) -> float | None:
    """``amount``, or None where the tool says that it does not know."""
    return None if text.strip() in UNKNOWN else amount(text, where)


def whole_range(text: str, where: str) -> tuple[int | None, int | None]:
    """``7`` as (7, 7) and ``3 ~ 12`` as (3, 12)."""
    low, high = _ends(text)
    return whole_if_known(low, where), whole_if_known(high, where)


def amount_range(text: str, where: str) -> tuple[float | None, float | None]:
    """Like ``whole_range`` for numbers with a fraction."""
    low, high = _ends(text)
    return amount_if_known(low, where), amount_if_known(high, where)


def nanoseconds(text: str, where: str) -> float | None:
    """``0.366 us`` as 366.0; None where the tool says that it does not know."""
    text = text.strip()
    if text in UNKNOWN:
        return None
    found = _TIME.fullmatch(text)
    if found is None:
        raise _not("a time with its unit", text, where)
    return amount(found[1], where) * _NS[found[2]]


def version(text: str, where: str) -> str:
    """A tool version, ``2019.2.1``."""
    if _VERSION.fullmatch(text) is None:
        raise _not("a version of the tool", text, where)
    return text


def part_name(text: str, where: str) -> str:
    """Name of a device, ``xcvu13p-flga2577-2-e`` or ``xcu250figd2104-2L``."""
    if _PART.fullmatch(text) is None:
        raise _not("the name of a part", text, where)
    return text


def _ends(text: str) -> tuple[str, str]:
    found = _RANGE.fullmatch(text.strip())
    return (found[1], found[2]) if found else (text, text)


def _not(expected: str, text: str, where: str) -> ReportFormatError:
    if not text:
        return ReportFormatError(f"{where} is empty")
    shown = text if len(text) <= 40 else text[:40] + "..."
    return ReportFormatError(f"{where} is {shown!r}, not {expected}")
