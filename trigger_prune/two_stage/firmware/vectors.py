"""Golden vectors of the two-stage firmware: what goes in, crossing by crossing, and what must come out.

Text, for test benches in C++ and Verilog (decimal numbers, separated by blanks):

``inputs.dat``    one line per crossing: number of objects, then the codes of all features of all objects in order
``golden.dat``    one line per crossing: decision (0 or 1), objects in the FIFO right after the arrivals
``counters.dat``  one line per counter: name, value after the last crossing has been decided
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.two_stage.firmware.cycle_model import CrossingStream, FirmwareTrace, simulate_firmware
from trigger_prune.two_stage.firmware.design import FirmwareDesign, Ints

INPUTS, GOLDEN, COUNTERS = "inputs.dat", "golden.dat", "counters.dat"


@dataclass(frozen=True, eq=False)
class FirmwareVectors:
    """A stream of crossings and the golden trace.

    features   int64 ``(sum of objects, *feature_shape)``: codes of the input type, in the order of the crossings
    stream     objects per crossing and both scores of every object
    trace      what ``simulate_firmware`` makes of it
    """

    features: Ints
    stream: CrossingStream
    trace: FirmwareTrace

    @property
    def crossings(self) -> int:
        """Crossings of the stream, empty ones included."""
        return len(self.stream.objects)


def objects_in_crossings(filled: NDArray[np.bool_], crossings: int, multiplicity: Sequence[float], seed: int) -> Ints:
    """Objects of every crossing, int64 ``(crossings,)``: the mask tiled from its first slot, 0 in empty slots.

    multiplicity   probability of 0, 1, 2, ... objects in a filled crossing. Raises DataError unless it adds up to 1.
    """
    probability = np.asarray(multiplicity, np.float64)
    if probability.ndim != 1 or (probability < 0).any() or abs(probability.sum() - 1) > 1e-9:
        raise DataError(f"multiplicity {tuple(multiplicity)} is no list of probabilities that add up to 1")
    slots = np.resize(filled, crossings)
    drawn = np.random.default_rng(seed).choice(len(probability), size=crossings, p=probability)
    return np.where(slots, drawn, 0).astype(np.int64)


def make_vectors(design: FirmwareDesign, objects: Ints, pool: Ints, seed: int) -> FirmwareVectors:
    """Vectors for a stream with ``objects`` ``(crossings,)``, each drawn from the events ``pool``.

    pool   int64 ``(events, *feature_shape)``: codes of the input type; drawn with replacement, so a short pool is
           enough for a long stream. Raises DataError for codes outside the input type, an empty pool, and more objects
           in a crossing than the interface takes.
    """
    _check_objects(design, objects)
    design.check_features(pool)
    if len(pool) == 0:
        raise DataError("there are no events to make vectors of")
    rows = np.random.default_rng(seed).integers(0, len(pool), int(objects.sum()))
    light, full = (model.integer_scores(pool) for model in (design.light, design.full))
    return _traced(design, pool[rows], CrossingStream(objects, light[rows], full[rows]))


def vectors_of(design: FirmwareDesign, objects: Ints, features: Ints) -> FirmwareVectors:
    """Vectors of a stream that is given object by object: features ``(sum of objects, *feature_shape)``.

    Raises DataError as ``make_vectors`` does, and where objects and features do not match.
    """
    _check_objects(design, objects)
    design.check_features(features)
    light, full = (model.integer_scores(features) for model in (design.light, design.full))
    return _traced(design, features, CrossingStream(objects, light, full))


def _check_objects(design: FirmwareDesign, objects: Ints) -> None:
    too_many = objects > design.objects_per_crossing
    if too_many.any():
        at = int(np.argmax(too_many))
        raise DataError(
            f"crossing {at} has {int(objects[at])} objects; the interface takes {design.objects_per_crossing}"
        )


def _traced(design: FirmwareDesign, features: Ints, stream: CrossingStream) -> FirmwareVectors:
    trace = simulate_firmware(stream, design.thresholds, design.engine, design.timing)
    return FirmwareVectors(features, stream, trace)


def write_text_vectors(vectors: FirmwareVectors, folder: Path) -> tuple[Path, Path, Path]:
    """Write ``inputs.dat``, ``golden.dat`` and ``counters.dat`` into ``folder`` (made if need be)."""
    folder.mkdir(parents=True, exist_ok=True)
    words = vectors.features.reshape(len(vectors.features), -1)
    ends = np.cumsum(vectors.stream.objects)
    lines, start = [], 0
    for count, end in zip(vectors.stream.objects.tolist(), ends.tolist(), strict=True):
        lines.append(" ".join(map(str, [count, *words[start:end].ravel().tolist()])))
        start = end
    trace = vectors.trace
    golden = [
        f"{int(accepted)} {waiting}"
        for accepted, waiting in zip(trace.accepted.tolist(), trace.waiting.tolist(), strict=True)
    ]
    counters = [f"{name} {value}" for name, value in trace.counters.items()]
    paths = folder / INPUTS, folder / GOLDEN, folder / COUNTERS
    for path, text in zip(paths, (lines, golden, counters), strict=True):
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text("\n".join(text) + "\n")
        temporary.replace(path)
    return paths


def save_vectors(vectors: FirmwareVectors, path: Path) -> Path:
    """Write everything into one ``.npz`` file; ``load_vectors`` restores it."""
    trace = vectors.trace
    temporary = path.with_name(f".{path.stem}.part.npz")
    arrays: dict[str, NDArray[Any]] = {
        "features": vectors.features,
        "objects": vectors.stream.objects,
        "light": vectors.stream.light,
        "full": vectors.stream.full,
        "accepted": trace.accepted,
        "waiting": trace.waiting,
        "fate": trace.fate,
        "start_cycle": trace.start_cycle,
        "score_cycle": trace.score_cycle,
        "passed": trace.passed,
        "output_cycles": np.asarray(trace.output_cycles),
        "counter_names": np.asarray(list(trace.counters)),
        "counter_values": np.asarray(list(trace.counters.values()), np.int64),
    }
    np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)
    return path


def load_vectors(path: Path) -> FirmwareVectors:
    """Inverse of ``save_vectors``. Raises DataError, naming the file, for one that is not of that kind."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        names, values = found["counter_names"].tolist(), found["counter_values"].tolist()
        trace = FirmwareTrace(
            accepted=found["accepted"],
            waiting=found["waiting"],
            fate=found["fate"],
            start_cycle=found["start_cycle"],
            score_cycle=found["score_cycle"],
            passed=found["passed"],
            output_cycles=int(found["output_cycles"]),
            counters=dict(zip(names, values, strict=True)),
        )
        return FirmwareVectors(
            found["features"], CrossingStream(found["objects"], found["light"], found["full"]), trace
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} holds no firmware vectors: {error}") from error
