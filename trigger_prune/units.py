"""Clock cycles, nanoseconds and bunch crossings: the one place where they are converted."""

from __future__ import annotations

LHC_CLOCK_MHZ = 40.079
"""LHC bunch-crossing frequency in MHz."""

BUNCH_CROSSING_NS = 1e3 / LHC_CLOCK_MHZ
"""Time between two bunch crossings, 24.951 ns."""


def cycles_to_ns(cycles: float, clock_period_ns: float) -> float:
    """Duration of ``cycles`` clock cycles in ns."""
    return cycles * clock_period_ns


def ns_to_bunch_crossings(duration_ns: float) -> float:
    """Duration in units of one bunch crossing (not rounded)."""
    return duration_ns / BUNCH_CROSSING_NS


def mhz_to_period_ns(frequency_mhz: float) -> float:
    """Clock period in ns of a frequency in MHz."""
    return 1e3 / frequency_mhz
