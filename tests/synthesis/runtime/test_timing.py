"""Medians over interleaved rounds, against a clock that is under control."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.errors import CostError
from trigger_prune.synthesis.runtime.processors import available_cpus, choose_cpus, cpu_name, gpu_name, pin
from trigger_prune.synthesis.runtime.timing import Plan, summarise, time_calls


class World:
    """A clock that only calls move on: call ``name`` takes ``cost(name, n)`` ns the n-th time."""

    def __init__(self, cost: Callable[[str, int], int]) -> None:
        self.now, self.cost, self.order = 0, cost, ""
        self.counts: dict[str, int] = {}

    def clock(self) -> int:
        return self.now

    def call(self, name: str) -> Callable[[], None]:
        def run() -> None:
            assert not gc.isenabled()
            self.now += self.cost(name, self.counts.get(name, 0))
            self.counts[name] = self.counts.get(name, 0) + 1
            self.order += name

        return run


def test_rounds_go_forwards_and_backwards_after_the_warm_up() -> None:
    world = World(lambda name, n: 1_000_000)
    plan = Plan(rounds=3, seconds=0.018, least_calls=1, warm_up_s=0.002)
    time_calls({name: world.call(name) for name in "abc"}, plan, world.clock)
    assert world.order == "aabbcc" + "aabbcc" + "ccbbaa" + "aabbcc", "2 ms each: 18 ms in 3 rounds of 3 calls"


def test_the_least_number_of_calls_is_made_however_long_they_take() -> None:
    world = World(lambda name, n: 10_000_000_000)
    times = time_calls({"a": world.call("a")}, Plan(rounds=2, seconds=0.1, least_calls=7, warm_up_s=0.0), world.clock)
    assert (times["a"].calls, world.counts["a"]) == (14, 21)


def test_figures_of_a_call_with_known_times() -> None:
    # 100 calls a round: 98 of 2 us, one of 5 us, one of 50 us
    pattern = [2000] * 98 + [50_000, 5000]
    world = World(lambda name, n: pattern[n % 100])
    plan = Plan(rounds=4, seconds=4e-9, least_calls=100, warm_up_s=0.0)
    times = time_calls({"a": world.call("a")}, plan, world.clock)["a"]
    assert (times.p50_us, times.p50_low_us, times.p50_high_us, times.calls) == (2.0, 2.0, 2.0, 400)
    assert times.p99_us == 50.0, "the next higher of two measured times"
    assert times.mean_us == pytest.approx((98 * 2 + 55) / 100)


def test_one_disturbed_round_changes_nothing() -> None:
    quiet = [np.full(200, 3000) for _ in range(4)]
    disturbed = summarise([*quiet, np.full(200, 90_000)])
    assert (disturbed.p50_us, disturbed.p99_us, disturbed.mean_us) == (3.0, 3.0, 3.0)
    assert (disturbed.p50_low_us, disturbed.p50_high_us) == (3.0, 90.0), "but it is told"


def test_a_percentile_of_few_calls_is_taken_over_all_rounds() -> None:
    rounds = [np.array([1000] * 39 + [1000 * (number + 2)]) for number in range(5)]
    # of 200 times the largest are 6, 5, 4, 3, 2 us: the 99th percentile is at place 197.01 of 0..199
    assert summarise(rounds).p99_us == 5.0
    many = [np.tile(each, 3) for each in rounds]
    # 120 calls a round: 3 slow ones each, so every round's own is its slow one, and their median 4 us
    assert summarise(many).p99_us == 4.0


def test_garbage_collection_is_as_it_was() -> None:
    world = World(lambda name, n: 1000)
    for state in (True, False):
        (gc.enable if state else gc.disable)()
        try:
            time_calls({"a": world.call("a")}, Plan(seconds=1e-6, least_calls=1, warm_up_s=0.0), world.clock)
            assert gc.isenabled() is state
        finally:
            gc.enable()


def topology(folder: Path, siblings: dict[int, str]) -> Path:
    for cpu, text in siblings.items():
        place = folder / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(text + "\n")
    return folder


def test_threads_get_physical_cores_first(tmp_path: Path) -> None:
    found = topology(tmp_path, {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"})
    assert choose_cpus(1, [0, 1, 4, 5], found) == [0]
    assert choose_cpus(2, [0, 4, 1, 5], found) == [0, 1]
    assert choose_cpus(3, [0, 1, 4, 5], found) == [0, 1, 4]
    assert choose_cpus(2, [4, 5], found) == [4, 5]
    assert choose_cpus(2, [7, 9], tmp_path) == [7, 9], "an unknown one is a core of its own"
    with pytest.raises(CostError, match=r"5 threads .* 4 processors"):
        choose_cpus(5, [0, 1, 4, 5], found)


def test_pinning_holds_and_processors_have_names() -> None:
    before = available_cpus()
    try:
        if pin(before[:1]):
            assert available_cpus() == before[:1]
    finally:
        pin(before)
    assert available_cpus() == before
    assert cpu_name().strip() and gpu_name().strip()
