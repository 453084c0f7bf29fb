"""What a refinement did, and the front it met."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.prune.refine.codes import Codes


@dataclass(frozen=True)
class CodeStep:
    """One accepted change of one output.

    moved        ``(position, code before, code after)``; position ``fan_in`` is the bias
    loss, cost   changes of the training loss and of the modelled cost. Of changes made together the loss is the
                 model's
    """

    layer: str
    row: int
    moved: tuple[tuple[int, int, int], ...]
    loss: float
    cost: float


@dataclass(frozen=True, eq=False)
class FrontPoint:
    """A measured network on the way.

    round        0 is the network as it came
    cost         measured; validation loss and merit (larger is better) beside it
    steps        how many of the result's steps led to it
    codes        restores it (``write_codes``)
    """

    round: int
    cost: float
    validation_loss: float
    validation_merit: float
    train_loss: float
    steps: int
    codes: Codes


def pareto(points: tuple[FrontPoint, ...]) -> tuple[FrontPoint, ...]:
    """Points that no other beats in cost and validation merit, cheapest first; of equals the first."""
    front: list[FrontPoint] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.validation_merit, p.round)):
        if not front or point.validation_merit > front[-1].validation_merit:
            front.append(point)
    return tuple(front)
