"""Tools on another machine: the loop stops with a bundle of projects, and goes on when their reports are there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hls_loop import expected, jet_network, loop_inputs, solver_inputs

from trigger_prune.errors import AwaitingReportsError, WrongReportError
from trigger_prune.prune.budget.loop import solve_to_budget
from trigger_prune.prune.loop import prune_to_budget
from trigger_prune.prune.measured import PruneResult
from trigger_prune.prune.rounds import Rounds
from trigger_prune.prune.steps import aim_factors
from trigger_prune.synthesis.hls.cost import CsynthCost
from trigger_prune.synthesis.hls.offline import OfflineCost
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Budget, Target

LOOPS = ["solver", "ranking"]


def run(loop: str, cost: Any, budget: Budget, scratch: Path, epochs: list[str], **config: Any) -> PruneResult:
    network = jet_network()

    def trained(record: Any, _: int) -> None:
        epochs.append(record.phase)

    if loop == "solver":
        return solve_to_budget(network, solver_inputs(cost, budget, **config), scratch=scratch, on_epoch=trained)
    return prune_to_budget(network, loop_inputs(cost, budget, **config), scratch=scratch, on_epoch=trained)


@pytest.fixture
def budget() -> Budget:
    return Budget(lut=expected(jet_network()).lut // 2)


@pytest.mark.slow
@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_stopping_and_resuming_gives_the_same_network_bit_for_bit(
    loop: str, candidates: int, budget: Budget, stand_in: Any, tmp_path: Path
) -> None:
    """Online with the stand-in, against: stop, run the bundle's script by hand, drop the reports, the same call."""
    # Of several designs the script's order decides which one is the second.
    failed = [2] if candidates == 1 else []
    stand_in.behave(bias="lut=1.25,dsp=0.8", fail=",".join(map(str, failed)))
    online_epochs: list[str] = []
    online = run(loop, CsynthCost(), budget, tmp_path / "online", online_epochs, candidates=candidates)
    assert online.chosen.cost.lut <= budget.lut
    stand_in.counter.unlink()
    stand_in.remove()
    folder, store = tmp_path / "bundle", ReportStore(tmp_path / "store")
    cost = OfflineCost(folder, store=store)
    epochs: list[str] = []
    stops: list[tuple[Path, ...]] = []
    while len(stops) < 12:
        try:
            offline = run(loop, cost, budget, tmp_path / "offline", epochs, candidates=candidates)
            break
        except AwaitingReportsError as waiting:
            stops.append(waiting.folders)
            for place in waiting.folders:
                assert (place / "build_prj.tcl").is_file() and str(place) in waiting.message
                assert "sh synthesise.sh" in (place / "HOW_TO_SYNTHESISE.txt").read_text()
            done = stand_in.synthesise(folder / "synthesise_all.sh")
            assert done.returncode == 0, done.stderr
    for name, value in online.network.state_dict().items():
        assert torch.equal(value, offline.network.state_dict()[name]), name
    assert epochs == online_epochs, "something was trained twice, or not at all"
    assert [trial.round for trial in offline.trials] == [trial.round for trial in online.trials]
    assert [trial.cost.lut for trial in offline.trials] == [trial.cost.lut for trial in online.trials]
    assert [trial.predicted for trial in offline.trials] == [trial.predicted for trial in online.trials]
    assert [failure.round for failure in online.failures] == failed
    assert [failure.round for failure in offline.failures] == failed
    assert all("failed (unknown): ERROR: [HLS 200-1715]" in failure.error for failure in offline.failures)
    assert stand_in.calls == len(offline.trials) + len(failed), "something was synthesised twice"
    if candidates == 3:
        assert {len(stop) for stop in stops} <= {1, 2, 3} and max(map(len, stops)) >= 2
        assert len(stops) < len(online.trials)
    assert offline.chosen.cost.details["offline"] in {path.name for path in folder.iterdir()}
    # Reports that came by hand are in the store, where an online run with that release finds them.
    assert len(store.keys()) == len({trial.cost.content_hash for trial in offline.trials})
    again = store.get(offline.chosen.cost.details["store_key"])
    assert again is not None and again.reports[offline.chosen.cost.stage].lut == offline.chosen.cost.lut


def waiting_design(folder: Path, cost: OfflineCost | None = None, target: Target | None = None) -> Path:
    with pytest.raises(AwaitingReportsError) as caught:
        (cost or OfflineCost(folder)).measure(jet_network(), target or Target())
    (place,) = caught.value.folders
    return place


def test_a_report_alone_is_enough_and_the_store_knows_it_from_then_on(stand_in: Any, tmp_path: Path) -> None:
    stand_in.behave(bias="lut=1.1")
    online = CsynthCost().measure(jet_network(), Target())
    store = ReportStore(tmp_path / "store")
    cost = OfflineCost(tmp_path / "bundle", store=store)
    place = waiting_design(tmp_path / "bundle", cost)
    elsewhere = tmp_path / "elsewhere" / place.name
    shutil.copytree(place, elsewhere)
    assert stand_in.synthesise(elsewhere / "synthesise.sh").returncode == 0
    (report,) = elsewhere.rglob("csynth.xml")
    assert waiting_design(tmp_path / "bundle", cost) == place, "nothing was put there yet"
    shutil.copy(report, place / "csynth.xml")
    dropped = cost.measure(jet_network(), Target())
    kept = ("hls_seconds", "top", "offline", "store_key")
    for name in ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii", "part", "clock_period_ns", "content_hash"):
        assert getattr(dropped, name) == getattr(online, name), name
    assert {k: v for k, v in dropped.details.items() if k not in kept} == {
        k: v for k, v in online.details.items() if k not in kept
    }
    shutil.rmtree(tmp_path / "bundle")
    release = OfflineCost(tmp_path / "bundle", tool_version="2024.1", store=store)
    assert release.measure(jet_network(), Target()).lut == online.lut
    assert not (tmp_path / "bundle").exists()
    other = OfflineCost(tmp_path / "bundle", tool_version="2023.2", store=store)
    waiting_design(tmp_path / "bundle", other)


def test_the_whole_project_may_come_back_inside_its_folder(stand_in: Any, tmp_path: Path) -> None:
    place = waiting_design(tmp_path)
    back = tmp_path / "back"
    place.rename(back)
    assert stand_in.synthesise(back / "synthesise.sh").returncode == 0
    place.mkdir()
    back.rename(place / "from_the_other_machine")
    assert OfflineCost(tmp_path).measure(jet_network(), Target()).lut > 0


def test_the_report_of_another_design_is_refused_by_name(stand_in: Any, tmp_path: Path) -> None:
    place = waiting_design(tmp_path)
    other = waiting_design(tmp_path, target=Target(clock_period_ns=4.0))
    assert other != place
    assert stand_in.synthesise(tmp_path / "synthesise_all.sh").returncode == 0
    (foreign,) = other.rglob("csynth.xml")
    for report in place.rglob("*csynth.xml"):
        report.unlink()
    wrong = place / "csynth.xml"
    shutil.copy(foreign, wrong)
    with pytest.raises(WrongReportError, match="is the report of network_") as caught:
        OfflineCost(tmp_path).measure(jet_network(), Target())
    assert str(wrong) in caught.value.message
    # The same function, synthesised for another part, for another clock, and by another release.
    wrong.unlink()
    assert stand_in.synthesise(place / "synthesise.sh").returncode == 0
    reports = list(place.rglob("*csynth.xml"))
    good = reports[0].read_text()

    def altered(old: str, new: str) -> None:
        assert old in good
        for report in reports:
            report.write_text(good.replace(old, new))

    altered("xcvu13p-flga2577-2-e", "xcku115-flvb2104-2-i")
    with pytest.raises(WrongReportError, match=r"csynth\.xml is for the part xcku115"):
        OfflineCost(tmp_path).measure(jet_network(), Target())
    altered("<TargetClockPeriod>5.00", "<TargetClockPeriod>5.05")
    with pytest.raises(WrongReportError, match=r"csynth\.xml is for a clock period of 5\.05 ns"):
        OfflineCost(tmp_path).measure(jet_network(), Target())
    altered("</profile>", "")
    with pytest.raises(WrongReportError, match=r"csynth\.xml"):
        OfflineCost(tmp_path).measure(jet_network(), Target())
    altered("</profile>", "</profile>\n")
    with pytest.raises(WrongReportError, match=r"is of version 2024\.1.*cost\.tool_version is 2023\.2"):
        OfflineCost(tmp_path, tool_version="2023.2").measure(jet_network(), Target())
    # A project that was exchanged as a whole has the stamp of the other one.
    stamp = place / "trigger_prune_design.json"
    stamp.write_text(json.dumps({"key": "f" * 64}))
    with pytest.raises(WrongReportError, match=r"trigger_prune_design\.json is the stamp of another design"):
        OfflineCost(tmp_path).measure(jet_network(), Target())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_wrong_report_stops_the_loop_and_is_no_failed_trial(
    loop: str, budget: Budget, stand_in: Any, tmp_path: Path
) -> None:
    epochs: list[str] = []
    cost = OfflineCost(tmp_path / "bundle")
    config = {"final_epochs": 0}
    with pytest.raises(AwaitingReportsError) as caught:
        run(loop, cost, budget, tmp_path / "scratch", epochs, **config)
    (place,) = caught.value.folders
    foreign = waiting_design(tmp_path / "other", target=Target(clock_period_ns=10.0))
    assert stand_in.synthesise(foreign / "synthesise.sh").returncode == 0
    shutil.copy(next(foreign.rglob("csynth.xml")), place / "csynth.xml")
    trained = len(epochs)
    with pytest.raises(WrongReportError, match=str(place)):
        run(loop, cost, budget, tmp_path / "scratch", epochs, **config)
    (place / "csynth.xml").unlink()
    with pytest.raises(AwaitingReportsError) as again:
        run(loop, cost, budget, tmp_path / "scratch", epochs, **config)
    assert again.value.folders == (place,) and len(epochs) == trained


def test_aims_lie_around_the_one() -> None:
    assert aim_factors(1, Rounds()) == (1.0,)
    assert aim_factors(4, Rounds()) == pytest.approx((1.0, 0.9, 1.1, 0.8))
