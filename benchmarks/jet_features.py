"""How many jets per second one core turns into features, without the generator.

    python benchmarks/jet_features.py [--quick]

``real`` are jets of 1 TeV that Pythia makes once (fixed seed, the five classes of the jet sample in equal parts);
``showers_N`` are made-up jets of N particles. ``features`` is grooming and the 16 features of a jet whose particles are
known; ``clustering_and_features`` starts from all particles of a collision, of which two jets are kept. Time is that of
the processor, one thread; a figure is the median of the rounds, compilation left out.
"""

from __future__ import annotations

import argparse
import os

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import statistics
import time
from collections.abc import Callable

import numpy as np
from _result import write_result
from numpy.typing import NDArray

from trigger_prune.generate.jets.features import JetSelection, find_jets, visible_particles
from trigger_prune.generate.jets.kernels import cluster, constituents, jet_features
from trigger_prune.generate.jets.production import PROCESSES
from trigger_prune.generate.pythia import PythiaGenerator

SIZES = (10, 30, 60, 100, 200)
GOAL_JETS_PER_S = 1500
Z_CUT = 0.1
Momenta = NDArray[np.float64]


def shower(rng: np.random.Generator, n: int) -> Momenta:
    """``n`` massless particles of a jet of 1 TeV: the hardest splits again and again, at ever smaller angles."""
    branches = [(1000.0, 0.0, 0.0)]
    while len(branches) < n:
        branches.sort()
        pt, y, phi = branches.pop()
        z, turn = rng.uniform(0.02, 0.5), rng.uniform(0, 2 * np.pi)
        angle = 0.5 * rng.uniform(0.02, 1.0) * np.sqrt(pt / 1000.0)
        dy, dphi = angle * np.cos(turn), angle * np.sin(turn)
        branches += [((1 - z) * pt, y - z * dy, phi - z * dphi), (z * pt, y + (1 - z) * dy, phi + (1 - z) * dphi)]
    pt, y, phi = np.array(branches).T
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y), pt * np.cosh(y)], axis=1)


def real_collisions(n_per_class: int) -> list[Momenta]:
    """Visible particles of collisions of all classes."""
    selection = JetSelection()
    found = []
    for commands in PROCESSES.values():
        batch = PythiaGenerator(commands).generate(n_per_class, seed=1)
        momenta = np.stack([batch.px, batch.py, batch.pz, batch.energy], axis=1)
        visible = visible_particles(momenta, batch.pid, selection)
        found += np.split(momenta[visible], batch.select(visible).offsets[1:-1])
    return found


def two_jets(particles: Momenta) -> list[Momenta]:
    """Particles of the two hardest jets of a collision, wherever the cuts lie."""
    _, _, first, second, jets = cluster(particles, JetSelection().radius, -1)
    return [particles[constituents(jet, first, second)] for jet in jets[:2]]


def rate(work: Callable[[], int], rounds: int) -> float:
    """Jets per second of processor time, median of ``rounds``; ``work`` returns how many jets it did."""
    work()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        n = work()
        found.append(n / (time.process_time() - start))
    return statistics.median(found)


def all_features(jets: list[Momenta]) -> int:
    """Features of each jet; how many there were."""
    for jet in jets:
        jet_features(jet, Z_CUT)
    return len(jets)


def main() -> None:
    """Measure, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer jets, fewer rounds")
    quick = parser.parse_args().quick
    rounds = 3 if quick else 9
    collisions = real_collisions(20 if quick else 100)
    jets = [jet for collision in collisions for jet in two_jets(collision)]
    momenta = np.concatenate(collisions)
    offsets = np.concatenate([[0], np.cumsum([len(collision) for collision in collisions])])
    figures = {
        "real.features.jets_per_s": rate(lambda: all_features(jets), rounds),
        "real.clustering_and_features.jets_per_s": rate(lambda: len(find_jets(momenta, offsets).features), rounds),
        "real.mean_particles_per_jet": float(np.mean([len(jet) for jet in jets])),
        "real.mean_particles_per_collision": len(momenta) / len(collisions),
    }
    rng = np.random.default_rng(0)
    for n in SIZES:
        made = [shower(rng, n) for _ in range(100 if quick else 400)]
        figures[f"showers_{n}.features.jets_per_s"] = rate(lambda made=made: all_features(made), rounds)
    for name, value in figures.items():
        print(f"{name:<45} {value:>10.1f}")
    reached = figures["real.features.jets_per_s"] >= GOAL_JETS_PER_S
    print(f"goal of {GOAL_JETS_PER_S} jets/s for the features of real jets: {'reached' if reached else 'not reached'}")
    write_result("jet_features", figures, ("numpy", "numba", "pythia8mc"), goal_jets_per_s=GOAL_JETS_PER_S)


if __name__ == "__main__":
    main()
