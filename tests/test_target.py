"""Target, Budget and the parts catalogue."""

import pytest

from trigger_prune.errors import ConfigError
from trigger_prune.target import PARTS, Budget, Target, find_part


def test_part_of_a_full_number():
    part = find_part("XCVU13P-flga2577-2-e")
    assert part is PARTS["xcvu13p"]
    # Data sheet DS890: 2,688 block RAMs of 36 Kbit, two 18 Kbit units each; two flip-flops per LUT
    assert part.bram18 == 2 * 2688
    assert part.ff == 2 * part.lut


def test_unknown_part_is_none():
    assert find_part("xc7z020clg400-1") is None


@pytest.mark.parametrize("period", [0.0, -5.0, float("nan"), float("inf")])
def test_clock_must_be_positive(period):
    with pytest.raises(ConfigError, match="clock period"):
        Target(clock_period_ns=period)


def test_reuse_factor_must_be_at_least_one():
    with pytest.raises(ConfigError, match="reuse factor"):
        Target(reuse_factor=0)


@pytest.mark.parametrize("name", ["lut", "ff", "dsp", "bram18", "latency_cycles", "ii"])
def test_negative_limits_are_named(name):
    with pytest.raises(ConfigError, match=name):
        Budget(**{name: -1})
    assert getattr(Budget(**{name: 0}), name) == 0
