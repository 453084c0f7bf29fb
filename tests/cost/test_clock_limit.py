"""A latency budget of the rtl flow also limits the slowest pipeline stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.delay_model import DelayModel
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import CLOCK, CostStage, HardwareReport
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.target import Budget, Target

REPORT = HardwareReport(
    stage=CostStage.RTL_SYNTH,
    tool="yosys",
    tool_version="0",
    part="xcvu13p-flga2577-2-e",
    clock_period_ns=5.0,
    lut=100,
    ff=100,
    dsp=0,
    bram18=0,
    ii=1,
    content_hash="",
    latency_cycles=2,
    details={"estimated_period_ns": 6.0},
)


def test_few_registers_do_not_meet_a_latency_budget() -> None:
    assert REPORT.excess(Budget(latency_cycles=4)) == {"latency_cycles": 0.5, CLOCK: pytest.approx(1.2)}
    assert not REPORT.meets(Budget(latency_cycles=4))
    assert replace(REPORT, details={"estimated_period_ns": 5.0}).meets(Budget(latency_cycles=4))


def test_without_latency_budget_the_clock_is_nobodys_limit() -> None:
    assert REPORT.meets(Budget(lut=100))


def test_a_compiler_closes_its_own_timing() -> None:
    assert replace(REPORT, stage=CostStage.CSYNTH).meets(Budget(latency_cycles=4))


def test_the_formula_cuts_where_the_clock_asks_for_it() -> None:
    kind = FixedPoint(8, 3)
    weight = np.ones((1, 64), dtype=np.int64)
    layer = WeightLayer("fc", "dense", weight, kind, np.zeros(1, dtype=np.int64), kind, kind, None, False, 1)
    spec = NetworkSpec((layer,), kind, (64,), 1)
    delays = DelayModel(register_ns=0.5, unit_ns=1.0)
    reports = [
        AnalyticCost(adders_per_stage=None, delay_model=delays).estimate(spec, Target(clock_period_ns=period))
        for period in (2.5, 4.5, 20.5)
    ]
    same = [AnalyticCost(adders_per_stage=units).estimate(spec, Target()) for units in (2.0, 4.0, 20.0)]
    assert [report.latency_cycles for report in reports] == [report.latency_cycles for report in same]
    assert reports[0].latency_cycles > reports[-1].latency_cycles
    with pytest.raises(CostError, match="shorter than a register"):
        AnalyticCost(adders_per_stage=None, delay_model=delays).estimate(spec, Target(clock_period_ns=0.4))
