"""Target and Budget."""

import pytest

from trigger_prune.cost.report import BUDGETED
from trigger_prune.errors import ConfigError
from trigger_prune.target import Budget, Target


@pytest.mark.parametrize("period", [0.0, -5.0, float("nan"), float("inf")])
def test_clock_must_be_positive(period):
    with pytest.raises(ConfigError, match="clock period"):
        Target(clock_period_ns=period)


def test_reuse_factor_must_be_at_least_one():
    with pytest.raises(ConfigError, match="reuse factor"):
        Target(reuse_factor=0)


@pytest.mark.parametrize("name", list(BUDGETED))
def test_negative_limits_are_named(name):
    with pytest.raises(ConfigError, match=name):
        Budget(**{name: -1})
    assert getattr(Budget(**{name: 0}), name) == 0
