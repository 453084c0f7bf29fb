"""The budget problem as a mixed-integer linear program for HiGHS (``scipy.optimize.milp``).

x[layer, option] is 1 where the option is chosen. The table of a pair is linearised by y[a, b] >= 0 over *classes* of
options: two options of a layer are in one class if their rows of the table differ by a constant only, and that constant
goes to the option's own cost. sum_b y[a, b] = sum of x over class a, and likewise for b: the tight (local-polytope)
formulation, without a variable for a pair whose costs separate. Latency: one sum on a chain, else arrival times.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from trigger_prune.prune.budget.tables import Choice, Pair, Tables

Values = npt.NDArray[np.float64]
ROW_UNIT = 1000.0
"""Limits are scaled to this, so that the solver's absolute tolerance of 1e-6 is 1e-9 of a limit."""


@dataclass(frozen=True, eq=False)
class MilpAnswer:
    """``choice``: position per layer, None if none was found; ``value`` of the objective and its proven ``bound``."""

    choice: Choice | None
    value: float
    bound: float
    infeasible: bool


class _Program:
    """Rows and columns collected one by one."""

    def __init__(self) -> None:
        self.variables = 0
        self.integral: list[npt.NDArray[np.int64]] = []
        self.entries: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Values]] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, count: int, *, integral: bool) -> npt.NDArray[np.int64]:
        new = np.arange(self.variables, self.variables + count)
        self.variables += count
        self.integral.append(np.full(count, int(integral)))
        return new

    def row(self, terms: Sequence[tuple[npt.NDArray[np.int64], Values]], low: float, high: float) -> None:
        columns = np.concatenate([columns for columns, _ in terms])
        values = np.concatenate([values for _, values in terms])
        self.entries.append((np.full(len(columns), len(self.low)), columns, values))
        self.low.append(low)
        self.high.append(high)


def solve_milp(
    tables: Tables,
    objective: Literal["loss", "relaxation"] = "loss",
    *,
    relative_gap: float = 0.0,
    deadline: float = np.inf,
) -> MilpAnswer:
    """Minimise the loss, or the factor by which all limits together must grow ("relaxation").

    The II limit must have been applied by ``tables.within_ii`` unless the objective is "relaxation".
    ``relative_gap``: stop there. ``deadline``: value of ``time.monotonic`` at which to stop with what is there.
    """
    program = _Program()
    x = [program.add(size, integral=True) for size in tables.sizes]
    for columns in x:
        program.row([(columns, np.ones(len(columns)))], 1, 1)
    soft_ii = tables.ii_limit is not None and objective == "relaxation"
    classes = [_classes(pair, soft_ii) for pair in tables.pairs]
    y = [
        _flow(program, pair, soft_ii and bool(pair.ii.any()), x, first, second)
        for pair, (first, second) in zip(tables.pairs, classes, strict=True)
    ]
    factor = program.add(1, integral=False) if objective == "relaxation" else None

    def summed(own: Sequence[Values], between: Sequence[Values]) -> list[tuple[npt.NDArray[np.int64], Values]]:
        terms = list(zip(x, own, strict=True))
        for pair, split, flow, table in zip(tables.pairs, classes, y, between, strict=True):
            if table.any():
                before, after, rest = _separate(pair, split, table)
                terms += [(x[pair.first], before), (x[pair.second], after), *_flow_terms(flow, rest)]
        return terms

    def limit(terms: list[tuple[npt.NDArray[np.int64], Values]], top: float) -> None:
        unit = ROW_UNIT / (top if top > 0 else max(float(np.abs(values).max(initial=0.0)) for _, values in terms) or 1)
        scaled = [(columns, values * unit) for columns, values in terms]
        if factor is not None:
            program.row([*scaled, (factor, np.array([-max(top, 1.0) * unit]))], -np.inf, 0)
        else:
            program.row(scaled, -np.inf, top * unit)

    for number in range(len(tables.resources)):
        tables_of = [pair.cost[number] for pair in tables.pairs]
        limit(summed([cost[number] for cost in tables.cost], tables_of), float(tables.limits[number]))
    if tables.latency_limit is not None:
        last = _latency(program, tables, classes, x, y)
        limit([(last, np.ones(1))], tables.latency_limit)
    if soft_ii and tables.ii_limit is not None:
        largest = program.add(1, integral=False)
        for own, columns in zip(tables.ii, x, strict=True):
            program.row([(columns, own), (largest, np.array([-1.0]))], -np.inf, 0)
        for pair, (first, second), flow in zip(tables.pairs, classes, y, strict=True):
            if pair.ii.any():
                values = pair.ii[np.ix_(_heads(first), _heads(second))]
                program.row([*_flow_terms(flow, values), (largest, np.array([-1.0]))], -np.inf, 0)
        limit([(largest, np.ones(1))], tables.ii_limit)
    goal = [(factor, np.ones(1))] if factor is not None else summed(tables.loss, [pair.loss for pair in tables.pairs])
    return _run(program, goal, x, relative_gap, deadline)


def _run(
    program: _Program,
    goal: list[tuple[npt.NDArray[np.int64], Values]],
    x: list[npt.NDArray[np.int64]],
    relative_gap: float,
    deadline: float,
) -> MilpAnswer:
    weights = np.zeros(program.variables)
    for columns, values in goal:
        np.add.at(weights, columns, values)
    unit = ROW_UNIT / (float(np.abs(weights).max()) or 1.0)
    shape = (len(program.low), program.variables)
    row, column, value = (np.concatenate(part) for part in zip(*program.entries, strict=True))
    high = np.full(program.variables, np.inf)
    high[np.concatenate(x)] = 1.0
    seconds = min(max(deadline - time.monotonic(), 0.05), 1e9)
    answer = milp(
        weights * unit,
        integrality=np.concatenate(program.integral),
        bounds=Bounds(np.zeros(program.variables), high),
        constraints=LinearConstraint(coo_array((value, (row, column)), shape=shape).tocsr(), program.low, program.high),
        options={"mip_rel_gap": relative_gap, "time_limit": seconds},
    )
    bound = getattr(answer, "mip_dual_bound", None)
    bound = -np.inf if bound is None or not np.isfinite(bound) else float(bound) / unit
    if answer.x is None:
        return MilpAnswer(None, np.inf, bound, answer.status == 2)
    choice = np.array([int(np.argmax(answer.x[columns])) for columns in x])
    return MilpAnswer(choice, float(answer.fun) / unit, bound, False)


def _residual(table: Values) -> Values:
    """The table less its first row and first column: zero if and only if its costs separate."""
    rest: Values = table - table[:1] - table[:, :1] + table[0, 0]
    size = float(np.abs(table).max(initial=0.0)) or 1.0
    rest = np.round(rest / size, 12) * size
    return rest


def _classes(pair: Pair, with_ii: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Class number of each option of the first and of the second layer."""
    stack = [_residual(table) for table in (*pair.cost, pair.latency, pair.loss)] + [pair.allowed.astype(np.float64)]
    if with_ii:
        stack.append(pair.ii)
    rows = np.concatenate(stack, axis=1)
    columns = np.concatenate([table.T for table in stack], axis=1)
    return np.unique(rows, axis=0, return_inverse=True)[1], np.unique(columns, axis=0, return_inverse=True)[1]


def _heads(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """One member of every class."""
    return np.unique(classes, return_index=True)[1]


def _flow(
    program: _Program,
    pair: Pair,
    needed: bool,
    x: list[npt.NDArray[np.int64]],
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Variables y [class, class], -1 where forbidden or not needed, tied to the choices on both sides."""
    shape = (int(first.max()) + 1, int(second.max()) + 1)
    allowed = pair.allowed[np.ix_(_heads(first), _heads(second))]
    flow = np.full(shape, -1, dtype=np.int64)
    if 1 in shape and allowed.all() and not needed:
        return flow
    flow[allowed] = program.add(int(allowed.sum()), integral=False)
    for side, classes, columns in ((flow, first, x[pair.first]), (flow.T, second, x[pair.second])):
        for number, line in enumerate(side):
            members, used = columns[classes == number], line[line >= 0]
            program.row([(used, np.ones(len(used))), (members, -np.ones(len(members)))], 0, 0)
    return flow


def _separate(
    pair: Pair, classes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], table: Values
) -> tuple[Values, Values, Values]:
    """What a table adds per option of the first layer, per option of the second, and per pair of classes."""
    first, second = classes
    rest = _residual(table)[np.ix_(_heads(first), _heads(second))]
    return table[:, 0] - table[0, 0], table[0], rest


def _latency(
    program: _Program,
    tables: Tables,
    classes: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    x: list[npt.NDArray[np.int64]],
    y: list[npt.NDArray[np.int64]],
) -> npt.NDArray[np.int64]:
    """The variable "longest path": at least the finish of every layer, which is at least that of its producers + own.

    On a chain the finish times would only split one sum into many rows, so there it is that sum.
    """
    last = program.add(1, integral=False)
    minus = np.array([-1.0])
    own = [(columns, values) for columns, values in zip(x, tables.latency, strict=True)]
    edges = []
    for pair, split, flow in zip(tables.pairs, classes, y, strict=True):
        if pair.edge:
            before, after, rest = _separate(pair, split, pair.latency)
            terms = [(x[pair.first], before), (x[pair.second], after), *_flow_terms(flow, rest)]
            edges.append((pair.first, pair.second, terms))
    if tables.is_chain:
        program.row([*own, *(term for _, _, terms in edges for term in terms), (last, minus)], -np.inf, 0)
        return last
    finish = [program.add(1, integral=False) for _ in own]
    for layer, time_of in enumerate(finish):
        program.row([own[layer], (time_of, minus)], -np.inf, 0)
        program.row([(time_of, np.ones(1)), (last, minus)], -np.inf, 0)
    for first, second, terms in edges:
        program.row([*terms, own[second], (finish[first], np.ones(1)), (finish[second], minus)], -np.inf, 0)
    return last


def _flow_terms(flow: npt.NDArray[np.int64], values: Values) -> list[tuple[npt.NDArray[np.int64], Values]]:
    used = flow >= 0
    return [(flow[used], values[used])] if used.any() else []
