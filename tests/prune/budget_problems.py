"""Random budget problems and their answers by trying every plan."""

from __future__ import annotations

import itertools
import math

import numpy as np

from trigger_prune.prune.budget.check import plan_cost
from trigger_prune.prune.budget.options import CostVector, EdgeCost, LayerMenu, Option, Problem
from trigger_prune.prune.budget.plan import limits_of
from trigger_prune.target import Budget

WIDTHS = (4, 8, 16)


def random_problem(rng: np.random.Generator, *, layers: int, options: int, shape: str) -> Problem:
    """``shape``: chain, branches, residual (equal widths) or loose (no edges)."""
    menus = []
    for layer in range(layers):
        count = int(rng.integers(1, options + 1))
        menus.append(
            LayerMenu(
                f"layer{layer}",
                tuple(
                    Option(
                        label=f"o{number}",
                        loss_increase=round(float(rng.normal(0.5, 0.5)), 3),
                        cost=CostVector(
                            lut=int(rng.integers(0, 50)),
                            ff=float(rng.random() * 10),
                            dsp=int(rng.integers(0, 4)),
                            bram18=int(rng.integers(0, 3)),
                            latency_cycles=int(rng.integers(0, 5)),
                            ii=int(rng.integers(1, 5)),
                        ),
                        output_width=int(rng.choice(WIDTHS)),
                    )
                    for number in range(count)
                ),
            )
        )
    edges, groups = _graph(rng, layers, shape)
    return Problem(tuple(menus), tuple(_edge(rng, menus[a], menus[b]) for a, b in edges), groups)


def _graph(
    rng: np.random.Generator, layers: int, shape: str
) -> tuple[list[tuple[int, int]], tuple[tuple[str, ...], ...]]:
    chain = [(layer, layer + 1) for layer in range(layers - 1)]
    if shape == "chain":
        return chain, ()
    if shape == "loose":
        return [], ()
    if shape == "residual":
        extra = [(0, 2)] if layers > 2 else []
        return chain + extra, ((("layer0", f"layer{layers - 2}"),) if layers > 2 else ())
    pairs = [(a, b) for b in range(1, layers) for a in range(b) if rng.random() < 0.5]
    return pairs, ()


def _edge(rng: np.random.Generator, producer: LayerMenu, consumer: LayerMenu) -> EdgeCost:
    size = (len(producer.options), len(consumer.options))
    return EdgeCost(
        producer.name,
        consumer.name,
        {
            "lut": rng.integers(-10, 40, size).astype(float),
            "ff": np.outer(rng.random(size[0]), rng.random(size[1])) * 5,
            "latency_cycles": rng.integers(0, 3, size).astype(float),
            "ii": rng.integers(0, 6, size).astype(float),
        },
    )


def random_limits(rng: np.random.Generator, problem: Problem) -> Budget:
    """A few limits near the cost of a random plan; about one in four budgets cannot be met."""
    choice = {menu.name: int(rng.integers(len(menu.options))) for menu in problem.menus}
    cost = plan_cost(problem, choice)
    names = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
    chosen = [name for name in names if rng.random() < 0.6]
    factor = rng.choice([0.8, 1.0, 1.1, 1.3])
    return Budget(**{name: max(0, math.floor(getattr(cost, name) * factor)) for name in chosen})


def meets(problem: Problem, choice: dict[str, int], limits: Budget) -> bool:
    """Limits and equal widths, directly."""
    cost = plan_cost(problem, choice)
    options = {menu.name: menu.options[choice[menu.name]] for menu in problem.menus}
    agree = all(len({options[name].output_width for name in group}) == 1 for group in problem.equal_width)
    return agree and all(getattr(cost, name) <= limit + 1e-9 for name, limit in limits_of(limits).items())


def every_plan(problem: Problem) -> list[dict[str, int]]:
    """All combinations."""
    names = [menu.name for menu in problem.menus]
    return [
        dict(zip(names, positions, strict=True))
        for positions in itertools.product(*(range(len(menu.options)) for menu in problem.menus))
    ]


def brute_force(problem: Problem, limits: Budget) -> float | None:
    """Smallest loss within the limits, None if no plan is."""
    losses = [
        sum(menu.options[choice[menu.name]].loss_increase for menu in problem.menus)
        for choice in every_plan(problem)
        if meets(problem, choice, limits)
    ]
    return min(losses, default=None)
