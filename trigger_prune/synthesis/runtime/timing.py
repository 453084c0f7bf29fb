"""Times short calls so that two measurements of the same thing agree. Standard library and numpy only.

Several rounds visit all calls in turn, forwards and backwards, so that a slow change of the machine (its clock, another
job) hits all of them alike; a figure is the median over the rounds, so that one disturbed round does not count.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALLS_FOR_P99 = 100
"""Calls of one round from which its own 99th percentile means something; with fewer, all rounds are taken together."""


@dataclass(frozen=True)
class Plan:
    """How long and how often.

    seconds        for all calls and rounds together, warm-up not counted
    least_calls    of every call in every round, however long they take
    warm_up_s      of every call, before the first round; at least ``least_calls`` calls
    """

    rounds: int = 5
    seconds: float = 6.0
    least_calls: int = 20
    warm_up_s: float = 0.2


@dataclass(frozen=True)
class CallTimes:
    """Times of one call in microseconds: medians over the rounds.

    p50_low_us, p50_high_us   smallest and largest median of a round: how well the figure is known
    """

    p50_us: float
    p99_us: float
    mean_us: float
    p50_low_us: float
    p50_high_us: float
    calls: int


def time_calls(
    calls: Mapping[str, Callable[[], object]], plan: Plan, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> dict[str, CallTimes]:
    """Times of each of ``calls``; ``clock_ns`` is a monotonic clock in nanoseconds."""
    names = list(calls)
    share_ns = 1e9 * plan.seconds / (plan.rounds * len(names))
    times: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    with _no_garbage_collection():
        for name in names:
            _repeat(calls[name], 1e9 * plan.warm_up_s, plan.least_calls, clock_ns)
        for number in range(plan.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                times[name].append(_repeat(calls[name], share_ns, plan.least_calls, clock_ns))
    return {name: summarise(rounds) for name, rounds in times.items()}


def summarise(rounds: list[NDArray[np.int64]]) -> CallTimes:
    """Figures of one call from its times in ns, one array per round."""
    medians = [float(np.median(times)) for times in rounds]
    enough = min(len(times) for times in rounds) >= CALLS_FOR_P99
    groups = rounds if enough else [np.concatenate(rounds)]
    # The next higher of two measured times: a percentile is a time that did occur.
    p99 = np.median([np.percentile(times, 99, method="higher") for times in groups])
    return CallTimes(
        p50_us=float(np.median(medians)) / 1e3,
        p99_us=float(p99) / 1e3,
        mean_us=float(np.median([times.mean() for times in rounds])) / 1e3,
        p50_low_us=min(medians) / 1e3,
        p50_high_us=max(medians) / 1e3,
        calls=sum(len(times) for times in rounds),
    )


def _repeat(
    call: Callable[[], object], at_least_ns: float, least_calls: int, clock_ns: Callable[[], int]
) -> NDArray[np.int64]:
    times: list[int] = []
    start = clock_ns()
    while True:
        before = clock_ns()
        call()
        after = clock_ns()
        times.append(after - before)
        if len(times) >= least_calls and after - start >= at_least_ns:
            return np.array(times, dtype=np.int64)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
