"""Findings survive JSON with every figure; what is not findings is refused with the place."""

import json
import math
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from study_toys import study_inputs

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ReportFormatError
from trigger_prune.target import Budget
from trigger_prune.two_stage.figures import (
    findings_from_dict,
    findings_to_dict,
    queue_from_dict,
    queue_to_dict,
    working_point_from_dict,
    working_point_to_dict,
)
from trigger_prune.two_stage.flat import comparison_table, design_table, single_table
from trigger_prune.two_stage.study import run_study

FOUND = run_study(study_inputs(accept_shares=(0.0,))).findings


def same(first, second, where="findings"):
    """Equal in depth and in type, arrays element by element."""
    assert type(first) is type(second), where
    if is_dataclass(first):
        for field in fields(first):
            same(getattr(first, field.name), getattr(second, field.name), f"{where}.{field.name}")
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype, where
        np.testing.assert_array_equal(first, second, err_msg=where)
    elif isinstance(first, tuple | list):
        assert len(first) == len(second), where
        for i, pair in enumerate(zip(first, second, strict=True)):
            same(*pair, f"{where}[{i}]")
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            same(first[key], second[key], f"{where}.{key}")
    else:
        assert first == second, where


def through_json(raw):
    return json.loads(json.dumps(raw, allow_nan=False))


def test_findings_come_back_as_they_were():
    """Infinite thresholds, arrays, costs of two stages, slots and all."""
    assert math.isinf(FOUND.best.thresholds.t_accept)
    assert {row.buffer.stage for row in FOUND.rows if row.buffer} == {CostStage.ANALYTIC}
    same(FOUND, findings_from_dict(through_json(findings_to_dict(FOUND))))


def test_intervals_and_absent_parts_come_back():
    """A cost with a prediction interval; findings without a design."""
    row = FOUND.rows[0]
    cost = replace(row.cost, interval_90={"dsp": (700.0, 900.0)}, predicts=CostStage.CSYNTH)
    changed = replace(FOUND, rows=(replace(row, cost=cost), *FOUND.rows[1:]))
    same(changed, findings_from_dict(through_json(findings_to_dict(changed))))
    needs = replace(study_inputs().requirements, budget=Budget(dsp=4))
    nothing = run_study(study_inputs(requirements=needs)).findings
    assert nothing.best is None
    same(nothing, findings_from_dict(through_json(findings_to_dict(nothing))))


def test_queue_and_working_point_alone():
    """Parts of it can be kept on their own."""
    point = FOUND.best.working_point
    same(point, working_point_from_dict(through_json(working_point_to_dict(point))))
    queue = queue_from_dict(through_json(queue_to_dict(point.queue)))
    same(point.queue, queue)
    assert queue.mean_wait_cycles == point.queue.mean_wait_cycles


def test_the_slots_are_runs():
    """72 filled, 31 empty."""
    assert findings_to_dict(FOUND)["filled"] == [[True, 72], [False, 31]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("rows"), "lacks.*rows"),
        (lambda raw: raw.update(format=9), "format 9"),
        (lambda raw: raw.update(extra=1), "extra"),
        (lambda raw: raw.update(filled=3), "not the findings"),
        (lambda raw: raw["rows"][1].update(kind="magic"), r"rows\[1\].kind is 'magic'"),
        (lambda raw: raw["best"]["thresholds"].update(t_full="high"), "best.thresholds.t_full"),
        (lambda raw: raw["designs"][3].update(latency=None), r"designs\[3\].latency"),
        (lambda raw: raw["best"]["working_point"]["queue"].update(orbits="two"), "queue.orbits"),
    ],
)
def test_damage_is_named(change, message):
    """No half-read findings."""
    raw = through_json(findings_to_dict(FOUND))
    change(raw)
    with pytest.raises(ReportFormatError, match=message):
        findings_from_dict(raw)


def test_flat_tables_hold_the_same_figures():
    """One line per row, design and reuse factor; the chosen design is marked once."""
    rows, designs = comparison_table(FOUND), design_table(FOUND)
    assert [line["name"] for line in rows] == [row.name for row in FOUND.rows]
    two = rows[-1]
    assert two["dsp"] == FOUND.best.point.resource_used and two["buffer_lut"] == FOUND.rows[-1].buffer.lut
    assert two["relative_loss_limit90"] == FOUND.rows[-1].loss.relative_loss_limit90
    assert rows[0]["relative_loss"] is None and rows[0]["latency_bx"] == 4
    assert len(designs) == len(FOUND.designs) and sum(line["on_front"] for line in designs) == len(FOUND.front)
    (chosen,) = [line for line in designs if line["chosen"]]
    assert chosen["fifo_depth"] == FOUND.best.point.engine.fifo_depth
    assert [line["copies"] for line in single_table(FOUND)] == [1, 1, 2, 4, 8]
