"""What the two-stage firmware is made of: two networks, thresholds, the engine and the cycles of every part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import ConfigError, DataError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.output_step import output_fraction_bits
from trigger_prune.two_stage.firmware.cycle_model import FirmwareTiming, IntegerThresholds
from trigger_prune.two_stage.traffic import MAX_BATCH, Engine
from trigger_prune.verify.representations import FLOAT64_BITS, accumulator_bits

Ints = NDArray[np.int64]

SCORE_KINDS = ("head", "difference")
"""Scores that comparators and one subtractor make; the others need multipliers behind the network."""

_CHUNK_OBJECTS = 8192


@dataclass(frozen=True, eq=False)
class FirmwareModel:
    """One of the two networks.

    network       quantised network
    score         from its outputs to the number that is compared: ``head`` or ``difference``
    kept_inputs   the features of an object that it reads (for more than one axis: along the first), in this order

    Raises ConfigError for another kind of score, and ModelError for a network that does not read as many features or
    whose sums do not fit float64, so that no exact reference exists.
    """

    network: fx.GraphModule
    score: Score
    kept_inputs: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.score.kind not in SCORE_KINDS:
            raise ConfigError(
                f"the firmware has no circuit for a score of kind {self.score.kind!r}",
                hint=f"the comparators make {' and '.join(SCORE_KINDS)} of a network's outputs",
            )
        wanted = input_shape_of(self.network)
        if len(self.kept_inputs) != wanted[0]:
            raise ModelError(f"{len(self.kept_inputs)} features are kept for a network that reads {wanted[0]}")
        if (bits := accumulator_bits(self.network)) > FLOAT64_BITS:
            raise ModelError(f"the accumulators need {bits} bits, float64 is exact up to {FLOAT64_BITS}")

    @property
    def input_type(self) -> FixedPoint:
        """Type of a feature."""
        return input_type_of(self.network)

    @property
    def score_fraction(self) -> int:
        """Scores are whole multiples of ``2 ** -score_fraction``."""
        return output_fraction_bits(self.network)

    def integer_scores(self, features: Ints) -> Ints:
        """Scores ``(objects,)`` in steps of ``2 ** -score_fraction`` of feature codes ``(objects, *feature_shape)``.

        The torch network in float64, where every sum of it is exact. Raises ModelError for outputs of several axes.
        """
        kept = np.ascontiguousarray(features[:, list(self.kept_inputs)])
        frozen = freeze(self.network, double=True).cpu()
        found = [np.zeros(0, np.int64)]
        with torch.no_grad():
            for start in range(0, len(kept), _CHUNK_OBJECTS):
                values = kept[start : start + _CHUNK_OBJECTS] * self.input_type.lsb
                outputs = frozen(torch.from_numpy(values))
                if outputs.ndim != 2:
                    raise ModelError(f"the network's outputs have shape {tuple(outputs.shape[1:])}, not one axis")
                steps = np.ldexp(self.score.of(outputs.numpy()), self.score_fraction)
                codes = np.rint(steps).astype(np.int64)
                assert (codes == steps).all(), "a score is off its grid"
                found.append(codes)
        return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class FirmwareDesign:
    """A two-stage trigger that can be written as firmware.

    name                  of the generated project
    feature_shape         of one object, before either network drops features: ``(features,)`` or ``(channels, ...)``
    objects_per_crossing  objects that the interface can take per crossing, 1 .. 16

    Raises ConfigError for another number of objects, for networks whose inputs are of different types, and for
    features that an object does not have.
    """

    name: str
    light: FirmwareModel
    full: FirmwareModel
    thresholds: IntegerThresholds
    engine: Engine
    timing: FirmwareTiming
    objects_per_crossing: int
    feature_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.objects_per_crossing <= MAX_BATCH:
            raise ConfigError(f"{self.objects_per_crossing} objects per crossing: the firmware takes 1 to {MAX_BATCH}")
        if self.light.input_type != self.full.input_type:
            raise ConfigError(
                f"the light network reads {self.light.input_type}, the full one {self.full.input_type}",
                hint="both stages read the same words: give both networks the same input type",
            )
        for name, model in (("light", self.light), ("full", self.full)):
            outside = [i for i in model.kept_inputs if not 0 <= i < self.feature_shape[0]]
            if outside or len(set(model.kept_inputs)) != len(model.kept_inputs):
                raise ConfigError(
                    f"the {name} network reads features {model.kept_inputs} of {self.feature_shape[0]}",
                    hint="each of them once, counted from 0",
                )
            if input_shape_of(model.network)[1:] != self.feature_shape[1:]:
                raise ConfigError(
                    f"the {name} network reads events of shape {input_shape_of(model.network)}, "
                    f"an object has {self.feature_shape}"
                )

    @property
    def input_type(self) -> FixedPoint:
        """Type of a feature, the same for both networks."""
        return self.light.input_type

    @property
    def words_per_object(self) -> int:
        """Features of an object, all axes together."""
        return math.prod(self.feature_shape)

    def check_features(self, features: Ints) -> None:
        """Raise DataError unless these are codes ``(objects, *feature_shape)`` of the input type, naming the first."""
        if features.shape[1:] != self.feature_shape or features.dtype != np.int64:
            raise DataError(
                f"feature codes are {features.dtype} of shape {features.shape}, not int64 of "
                f"(objects, {', '.join(map(str, self.feature_shape))})"
            )
        fixed = self.input_type
        outside = (features < fixed.min_code) | (features > fixed.max_code)
        if outside.any():
            place = tuple(np.argwhere(outside)[0].tolist())
            raise DataError(
                f"object {place[0]} has the code {int(features[place])} at {list(place[1:])}: "
                f"{fixed} holds {fixed.min_code} .. {fixed.max_code}"
            )
