"""How far each layer can be pruned before the network loses more than a tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trigger_prune.sensitivity.findings import ScanPoint


@dataclass(frozen=True)
class LayerLimit:
    """Largest scanned sparsity of one curve up to which every point loses no more than the tolerance.

    sparsity        by the value of the change; None when even the lowest scanned sparsity loses more
    sure_sparsity   where the whole interval of the change is within the tolerance
    lut             LUTs of the network there, where the scan has costs
    """

    layer: str
    criterion: str
    structure: str
    weight_bits: int | None
    sparsity: float | None
    sure_sparsity: float | None
    lut: int | None


def max_sparsities(points: Sequence[ScanPoint], tolerance: float, figure: str) -> list[LayerLimit]:
    """One limit per curve over sparsity, in the order of the scan.

    tolerance   drop of the ``figure`` that is allowed, 0 or more; of ``loss`` the increase
    """
    curves: dict[tuple[object, ...], list[ScanPoint]] = {}
    for point in points:
        if point.criterion is not None:
            curves.setdefault(point.curve, []).append(point)
    found = []
    for curve in curves.values():
        limit: ScanPoint | None = None
        sure: float | None = None
        ordered = sorted(curve, key=lambda point: point.sparsity)
        for point in ordered:
            if not drop(point, figure) <= tolerance:
                break
            limit = point
        for point in ordered:
            if not worst_drop(point, figure) <= tolerance:
                break
            sure = point.sparsity
        first = ordered[0]
        found.append(
            LayerLimit(
                layer=first.layer,
                criterion=str(first.criterion),
                structure=str(first.structure),
                weight_bits=first.weight_bits,
                sparsity=None if limit is None else limit.sparsity,
                sure_sparsity=sure,
                lut=None if limit is None else limit.lut,
            )
        )
    return found


def drop(point: ScanPoint, figure: str) -> float:
    """What the network loses: the increase of a loss, the drop of any other figure."""
    change = point.figures[figure].change
    return change if figure == "loss" else -change


def worst_drop(point: ScanPoint, figure: str) -> float:
    """The far end of the interval of ``drop``."""
    found = point.figures[figure]
    return found.change_high if figure == "loss" else -found.change_low
