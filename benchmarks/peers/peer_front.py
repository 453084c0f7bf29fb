"""Fronts of measured networks: chosen on validation events, quoted on test events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev


@dataclass(frozen=True)
class Point:
    """One measured network: LUTs, and mean one-versus-rest AUC and accuracy by part."""

    name: str
    lut: int
    validation_auc: float
    test_auc: float
    validation_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Cell:
    """What a peer reaches within a LUT budget: means over seeds of the networks chosen, standard deviations of seeds.

    ``*_sd`` is None for a single seed.
    """

    seeds: tuple[int, ...]
    lut: float
    test_auc: float
    test_auc_sd: float | None
    test_accuracy: float
    test_accuracy_sd: float | None


def front(points: Iterable[Point]) -> list[Point]:
    """Points that no other beats: none has at most as many LUTs and at least the validation AUC. LUTs rise.

    Of points equal in both the first by name stays.
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.lut, -p.validation_auc, p.name)):
        if not found or point.validation_auc > found[-1].validation_auc:
            found.append(point)
    return found


def best_within(points: Iterable[Point], lut: int) -> Point | None:
    """The point of highest validation AUC among those of at most ``lut`` LUTs; None when there is none."""
    within = [point for point in front(points) if point.lut <= lut]
    return within[-1] if within else None


def cell(seeds: dict[int, Sequence[Point]], lut: int) -> Cell | None:
    """The choice within ``lut`` LUTs of every seed, averaged; None unless every seed has one.

    A mean over fewer seeds than the column beside it would compare different things.
    """
    chosen = {seed: best_within(points, lut) for seed, points in seeds.items()}
    best = [point for point in chosen.values() if point is not None]
    if not best or len(best) < len(chosen):
        return None
    return Cell(
        tuple(sorted(chosen)),
        mean(point.lut for point in best),
        mean(point.test_auc for point in best),
        _spread([point.test_auc for point in best]),
        mean(point.test_accuracy for point in best),
        _spread([point.test_accuracy for point in best]),
    )


def _spread(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
