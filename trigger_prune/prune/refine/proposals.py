"""Changes of one output's weights that should pay, by the quadratic model of the loss and the model of the cost.

A proposal starts with one weight (or the bias) that moves to a cheaper code; up to ``chain - 1`` others of the same
output then move to make up for it, each the best by the model given what moved before. It is the compensating update
of the optimal brain surgeon (B. Hassibi, D. Stork, NeurIPS 1992) carried out on the grid, with the price of every
code in the balance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.network import WeightLayer
from trigger_prune.prune.refine.codes import LayerCodes
from trigger_prune.prune.refine.curvature import RowModels
from trigger_prune.prune.refine.incremental import RowChange
from trigger_prune.prune.refine.moves import bias_candidates, weight_candidates
from trigger_prune.prune.refine.row_cost import LayerRows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ProposalRules:
    """What is proposed.

    chain            most codes that one proposal changes
    per_row          most proposals for one output
    use_gradient     whether the model's first derivative counts. Where many outputs change at once before the loss is
                     looked at, it must not: every one of them would remove the same residual
    """

    chain: int = 3
    per_row: int = 3
    use_gradient: bool = True


@dataclass(frozen=True)
class Proposal:
    """Codes ``steps`` of output ``row``: ``(position, new code)``, position ``fan_in`` is the bias.

    loss, cost   changes by the models
    """

    layer: str
    row: int
    steps: tuple[tuple[int, int], ...]
    loss: float
    cost: float

    def change(self, codes: LayerCodes) -> RowChange:
        """The whole row after the steps, from its present codes."""
        weight, bias = codes.weight[self.row].copy(), int(codes.bias[self.row])
        for position, code in self.steps:
            if position == len(weight):
                bias = code
            else:
                weight[position] = code
        return RowChange(self.layer, self.row, weight, bias)


@dataclass(frozen=True)
class Singles:
    """Every single move of a layer: output, position, distance in codes, change of cost; all ``(moves,)``."""

    row: Ints
    position: Ints
    distance: Ints
    cost: Floats


def single_moves(
    rows: LayerRows,
    codes: LayerCodes,
    free: NDArray[np.bool_],
    model: RowModels,
    saved_by_zero: Floats,
    rules: ProposalRules,
) -> Singles:
    """All moves of live outputs, priced.

    free            ``(out, fan_in)``: weights that may move
    saved_by_zero   ``(fan_in,)``: cost saved elsewhere when an input loses its last reader here
    """
    layer, fan_in = rows.layer, codes.weight.shape[1]
    found = [
        (row, position, code)
        for row in np.flatnonzero(rows.alive).tolist()
        for position, code in _row_moves(codes, row, free[row], model, layer, rules)
    ]
    if not found:
        empty = np.zeros(0, dtype=np.int64)
        return Singles(empty, empty, empty, np.zeros(0))
    row, position, code = np.array(found, dtype=np.int64).T
    now = np.concatenate([codes.weight, codes.bias[:, None]], axis=1)
    wanted = now[row]
    wanted[np.arange(len(row)), position] = code
    outputs = np.arange(len(now))
    before = rows.costs(outputs, codes.weight, codes.bias)
    cost = rows.costs(row, wanted[:, :fan_in], wanted[:, fan_in]) - before[row]
    last_reader = (position < fan_in) & (code == 0)
    cost[last_reader] -= saved_by_zero[position[last_reader]]
    return Singles(row, position, code - now[row, position], cost)


def _row_moves(
    codes: LayerCodes,
    row: int,
    free: NDArray[np.bool_],
    model: RowModels,
    layer: WeightLayer,
    rules: ProposalRules,
) -> Iterator[tuple[int, int]]:
    for position in np.flatnonzero(free).tolist():
        code = int(codes.weight[row, position])
        for other in weight_candidates(code, layer.weight_type.min_code, layer.weight_type.max_code):
            yield position, other
    curvature = model.hessian[row, -1, -1]
    if curvature > 0:
        code = int(codes.bias[row])
        wanted = code - model.gradient[row, -1] * rules.use_gradient / curvature
        for other in bias_candidates(code, wanted, layer.bias_type.min_code, layer.bias_type.max_code):
            yield len(free), other


def row_proposals(
    layer: str,
    codes: LayerCodes,
    row: int,
    singles: Singles,
    model: RowModels,
    price: float,
    rules: ProposalRules,
) -> list[Proposal]:
    """The best proposals for one output, best first; only those that should lower loss + price x cost.

    price   loss that one unit of cost is worth
    """
    mine = np.flatnonzero(singles.row == row)
    if not len(mine):
        return []
    position = singles.position[mine]
    distance = singles.distance[mine].astype(np.float64)
    gradient, hessian = model.gradient[row] * rules.use_gradient, model.hessian[row]
    alone = 0.5 * hessian[position, position] * distance**2 + price * singles.cost[mine]
    moves = len(mine)
    starts = np.arange(moves)
    slope = np.broadcast_to(gradient, (moves, len(gradient))).copy()
    taken = np.zeros((moves, len(gradient)), dtype=bool)
    score = np.zeros(moves)
    steps = np.full((moves, rules.chain), -1)
    active, choice = np.ones(moves, dtype=bool), starts.copy()
    for length in range(rules.chain):
        if length:
            gain = slope[:, position] * distance + alone
            gain[taken[:, position]] = np.inf
            choice = gain.argmin(axis=1)
            active &= gain[starts, choice] < 0
        if not active.any():
            break
        at = starts[active]
        chosen = choice[active]
        score[at] += slope[at, position[chosen]] * distance[chosen] + alone[chosen]
        slope[at] += hessian[position[chosen]] * distance[chosen, None]
        taken[at, position[chosen]] = True
        steps[at, length] = chosen
    now = np.append(codes.weight[row], codes.bias[row])
    found: dict[tuple[tuple[int, int], ...], Proposal] = {}
    for start in np.argsort(score, kind="stable").tolist():
        if score[start] >= 0 or len(found) == rules.per_row:
            break
        chosen = steps[start][steps[start] >= 0]
        moved = sorted((int(position[s]), int(now[position[s]] + distance[s])) for s in chosen)
        cost = float(singles.cost[mine[chosen]].sum())
        proposal = Proposal(layer, row, tuple(moved), float(score[start]) - price * cost, cost)
        found.setdefault(proposal.steps, proposal)
    return list(found.values())
