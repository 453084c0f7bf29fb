"""``EventSample``: the events every stage works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError


@dataclass(frozen=True)
class EventSample:
    """Events with labels, weights and names.

    features        float32 ``(events, features)``, ``(events, features, positions)`` or
                    ``(events, features, height, width)``: the feature (channel) axis is always axis 1
    labels          int64 ``(events,)``, index into ``class_names``
    weights         float64 ``(events,)``, finite and >= 0, at least one > 0
    groups          int64 ``(events,)``: rows that come from one collision share a number and never part in a split
    feature_names   one per feature; class_names one per class
    source          where the events came from, for messages and the report
    observables     name -> float64 ``(events,)``: values of an event that no network sees (what a menu cuts on, offline
                    variables)
    strata          int64 ``(events,)``: rows whose weights were normalised together (one process, one pT-hat bin);
                    None: the weights are not normalised in strata
    rate_weights    whether the weights of background events are rates in Hz, so that all of them add up to the rate of
                    bunch crossings; the weights of signal events are relative in any case
    feature_lsb     physical size of one step of each feature where features are hardware integers; feature_units the
                    units of it

    Raises DataError (naming source and first offending row) on wrong shapes, NaN or infinity, empty classes,
    labels outside the classes, repeated names.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    source: str
    observables: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    strata: NDArray[np.int64] | None = None
    rate_weights: bool = False
    feature_lsb: tuple[float, ...] | None = None
    feature_units: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_values()

    @property
    def n_events(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def n_features(self) -> int:
        """Length of axis 1 of ``features``."""
        return int(self.features.shape[1])

    @property
    def n_classes(self) -> int:
        """Number of class names."""
        return len(self.class_names)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event's features, without the event axis."""
        return tuple(self.features.shape[1:])

    def take(self, rows: NDArray[np.int64]) -> EventSample:
        """The sample reduced to ``rows``, in that order."""
        return replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            weights=self.weights[rows],
            groups=self.groups[rows],
            observables={name: values[rows] for name, values in self.observables.items()},
            strata=None if self.strata is None else self.strata[rows],
        )

    def _check_shapes(self) -> None:
        n = len(self.labels)
        if n == 0:
            raise DataError(f"{self.source}: no events")
        if self.features.ndim not in (2, 3, 4):
            raise DataError(
                f"{self.source}: features have shape {self.features.shape}",
                hint="give (events, features), (events, features, positions) or (events, features, height, width)",
            )
        for name in ("features", "weights", "groups"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{self.source}: {len(getattr(self, name))} rows of {name}, but {n} labels")
        for name in ("labels", "weights", "groups"):
            if getattr(self, name).ndim != 1:
                raise DataError(
                    f"{self.source}: {name} have shape {getattr(self, name).shape}, not one value per event"
                )
        if len(self.feature_names) != self.features.shape[1]:
            raise DataError(
                f"{self.source}: {len(self.feature_names)} feature names for {self.features.shape[1]} features"
            )
        for name, values in self.observables.items():
            if values.shape != (n,):
                raise DataError(f"{self.source}: observable {name!r} has shape {values.shape}, not one value per event")
        if self.strata is not None and self.strata.shape != (n,):
            raise DataError(f"{self.source}: strata have shape {self.strata.shape}, not one value per event")
        for name, listed in (("feature_lsb", self.feature_lsb), ("feature_units", self.feature_units)):
            if listed is not None and len(listed) != len(self.feature_names):
                raise DataError(
                    f"{self.source}: {len(listed)} entries of {name} for {len(self.feature_names)} features"
                )
        for kind, names in (("feature", self.feature_names), ("class", self.class_names)):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise DataError(f"{self.source}: {kind} name {repeated[0]!r} is given more than once")

    def _check_values(self) -> None:
        finite = np.isfinite(self.features).reshape(self.n_events, -1).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            column = np.argwhere(~np.isfinite(self.features[row]))[0]
            raise DataError(
                f"{self.source}: feature {self.feature_names[column[0]]!r} of row {row} is "
                f"{self.features[row][tuple(column)]} ({int((~finite).sum())} rows have such values)",
                hint="remove or repair these rows before the run; nothing is filled in silently",
            )
        bad = ~(np.isfinite(self.weights) & (self.weights >= 0))
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"{self.source}: weight of row {row} is {self.weights[row]}, not a number >= 0")
        if not self.weights.any():
            raise DataError(f"{self.source}: all weights are zero")
        outside = (self.labels < 0) | (self.labels >= len(self.class_names))
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(
                f"{self.source}: label {self.labels[row]} of row {row} is none of the {len(self.class_names)} classes "
                f"{', '.join(self.class_names)}"
            )
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        if (counts == 0).any():
            empty = [self.class_names[i] for i in np.flatnonzero(counts == 0)]
            raise DataError(f"{self.source}: no events of class {', '.join(empty)}")
