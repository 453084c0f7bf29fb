"""Numbers as a reader sees them: thousands apart, as many digits as the error allows, a dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"  # noqa: RUF001
THIN_SPACE = "\u202f"


def count(value: float | None) -> str:
    """An integer with thin spaces between thousands."""
    return MISSING if value is None else f"{value:,.0f}".replace(",", THIN_SPACE)


def ratio(value: float | None) -> str:
    """A factor with two to three significant digits."""
    if value is None:
        return MISSING
    return f"{value:.2f}" if value < 3 else f"{value:.1f}" if value < 100 else count(value)


def percent(value: float | None, places: int = 1) -> str:
    """A fraction in percent."""
    return MISSING if value is None else f"{100 * value:.{places}f}{THIN_SPACE}%"


def decimal(value: float | None, places: int = 3) -> str:
    """A plain decimal number."""
    return MISSING if value is None else f"{value:.{places}f}"


def time_ns(value: float | None) -> str:
    """A latency in ns; whole numbers without decimals."""
    return MISSING if value is None else f"{value:.4g}"


def time_us(value: float | None) -> str:
    """A run time in microseconds with three significant digits."""
    if value is None:
        return MISSING
    if value >= 99.95:
        return count(value)
    places = 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{value:.{places}f}"


def bounds(raw: Any) -> str:
    """The two ends of an interval of counts."""
    return "" if raw is None else f"{count(raw[0])} … {count(raw[1])}"


def duration(seconds: float | None) -> str:
    """A wall time."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{THIN_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ([f"{hours}{THIN_SPACE}h"] if hours else []) + [f"{minutes}{THIN_SPACE}min", f"{rest}{THIN_SPACE}s"]
    return " ".join(parts)


def places_for(error: float | None, scale: float = 1.0) -> int:
    """Decimals that show two significant digits of ``error * scale``, between 1 and 4; 3 without a usable error."""
    if error is None or not math.isfinite(error) or error <= 0:
        return 3 if scale == 1 else 1
    return min(4, max(1, 1 - math.floor(math.log10(error * scale))))


def with_error(value: float | None, error: float | None, scale: float = 1.0) -> str:
    """``value +- error``, both times ``scale``, with two significant digits of the error."""
    if value is None:
        return MISSING
    places = places_for(error, scale)
    text = signed(value * scale, places)
    return text if error is None else f"{text} ± {error * scale:.{places}f}"


def estimate_parts(raw: Mapping[str, Any] | None, scale: float = 1.0) -> dict[str, str]:
    """Texts of an interval object of summary.json, times ``scale``.

    Keys: ``value``; ``band68``, one number after ``±`` or two when the interval is lopsided; ``range95``.
    """
    if raw is None:
        return {"value": MISSING, "band68": "", "range95": ""}
    value = raw["value"]
    up, down = raw["high68"] - value, value - raw["low68"]
    places = places_for(min((x for x in (up, down) if x > 0), default=None), scale)
    up_text, down_text = f"{up * scale:.{places}f}", f"{down * scale:.{places}f}"
    band = f"± {up_text}" if up_text == down_text else f"+{up_text} −{down_text}"  # noqa: RUF001
    low, high = (f"{raw[key] * scale:.{places}f}" for key in ("low95", "high95"))
    return {"value": f"{value * scale:.{places}f}", "band68": band, "range95": f"{low} … {high}"}


def signed(value: float, places: int) -> str:
    """A number with a true minus sign."""
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")  # noqa: RUF001


def shorten(name: str, length: int = 24) -> str:
    """A name that fits a plot: beginning and end are kept, as numbered names differ at the end."""
    if len(name) <= length:
        return name
    end = length // 3
    return f"{name[: length - end - 1]}…{name[-end:]}"
