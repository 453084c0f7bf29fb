"""The step from physical features to the integers that the network receives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.config.project import InputConfig
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

_FLOAT32_MANTISSA_BITS = 24
_VALUES_PER_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class InputTransform:
    """``fixed.quantize((x - offset) / scale)`` for each feature.

    feature_names   one per feature
    offset, scale   float64 ``(features,)`` in the feature's own unit; scale > 0
    fixed           type of a network input, at most 24 bits wide so that float32 holds every value exactly
    lsb, units      physical size and unit of one step of the feature, where features are hardware integers

    This runs on the data side: it is what the unit upstream of the network does in firmware. The network's own inputs
    are the resulting hardware integers. They must be, because a float rounded twice (first by the ``ap_fixed`` type of
    an input port, which truncates, then by the network's first quantiser) differs from one rounded once.

    Raises DataError on lengths that disagree, a scale that is not a number > 0, or a type wider than 24 bits.
    """

    feature_names: tuple[str, ...]
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    fixed: FixedPoint
    lsb: tuple[float, ...] | None = None
    units: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.feature_names)
        if self.offset.shape != (n,) or self.scale.shape != (n,):
            raise DataError(
                f"input transform: {n} features, offsets of shape {self.offset.shape}, scales of {self.scale.shape}"
            )
        good = np.isfinite(self.offset) & np.isfinite(self.scale) & (self.scale > 0)
        if not good.all():
            i = int(np.argmin(good))
            raise DataError(
                f"input transform: feature {self.feature_names[i]!r} has offset {self.offset[i]}, scale {self.scale[i]}"
            )
        if self.fixed.width > _FLOAT32_MANTISSA_BITS:
            raise DataError(f"input transform: {self.fixed} is wider than the 24 bits that float32 holds exactly")

    def apply(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Network inputs, float32, same shape as ``features`` (``(events, features, ...)``, finite).

        Raises DataError on another number of features, FixedPointError on NaN or infinity.
        """
        self._check(features)
        result = np.empty(features.shape, dtype=np.float32)
        for rows, scaled in self._scaled_chunks(features):
            result[rows] = self.fixed.quantize(scaled)
        return result

    def saturated_fraction(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Part of each feature's values that lie outside the type's range, float64 ``(features,)``."""
        self._check(features)
        count = np.zeros(len(self.feature_names), dtype=np.int64)
        total = 0
        # AP_RND sends a tie upwards: the largest code is left at +1/2 itself, the smallest only below -1/2.
        above = (self.fixed.max_code + 0.5) * self.fixed.lsb
        below = (self.fixed.min_code - 0.5) * self.fixed.lsb
        other_axes = tuple(axis for axis in range(features.ndim) if axis != 1)
        for _, scaled in self._scaled_chunks(features):
            outside = (scaled >= above) | (scaled < below)
            count += outside.sum(axis=other_axes)
            total += outside.size // len(count)
        return count / max(total, 1)

    def select(self, kept: Sequence[int]) -> InputTransform:
        """The transform of the features ``kept`` (indices), in that order. Raises DataError on an index outside."""
        n = len(self.feature_names)
        wrong = [i for i in kept if not 0 <= i < n]
        if wrong:
            raise DataError(f"input transform: feature index {wrong[0]} is outside 0..{n - 1}")
        rows = list(kept)
        names = tuple(self.feature_names[i] for i in rows)
        return InputTransform(
            names,
            self.offset[rows],
            self.scale[rows],
            self.fixed,
            None if self.lsb is None else tuple(self.lsb[i] for i in rows),
            None if self.units is None else tuple(self.units[i] for i in rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores the same transform to the last bit."""
        return {
            "feature_names": list(self.feature_names),
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
            "fixed": str(self.fixed),
            "lsb": None if self.lsb is None else list(self.lsb),
            "units": None if self.units is None else list(self.units),
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> InputTransform:
        """Inverse of ``to_dict``. Raises DataError when a key is missing."""
        missing = [key for key in ("feature_names", "offset", "scale", "fixed") if key not in raw]
        if missing:
            raise DataError(f"input transform: key {missing[0]!r} is missing")
        return cls(
            tuple(raw["feature_names"]),
            np.array(raw["offset"], dtype=np.float64),
            np.array(raw["scale"], dtype=np.float64),
            FixedPoint.parse(raw["fixed"]),
            None if raw.get("lsb") is None else tuple(raw["lsb"]),
            None if raw.get("units") is None else tuple(raw["units"]),
        )

    def _check(self, features: NDArray[np.floating[Any]]) -> None:
        if features.ndim < 2 or features.shape[1] != len(self.feature_names):
            raise DataError(
                f"input transform: features have shape {features.shape}, "
                f"expected (events, {len(self.feature_names)}, ...)"
            )

    def _scaled_chunks(self, features: NDArray[np.floating[Any]]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Rows and their float64 ``(x - offset) / scale``, a few MiB at a time."""
        per_feature = (-1, *(1,) * (features.ndim - 2))
        offset, scale = self.offset.reshape(per_feature), self.scale.reshape(per_feature)
        step = max(1, _VALUES_PER_CHUNK // max(1, math.prod(features.shape[1:])))
        for start in range(0, len(features), step):
            rows = slice(start, start + step)
            yield rows, (features[rows].astype(np.float64) - offset) / scale


def fit_input_transform(train: EventSample, config: InputConfig) -> InputTransform:
    """Centre and scale every feature by its weighted mean and standard deviation over events (and positions).

    Give the training part only. ``config.scale`` chooses the exact standard deviation or the power of two nearest to
    it in log2 (``by_unit``: one for all features of a unit), ``config.offset`` what is subtracted. A feature that is
    constant wherever the weight is positive gets that value as offset and scale 1: it becomes 0 everywhere and later
    stages drop it. Equal columns get equal transforms, bit for bit.

    Raises FixedPointError for an impossible input type.
    """
    fixed = FixedPoint(config.width_bits, config.integer_bits, True, Rounding.AP_RND, Overflow.AP_SAT)
    moments = [_moments(train, i) for i in range(train.n_features)]
    deviations = [sd for _, sd in moments]
    if config.scale == "by_unit":
        deviations = _by_unit(train, deviations)
    scales = [sd if config.scale == "exact" or sd == 1.0 else 2.0 ** round(math.log2(sd)) for sd in deviations]
    offsets = np.array([mean for mean, _ in moments], dtype=np.float64)
    if config.offset != "mean":
        # a constant becomes 0 all the same, whatever it is
        varies = np.array([not _is_constant(train, i) for i in range(train.n_features)])
        offsets = np.where(varies, np.round(offsets) if config.offset == "integer" else 0.0, offsets)
    scale = np.array(scales, dtype=np.float64)
    return InputTransform(train.feature_names, offsets, scale, fixed, train.feature_lsb, train.feature_units)


def _by_unit(train: EventSample, deviations: list[float]) -> list[float]:
    """The largest standard deviation, in physical units, of the features of each unit, in steps of every feature.

    Steps of one unit that differ by powers of two get scales that do. Raises DataError for events without units.
    """
    if train.feature_lsb is None or train.feature_units is None:
        raise DataError(
            f"{train.source}: input.scale by_unit needs features of known step and unit, as level-1 events have them",
            hint="set input.scale to power_of_two",
        )
    varies = [not _is_constant(train, i) for i in range(train.n_features)]
    columns = list(zip(train.feature_units, train.feature_lsb, deviations, varies, strict=True))
    widest = dict.fromkeys(train.feature_units, 0.0)
    for unit, lsb, deviation, used in columns:
        widest[unit] = max(widest[unit], deviation * lsb if used else 0.0)
    return [widest[unit] / lsb if used else 1.0 for unit, lsb, _, used in columns]


def _is_constant(train: EventSample, feature: int) -> bool:
    column = train.features[train.weights > 0, feature]
    return bool(column.min() == column.max())


def _moments(train: EventSample, feature: int) -> tuple[float, float]:
    """Weighted mean and standard deviation of one feature; (value, 1) when it is constant.

    One feature at a time in contiguous memory: the order of the sums is then the same for every column.
    """
    used = train.weights > 0
    column = train.features[used, feature].astype(np.float64)
    low, high = float(column.min()), float(column.max())
    if low == high:
        return low, 1.0
    weights = train.weights[used].reshape(-1, *(1,) * (column.ndim - 1))
    # Relative weights: a sum of weights in Hz squared must not over- or underflow.
    weights = np.broadcast_to(weights / weights.max(), column.shape)
    total = float(weights.sum())
    mean = float((weights * column).sum()) / total
    return mean, math.sqrt(float((weights * (column - mean) ** 2).sum()) / total)
