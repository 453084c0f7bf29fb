"""Profiles as rows of plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trigger_prune.quantize.profile.measure import QUANTILES, RangeProfile


def profile_rows(profiles: tuple[RangeProfile, ...]) -> list[dict[str, Any]]:
    """One row per tensor; quantiles as ``log2_p25`` and so on."""
    rows = []
    for profile in profiles:
        row = asdict(profile)
        quantiles = row.pop("log2_quantiles") or (None,) * len(QUANTILES)
        row |= {f"log2_p{100 * level:g}": value for level, value in zip(QUANTILES, quantiles, strict=True)}
        row["spare_integer_bits"] = profile.spare_bits
        rows.append(row)
    return rows


def from_dict(raw: dict[str, Any]) -> RangeProfile:
    """Inverse of ``dataclasses.asdict``, also after JSON."""
    quantiles = raw["log2_quantiles"]
    return RangeProfile(**{**raw, "log2_quantiles": None if quantiles is None else tuple(quantiles)})
