"""The outcome of comparing all representations bit by bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FirstDifference:
    """Where two representations part: the first event, the first layer that differs there, and both values."""

    event: int
    layer: str
    element: int
    expected: float
    got: float


@dataclass(frozen=True)
class PairVerdict:
    """One representation against the fixed-point torch network (the reference).

    ``mismatches`` counts events with at least one differing output; None when the representation failed to run, and
    then ``failure`` says why.
    """

    name: str
    events: int
    mismatches: int | None
    first_difference: FirstDifference | None = None
    failure: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True when it ran and every bit agreed."""
        return self.mismatches == 0


@dataclass(frozen=True)
class Verdict:
    """All pairs. ``accumulator_bits`` is the computed bound that chose ``float_type`` (float32 or float64).

    tolerance   None: bit by bit. Otherwise the network computes with floats, nothing is bit-exact, and an event counts
                as a mismatch when an output differs by more than this fraction of the largest output;
                ``accumulator_bits`` is then 0
    """

    events: int
    accumulator_bits: int
    float_type: str
    pairs: tuple[PairVerdict, ...]
    tolerance: float | None = None

    @property
    def ok(self) -> bool:
        """True when every representation ran and agreed."""
        return all(pair.ok for pair in self.pairs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for verify.json; ``from_dict`` restores an equal verdict."""
        return {**asdict(self), "ok": self.ok}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Verdict:
        """Inverse of ``to_dict``."""
        pairs = []
        for pair in raw["pairs"]:
            first = pair["first_difference"]
            pairs.append(PairVerdict(**{**pair, "first_difference": FirstDifference(**first) if first else None}))
        return cls(raw["events"], raw["accumulator_bits"], raw["float_type"], tuple(pairs), raw.get("tolerance"))
