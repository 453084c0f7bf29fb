"""How well and how fast the budget solver chooses: 50 layers x 40 options x 5 limits.

    python benchmarks/solver.py [--seeds 5] [--first-seed 0] [--seconds 2] [--cpu-clock] [--family NAME ...]

Families of problems (limits on LUT, FF, DSP, BRAM and latency, two tightnesses each):

uniform     losses and costs all independent: menus as no real layer has them, the hardest case for any proof;
correlated  loss falls and every cost rises with bits and density, with noise: nearly the same ratio for all options;
states      as correlated, and every edge has its own table over the producer's (width, bits), 8 states a layer;
residual    as states, in residual blocks of four layers whose summands must have equal widths, latency over branches.

Prints a table and writes ``benchmarks/results/solver.json``: proven gap, seconds, and greedy's loss relative to it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
from _result import write_result

from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.options import CostVector, EdgeCost, LayerMenu, Option, Problem
from trigger_prune.prune.budget.solve import solve
from trigger_prune.target import Budget

LAYERS, OPTIONS = 50, 40
TARGET_GAP, TARGET_SECONDS = 0.005, 2.0
TIGHTNESS = (0.25, 0.6)
LIMITED = ("lut", "ff", "dsp", "bram18", "latency_cycles")


def uniform(rng: np.random.Generator) -> Problem:
    """Everything independent, on a chain whose edges cost nothing."""
    return _chain(
        tuple(
            LayerMenu(
                f"layer{layer}",
                tuple(
                    Option(
                        f"o{number}", float(rng.random()), CostVector(**{n: int(rng.integers(1, 100)) for n in LIMITED})
                    )
                    for number in range(OPTIONS)
                ),
            )
            for layer in range(LAYERS)
        )
    )


def _menus(rng: np.random.Generator) -> tuple[LayerMenu, ...]:
    """Two widths x four activation bits = 8 states, times five (sparsity, reuse factor) choices."""
    menus = []
    for layer in range(LAYERS):
        size, weight = rng.uniform(50, 2000), rng.uniform(0.2, 2.0)
        options = []
        for width in (0.5, 1.0):
            for bits in (4, 6, 8, 10):
                for choice in range(5):
                    density = rng.uniform(0.05, 1.0)
                    reuse = 1 if choice < 3 else int(rng.choice([2, 4, 8]))
                    work = size * width * density
                    lut = int(work * bits * (1 if reuse == 1 else 0.4 / reuse) * rng.uniform(0.8, 1.2)) + 20
                    loss = weight * ((1 - density * width) ** 2 + 2.0 ** (2 - bits)) * rng.uniform(0.8, 1.2)
                    cost = CostVector(
                        lut=lut,
                        ff=int(lut * rng.uniform(0.4, 0.7)),
                        dsp=0 if reuse == 1 else int(work / reuse / 4) + 1,
                        bram18=0 if reuse == 1 else int(size * width * bits / 2000) + 1,
                        latency_cycles=int(np.log2(1 + size * width) / 2) + reuse,
                    )
                    options.append(
                        Option(f"w{width}b{bits}d{density:.2f}r{reuse}", loss, cost, int(32 * width), output_bits=bits)
                    )
        menus.append(LayerMenu(f"layer{layer}", tuple(options)))
    return tuple(menus)


def correlated(rng: np.random.Generator) -> Problem:
    """A chain whose edges cost nothing."""
    return _chain(_menus(rng))


def _chain(menus: tuple[LayerMenu, ...]) -> Problem:
    return Problem(menus, tuple(EdgeCost(a.name, b.name) for a, b in itertools.pairwise(menus)))


def _edge(rng: np.random.Generator, producer: LayerMenu, consumer: LayerMenu) -> EdgeCost:
    """The consumer's adders grow with the number and the bits of its inputs, in a way of each option's own."""
    state = np.array([(o.output_width or 0) / 32 * (o.output_bits or 0) / 10 for o in producer.options])
    own = np.array([option.cost.lut for option in consumer.options])
    lut = np.floor(np.outer(state, own) * rng.uniform(0.3, 0.6))
    return EdgeCost(
        producer.name,
        consumer.name,
        {"lut": lut, "ff": np.floor(lut * 0.5), "latency_cycles": np.floor(np.log2(1 + np.outer(state, own)) / 4)},
    )


def states(rng: np.random.Generator) -> Problem:
    """A chain with edge costs."""
    menus = _menus(rng)
    return Problem(menus, tuple(_edge(rng, a, b) for a, b in itertools.pairwise(menus)))


def residual(rng: np.random.Generator) -> Problem:
    """Blocks a -> b -> c -> a', with a -> a' as well; c and a give the sum that a' reads, so their widths agree."""
    menus = _menus(rng)
    edges = [(layer, layer + 1) for layer in range(LAYERS - 1)]
    sums = [(start, start + 2) for start in range(0, LAYERS - 3, 3)]
    edges += [(start, end + 1) for start, end in sums]
    return Problem(
        menus,
        tuple(_edge(rng, menus[a], menus[b]) for a, b in edges),
        tuple((menus[a].name, menus[b].name) for a, b in sums),
    )


FAMILIES: dict[str, Callable[[np.random.Generator], Problem]] = {
    "uniform": uniform,
    "correlated": correlated,
    "states": states,
    "residual": residual,
}


def limits_between(problem: Problem, tightness: float) -> Budget:
    """Limits that can be met: from a small plan (0) to that of the least loss (1), in every quantity."""
    free = solve(problem, Budget())
    size = {name: max(1.0, getattr(free.cost, name)) for name in LIMITED}
    # a small plan: the summed relative cost takes the place of the loss
    small_menus = tuple(
        LayerMenu(
            menu.name,
            tuple(
                Option(o.label, sum(getattr(o.cost, n) / size[n] for n in LIMITED), o.cost, o.output_width)
                for o in menu.options
            ),
        )
        for menu in problem.menus
    )
    small = solve(Problem(small_menus, problem.edges, problem.equal_width), Budget())
    return Budget(
        **{
            name: int(
                getattr(small.cost, name) + tightness * max(0.0, getattr(free.cost, name) - getattr(small.cost, name))
            )
            for name in LIMITED
        }
    )


def main() -> None:
    """Run the families, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="problems per family and tightness")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first problem")
    parser.add_argument("--seconds", type=float, default=TARGET_SECONDS, help="time limit of one solve")
    parser.add_argument(
        "--cpu-clock", action="store_true", help="the time limit counts processor time: for a machine with other work"
    )
    parser.add_argument("--family", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    arguments = parser.parse_args()
    if arguments.cpu_clock:
        time.monotonic = time.process_time
    figures: dict[str, float] = {}
    rows = []
    print(f"{'family':<12}{'tight':>6}{'seed':>5}{'loss':>10}{'gap %':>8}{'s':>7}{'cpu s':>7}{'greedy':>9}")
    for family in arguments.family:
        gaps, seconds, greedy_ratio = [], [], []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            problem = FAMILIES[family](np.random.default_rng(seed))
            for tightness in TIGHTNESS:
                limits = limits_between(problem, tightness)
                started = time.process_time()
                plan = solve(problem, limits, relative_gap=TARGET_GAP, time_limit_s=arguments.seconds)
                cpu = time.process_time() - started
                try:
                    ratio = solve(problem, limits, method="greedy").loss_increase / plan.loss_increase
                except BudgetError:
                    ratio = float("inf")
                print(
                    f"{family:<12}{tightness:>6}{seed:>5}{plan.loss_increase:>10.4f}{100 * plan.gap:>8.3f}"
                    f"{plan.seconds:>7.2f}{cpu:>7.2f}{ratio:>9.3f}",
                    flush=True,
                )
                rows.append(
                    {"family": family, "tightness": tightness, "seed": seed, "gap": plan.gap, "cpu_seconds": cpu}
                )
                gaps.append(plan.gap)
                seconds.append(cpu)
                greedy_ratio.append(ratio)
        figures |= {
            f"{family}_gap_percent_max": 100 * max(gaps),
            f"{family}_proven": sum(gap <= TARGET_GAP for gap in gaps),
            f"{family}_problems": len(gaps),
            f"{family}_gap_percent_median": 100 * statistics.median(gaps),
            f"{family}_cpu_seconds_max": max(seconds),
            f"{family}_cpu_seconds_median": statistics.median(seconds),
            f"{family}_greedy_over_plan_median": statistics.median(greedy_ratio),
            f"{family}_greedy_found_none": sum(ratio == float("inf") for ratio in greedy_ratio),
        }
    for name, value in figures.items():
        print(f"{name:<40}{value:>10.3f}")
    if arguments.family == list(FAMILIES):
        write_result("solver", figures, ["numpy", "scipy"], runs=rows)


if __name__ == "__main__":
    main()
