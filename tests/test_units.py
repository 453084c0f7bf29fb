"""Clock arithmetic of the LHC."""

import pytest

from trigger_prune.units import BUNCH_CROSSING_NS, cycles_to_ns, mhz_to_period_ns, ns_to_bunch_crossings

LHC_CIRCUMFERENCE_M = 26_658.883
PROTON_SPEED_M_PER_S = 299_792_455.0  # 7 TeV
BUCKETS = 3564  # bunch places per turn


def test_bunch_crossing_is_one_place_of_the_turn():
    turn_ns = LHC_CIRCUMFERENCE_M / PROTON_SPEED_M_PER_S * 1e9
    assert abs(BUNCH_CROSSING_NS - turn_ns / BUCKETS) < 1e-5 * BUNCH_CROSSING_NS


def test_conversions():
    assert cycles_to_ns(9, 2.5) == 22.5
    assert mhz_to_period_ns(320.0) == 3.125
    assert ns_to_bunch_crossings(4 * BUNCH_CROSSING_NS) == pytest.approx(4.0)
    assert mhz_to_period_ns(1e3 / BUNCH_CROSSING_NS) == pytest.approx(BUNCH_CROSSING_NS)
