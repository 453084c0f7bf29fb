"""The queue of a two-stage trigger: how exact and how fast, alone and in a search over 1 000 designs.

    python benchmarks/two_stage_queue.py

* continuous beam against Geo/D/1/K (the chain embedded at departures), 1e-4 relative is asked for;
* trains (72b, 48b, 36b; one object per crossing, and ten jets) against Monte Carlo, in its clustered errors;
* one design point: median and slowest process time over II, FIFO depth, arrivals and fillings, overload left out;
* 1 000 designs: 2 light models x 5 escalated fractions x 10 reuse factors x 10 FIFO depths, thresholds and overflow
  policy solved in each, on 120 000 weighted events with invented scores; process time of one thread.

Prints a table, writes ``benchmarks/results/two_stage_queue.json``, fails beyond the limits.
"""

from __future__ import annotations

import itertools
import math
import sys
import time

import numpy as np
from _result import write_result

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.physics.filling import named_filling
from trigger_prune.two_stage.monte_carlo import simulate_queue
from trigger_prune.two_stage.options import FullOption, LightOption
from trigger_prune.two_stage.queue import least_overflow, solve_queue
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.search import Requirements, SearchSpace, search
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine

GEO_LIMIT, PULL_LIMIT, POINT_LIMIT_MS, SEARCH_LIMIT_S = 1e-4, 4.0, 200.0, 60.0
ROWS, TARGET_HZ, CROSSINGS_HZ = 120_000, 1e5, 3.08e7
TEN_JETS = (0.0,) * 10 + (1.0,)
STREAMS, ORBITS = 200, 25


def geo_d_1_k_loss(p: float, service: int, depth: int) -> float:
    """Loss of Geo/D/1/K, time in slots: recursion over what an object leaves behind in the FIFO."""

    def binomial(n: int) -> list[float]:
        return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] + [0.0] * (depth + 2)

    busy, woken = binomial(service), binomial(service - 1)
    left = [1.0]
    for k in range(depth):
        arriving = sum(left[j] * busy[k + 1 - j] for j in range(1, k + 1))
        left.append((left[k] - left[0] * woken[k] - arriving) / busy[0])
    return 1 - 1 / (service + left[0] / sum(left) * (1 - p) / p) / p


def geo_deviation() -> float:
    """Largest relative deviation of losses above 1e-9: below, the subtraction in the closed form loses digits."""
    beam = BeamStructure.from_filling(named_filling("continuous"))
    worst = 0.0
    for p, service, depth in itertools.product((0.02, 0.05, 0.1, 0.2, 0.4), (2, 3, 4, 8), range(7)):
        wanted = geo_d_1_k_loss(p, service, depth)
        if wanted > 1e-9:
            found = solve_queue(beam, Arrivals.single(p), Engine(9 * service, 9, depth)).overflow_per_object
            worst = max(worst, abs(found / wanted - 1))
    return worst


def monte_carlo_pulls() -> tuple[list[float], float, float]:
    """Deviations in clustered errors, the largest relative error among them, and million crossings per second."""
    pulls, errors, crossings, seconds = [], [], 0, 0.0
    cases = ((Arrivals.single(0.1), Engine(36, 9, 2)), (Arrivals.thinned(TEN_JETS, 0.12), Engine(7, 9, 8)))
    simulate_queue(BeamStructure("warm", np.ones(9, bool)), *cases[0], orbits=1, streams=2)
    for name, (arrivals, engine) in itertools.product(("72b", "48b", "36b"), cases):
        beam = BeamStructure.from_filling(named_filling(name))
        start = time.process_time()
        drawn = simulate_queue(beam, arrivals, engine, orbits=ORBITS, streams=STREAMS, seed=len(pulls))
        seconds += time.process_time() - start
        crossings += STREAMS * (ORBITS + 1) * beam.slots
        exact = solve_queue(beam, arrivals, engine)
        pulls.append((drawn.overflow_per_object - exact.overflow_per_object) / drawn.overflow_error)
        pulls.append((drawn.overflow_per_crossing - exact.overflow_per_crossing) / drawn.overflow_per_crossing_error)
        errors.append(drawn.overflow_error / exact.overflow_per_object)
    return pulls, max(errors), crossings / seconds / 1e6


def point_times_ms() -> list[float]:
    """Process time of single design points."""
    found = []
    arrivals = (Arrivals.single(0.05), Arrivals.single(0.24), Arrivals.thinned(TEN_JETS, 0.1))
    for name, arriving, ii, depth in itertools.product(
        ("72b", "48b", "36b", "continuous"), arrivals, (7, 18, 25, 36), (1, 4, 16, 64)
    ):
        beam, engine = BeamStructure.from_filling(named_filling(name)), Engine(ii, 9, depth)
        if least_overflow(beam, arriving, engine):
            continue
        start = time.process_time()
        solve_queue(beam, arriving, engine)
        found.append(1e3 * (time.process_time() - start))
    return found


def events(noise: float) -> TwoStageSample:
    """Background with weights that fall where the score rises, and one signal; light = full with noise."""
    generator = np.random.default_rng(1)
    signal = np.where(generator.random(ROWS) < 0.92, -1, 0)
    full = generator.normal(np.where(signal < 0, 0.0, 3.0))
    weights = np.where(signal < 0, np.exp(-full), 1.0)
    weights[signal < 0] *= CROSSINGS_HZ / weights[signal < 0].sum()
    light = full + noise * generator.normal(size=ROWS)
    grid = 1 / 64
    return TwoStageSample(
        np.round(light / grid) * grid,
        np.round(full / grid) * grid,
        np.arange(ROWS),
        signal,
        weights,
        np.arange(ROWS) // 5,
        ("HH4b",),
    )


def report(name: str, dsp: int, latency: int, ii: int) -> HardwareReport:
    """Invented hardware: only the time of the search is measured."""
    numbers = {"lut": 100 * dsp, "ff": 100 * dsp, "dsp": dsp, "bram18": 0}
    return HardwareReport(
        CostStage.CSYNTH, "none", "0", "part", 2.77, latency_cycles=latency, ii=ii, content_hash=name, **numbers
    )


def search_time_s() -> tuple[int, int, float]:
    """Designs whose queue and thresholds were solved, those that are solutions, and the time."""
    lights = tuple(
        LightOption(f"light {noise}", sample, sample, report(f"light {noise}", dsp, 6, 1), 9)
        for noise, dsp in ((1.0, 20), (0.5, 100))
        for sample in (events(noise),)
    )
    fulls = tuple(
        FullOption(f"RF {ii}", "resource", ii, report(f"RF {ii}", 7000 // ii, 4 * (ii + 3), ii), 9)
        for ii in (9, 12, 16, 18, 20, 25, 27, 32, 36, 45)
    )
    space = SearchSpace(lights, fulls, (0.01, 0.02, 0.05, 0.1, 0.15), tuple(range(10)))
    needs = Requirements(TARGET_HZ, "HH4b", latency_budget_ns=5000.0, control_cycles=3)
    start = time.process_time()
    found = search(space, needs, BeamStructure.from_filling(named_filling("72b")))
    seconds = time.process_time() - start
    return (
        sum(design.decision is not None for design in found.designs),
        sum(not design.problems for design in found.designs),
        seconds,
    )


def main() -> None:
    """Measure, print, write the result file."""
    pulls, error, speed = monte_carlo_pulls()
    points = point_times_ms()
    designs, solutions, seconds = search_time_s()
    figures = {
        "geo_d_1_k_largest_relative_deviation": float(f"{geo_deviation():.2g}"),
        "monte_carlo_comparisons": len(pulls),
        "monte_carlo_largest_deviation_in_errors": round(float(np.abs(pulls).max()), 2),
        "monte_carlo_chi2_per_comparison": round(float(np.square(pulls).mean()), 2),
        "monte_carlo_largest_relative_error": round(error, 4),
        "monte_carlo_million_crossings_per_s": round(speed, 1),
        "design_points": len(points),
        "design_point_median_ms": round(float(np.median(points)), 1),
        "design_point_slowest_ms": round(max(points), 1),
        "search_designs_solved": designs,
        "search_solutions": solutions,
        "search_s": round(seconds, 1),
    }
    for name, value in figures.items():
        print(f"{name:<42} {value:>12g}")
    print(f"limits: {GEO_LIMIT:g}, {PULL_LIMIT:g} errors, {POINT_LIMIT_MS:g} ms, {SEARCH_LIMIT_S:g} s")
    write_result("two_stage_queue", figures, ["trigger_prune", "numpy", "scipy"])
    if (
        figures["geo_d_1_k_largest_relative_deviation"] > GEO_LIMIT
        or figures["monte_carlo_largest_deviation_in_errors"] > PULL_LIMIT
        or figures["design_point_slowest_ms"] > POINT_LIMIT_MS
        or figures["search_s"] > SEARCH_LIMIT_S
    ):
        sys.exit("outside the limits")


if __name__ == "__main__":
    main()
