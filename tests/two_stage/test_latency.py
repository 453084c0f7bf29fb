"""Latency by hand and by trying."""

import numpy as np
import pytest

from trigger_prune.errors import ConfigError
from trigger_prune.two_stage.latency import deepest_fifo, fixed_latency, latency_distribution, lhc_clock_multiple
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine


def test_parts_add_up():
    """5 + 2 x 36 + 60 + 3 cycles at nine per crossing: 140 cycles, 15.6 crossings, out with the 16th."""
    found = fixed_latency(Engine(36, 9, 2), light_cycles=5, full_cycles=60, control_cycles=3)
    assert (found.wait_cycles, found.total_cycles, found.output_bx) == (72, 140, 16)
    assert found.total_bx == pytest.approx(140 / 9)
    assert found.total_ns == pytest.approx(140 / (9 * 40.079e-3))
    assert found.output_ns == pytest.approx(16 / 40.079e-3)
    assert found.margin_ns(400.0) == pytest.approx(400 - 16 / 40.079e-3)
    exact = fixed_latency(Engine(36, 9, 2), 0, 63, 0)
    assert exact.output_bx == 15 == exact.total_bx


def test_deepest_fifo_is_the_last_that_fits():
    """Against one depth after the other."""
    for budget in (100.0, 249.6, 500.0, 1000.0):
        for ii in (9, 25, 36):
            fits = [
                depth
                for depth in range(200)
                if fixed_latency(Engine(ii, 9, depth), 7, 40, 2).margin_ns(budget) >= -1e-9
            ]
            assert deepest_fifo(ii, 9, budget, 7, 40, 2) == (fits[-1] if fits else None)


def test_distribution_ends_at_the_fixed_latency():
    """Waits shifted by the models' latencies; the worst that can happen is the fixed latency."""
    engine = Engine(12, 9, 3)
    queue = solve_queue(BeamStructure("b", np.ones(4, bool)), Arrivals((0.5, 0.2, 0.3)), engine)
    latency = fixed_latency(engine, 5, 60, 3)
    cycles, probability = latency_distribution(queue, latency)
    assert cycles[0] == 68 and cycles[-1] == latency.total_cycles
    assert probability.sum() == pytest.approx(1)
    assert cycles @ probability == pytest.approx(68 + queue.mean_wait_cycles)


@pytest.mark.parametrize(("mhz", "multiple"), [(360.0, 9), (240.474, 6), (40.0, 1), (362.0, 9)])
def test_frequencies_are_multiples(mhz, multiple):
    """Within half a percent."""
    assert lhc_clock_multiple(mhz) == multiple


@pytest.mark.parametrize("mhz", [200.0 * 1.02, 250.0, 20.0, 0.0, -1.0, float("nan"), float("inf")])
def test_other_frequencies_are_errors(mhz):
    """With the nearest multiple in the hint."""
    with pytest.raises(ConfigError, match="no multiple"):
        lhc_clock_multiple(mhz)


def test_negative_latencies_are_errors():
    """Nothing is quicker than nothing."""
    with pytest.raises(ConfigError, match="negative"):
        fixed_latency(Engine(9, 9, 1), -1, 10, 0)
