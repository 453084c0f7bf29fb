"""Who comes to the full model's engine and how fast it serves: beam structure, arrivals per crossing, engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import CollidingBunches, FillingMask

MAX_BATCH = 16
"""Objects that one crossing can send to the full model."""

_SUM_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class BeamStructure:
    """Slots of one period of the beam (3564 for the LHC, any number otherwise): ``filled`` is bool ``(slots,)``.

    Raises DataError for another type or shape, and when no slot is filled. Equal when name and slots are.
    """

    name: str
    filled: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.filled.ndim != 1 or self.filled.dtype != np.bool_:
            raise DataError(f"beam {self.name}: {self.filled.dtype} values of shape {self.filled.shape}, not booleans")
        if not self.filled.any():
            raise DataError(f"beam {self.name}: no slot is filled")
        filled = self.filled.copy()
        filled.flags.writeable = False
        object.__setattr__(self, "filled", filled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BeamStructure):
            return NotImplemented
        return self.name == other.name and np.array_equal(self.filled, other.filled)

    def __hash__(self) -> int:
        return hash((self.name, self.filled.tobytes()))

    @classmethod
    def from_filling(cls, filling: FillingMask | CollidingBunches) -> BeamStructure:
        """The slots of a filling scheme. Raises ConfigError for a mere number of bunches: a queue needs the pattern."""
        if isinstance(filling, CollidingBunches):
            raise ConfigError(
                f"the queue needs to know which slots are filled, not only that {filling.colliding} are",
                hint="name a filling scheme (72b, 48b, 36b, continuous) or give a mask file; "
                "continuous is a safe upper bound of the losses",
            )
        return cls(filling.name, filling.filled)

    @property
    def slots(self) -> int:
        """Slots of one period."""
        return len(self.filled)

    @property
    def n_filled(self) -> int:
        """Filled slots of one period."""
        return int(self.filled.sum())

    def runs(self) -> tuple[int, tuple[tuple[bool, int], ...]]:
        """First slot behind the longest gap, and from there on ``(filled, slots)`` of every run; the gap comes last."""
        edges = np.flatnonzero(self.filled != np.roll(self.filled, 1))
        if len(edges) == 0:
            return 0, ((True, self.slots),)
        lengths = np.diff(np.append(edges, edges[0] + self.slots))
        gaps = np.where(self.filled[edges], -1, lengths)
        first = (int(np.argmax(gaps)) + 1) % len(edges)
        order = np.roll(np.arange(len(edges)), -first)
        return int(edges[first]), tuple((bool(self.filled[edges[i]]), int(lengths[i])) for i in order)


@dataclass(frozen=True)
class Arrivals:
    """``batch_probability[k]``: probability that a filled crossing sends ``k`` objects to the full model (k <= 16).

    The crossings are independent of each other. Raises DataError unless these are probabilities that add up to 1, and
    when nothing ever arrives.
    """

    batch_probability: tuple[float, ...]

    def __post_init__(self) -> None:
        values = np.asarray(self.batch_probability, np.float64)
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
            raise DataError(f"batch probabilities {self.batch_probability} are not numbers >= 0")
        if len(np.trim_zeros(values, "b")) > MAX_BATCH + 1:
            raise DataError(f"a crossing sends up to {len(values) - 1} objects; at most {MAX_BATCH} are foreseen")
        if abs(float(values.sum()) - 1) > _SUM_TOLERANCE:
            raise DataError(f"batch probabilities add up to {values.sum():.12g}, not to 1")
        if not values[1:].any():
            raise DataError("no crossing sends anything to the full model", hint="lower t_reject")

    @classmethod
    def single(cls, escalated: float) -> Arrivals:
        """At most one object per crossing, with probability ``escalated`` (0 < escalated <= 1)."""
        return cls((1 - escalated, escalated))

    @classmethod
    def thinned(cls, multiplicity_probability: Sequence[float], escalated: float) -> Arrivals:
        """Crossings with ``n`` objects at ``multiplicity_probability[n]``, each on its own with ``escalated``.

        Raises DataError for an ``escalated`` outside 0 .. 1 and as the class does.
        """
        if not 0 <= escalated <= 1:
            raise DataError(f"an escalated fraction of {escalated} makes no sense")
        sizes = np.arange(len(multiplicity_probability))
        thinned = np.asarray(multiplicity_probability, np.float64) @ binom.pmf(sizes, sizes[:, None], escalated)
        return cls(tuple(float(x) for x in thinned))

    @property
    def mean(self) -> float:
        """Objects per filled crossing."""
        return float(np.arange(len(self.batch_probability)) @ np.asarray(self.batch_probability))


@dataclass(frozen=True)
class Engine:
    """One time-shared full model behind a FIFO.

    ii_cycles        a new object starts every so many clock cycles at the earliest (initiation interval)
    clock_multiple   clock cycles per bunch crossing: the clock is this multiple of the LHC clock
    fifo_depth       objects that can wait; the one that the engine started last does not count

    Raises ConfigError for an interval or multiple below 1 and a negative depth.
    """

    ii_cycles: int
    clock_multiple: int
    fifo_depth: int

    def __post_init__(self) -> None:
        if self.ii_cycles < 1 or self.clock_multiple < 1 or self.fifo_depth < 0:
            raise ConfigError(
                f"an engine with II {self.ii_cycles}, {self.clock_multiple} cycles per crossing and FIFO depth "
                f"{self.fifo_depth} makes no sense"
            )

    @property
    def wait_bound_cycles(self) -> int:
        """Longest wait before the engine starts an object: the FIFO was full but for one place, K x II."""
        return self.fifo_depth * self.ii_cycles

    @property
    def drain_bound_cycles(self) -> int:
        """Longest time from entering the FIFO until the engine can start the next object, (K + 1) x II."""
        return (self.fifo_depth + 1) * self.ii_cycles

    @property
    def work_unit_cycles(self) -> int:
        """All waits are whole multiples of this."""
        return math.gcd(self.ii_cycles, self.clock_multiple)
