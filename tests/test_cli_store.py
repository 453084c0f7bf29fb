"""``trigger-prune store``: what it lists, shows, moves and removes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from trigger_prune.cli import store as commands
from trigger_prune.cost.report import CostStage
from trigger_prune.synthesis.store.entry import Failure
from trigger_prune.synthesis.store.reports import ReportStore

sys.path.insert(0, str(Path(__file__).parent / "synthesis" / "store"))
from stored_runs import report, run, spec

Call = Callable[..., Any]


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def both(seed: int) -> dict[CostStage, Any]:
    network = spec(seed)
    return {
        CostStage.CSYNTH: report(network, 4000 + seed),
        CostStage.VSYNTH: report(network, 1700 + seed, CostStage.VSYNTH, tool="Vivado", wns_ns=0.125),
    }


@pytest.fixture
def store(tmp_path: Path) -> ReportStore:
    """Five runs, 1 to 5 days old; number 2 has two stages and the log of a Vivado run, number 4 failed."""
    found = ReportStore(tmp_path / "store")
    for seed in (1, 3, 5):
        found.put(run(seed, created=days_ago(seed)))
    found.put(run(2, created=days_ago(2), reports=both(2), log="tail of the log\n"))
    failure = Failure("6000 copies of a loop", "unroll_limit", "raise target.reuse_factor", {"timeout_s": 60.0})
    found.put(run(4, created=days_ago(4), reports={}, failure=failure))
    return found


@pytest.fixture
def call(store: ReportStore) -> Call:
    app = typer.Typer()
    for name, function, _ in commands.COMMANDS:
        app.command(name)(function)

    def invoke(*arguments: str | Path, answer: str | None = None, where: Path | None = None) -> Any:
        return CliRunner().invoke(app, [*map(str, arguments), "--store", str(where or store.folder)], input=answer)

    return invoke


def key(seed: int) -> str:
    return run(seed).key


def listed(output: str) -> list[int]:
    """Seeds of the runs in a table, top down."""
    seeds = {key(seed)[:12]: seed for seed in range(20)}
    return [seeds[word] for line in output.splitlines() for word in line.split() if word in seeds]


def test_ls_lists_every_stage_newest_first(call: Call) -> None:
    result = call("ls")
    assert result.exit_code == 0
    assert listed(result.output) == [1, 2, 2, 3, 4, 5]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.output.splitlines() if "│" in line]
    part = "xcvu13p-flga2577-2-e"
    assert rows[0] == [key(1)[:12], "24 h", "csynth", "Vitis HLS 2023.2", part, "1001", "7"]
    assert rows[2] == [key(2)[:12], "2 d", "vsynth", "Vivado 2023.2", part, "1702", "7"]
    assert rows[4][2] == "failed: unroll_limit" and rows[4][5:] == ["", ""]
    assert "5 entries in" in result.output


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        (["--tool", "vitis"], [1, 2, 2, 3, 4, 5]),
        (["--tool", "2022"], []),
        (["--part", "VU13P"], [1, 2, 2, 3, 4, 5]),
        (["--part", "xcvu9p"], []),
        (["--stage", "vsynth"], [2, 2]),
        (["--failed"], [4]),
    ],
)
def test_ls_filters(call: Call, options: list[str], seeds: list[int]) -> None:
    assert listed(call("ls", *options).output) == seeds


def test_ls_names_damaged_entries_and_lists_the_others(call: Call, store: ReportStore) -> None:
    (store.path(key(3)) / "csynth.json").write_text("{}")
    result = call("ls")
    assert result.exit_code == 0 and listed(result.stdout) == [1, 2, 2, 4, 5]
    assert "csynth.json was altered" in result.stderr and key(3) in result.stderr


def test_an_empty_store_is_no_error(call: Call, tmp_path: Path) -> None:
    result = call("ls", where=tmp_path / "other")
    assert result.exit_code == 0 and "0 entries" in result.output
    assert not (tmp_path / "other").exists()


def test_a_wrong_stage_is_named(call: Call) -> None:
    result = call("ls", "--stage", "csnyth")
    assert result.exit_code == 2 and "there is no stage 'csnyth'" in result.stderr and "csynth" in result.stderr


def test_show_as_json_is_the_entry(call: Call) -> None:
    shown = json.loads(call("show", key(2)[:9], "--json").output)
    assert shown["key"] == key(2) and shown["parts"] == json.loads(json.dumps(run(2).parts))
    assert {stage: values["lut"] for stage, values in shown["reports"].items()} == {"csynth": 4002, "vsynth": 1702}
    assert shown["nonzeros"] == spec(2).nonzeros and shown["raw"] == ["top_csynth.xml"]


def test_show_prints_figures_and_log(call: Call) -> None:
    plain = call("show", key(2))
    assert plain.exit_code == 0 and "tail of the log" not in plain.output
    for word in (key(2), "4002", "1702", "0.125", "vitis_hls", f"{spec(2).nonzeros} of {spec(2).n_weights} weights"):
        assert word in plain.output, word
    assert "tail of the log" in call("show", key(2), "--log").output
    assert "6000 copies of a loop" in call("show", key(4)).output


def test_show_of_an_unknown_or_ambiguous_key(call: Call) -> None:
    assert call("show", "zz").exit_code == 1
    result = call("show", "")
    assert result.exit_code == 1 and "give more digits" in result.stderr


def test_export_and_import(call: Call, store: ReportStore, tmp_path: Path) -> None:
    file = tmp_path / "shared.tar.gz"
    result = call("export", file, "--stage", "csynth")
    assert result.exit_code == 0 and "4 entries, with the networks' weights" in result.output
    assert call("export", file).exit_code == 1, "never overwrites"
    assert call("export", tmp_path / "none.tar.gz", "--part", "nothing").exit_code == 1
    assert not (tmp_path / "none.tar.gz").exists()
    other = ReportStore(tmp_path / "other")
    assert "would add 4, knew 0 already" in call("import", file, "--dry-run", where=other.folder).output
    assert not other.folder.exists()
    assert "added 4, knew 0 already" in call("import", file, where=other.folder).output
    assert other.get(key(2)).reports == store.get(key(2)).reports


def test_import_conflicts(call: Call, store: ReportStore, tmp_path: Path) -> None:
    file = tmp_path / "shared.tar.gz"
    call("export", file)
    store.discard(key(5))
    store.put(run(1, lut=9), replace_existing=True)
    result = call("import", file)
    assert result.exit_code == 1 and key(1)[:12] in result.stderr and "--keep-mine" in result.stderr
    assert store.get(key(5)) is None
    assert call("import", file, "--keep-mine", "--take-theirs").exit_code == 2
    result = call("import", file, "--keep-mine")
    assert result.exit_code == 0 and "added 1, knew 3 already, kept mine in 1" in result.output
    assert store.get(key(1)).reports[CostStage.CSYNTH].lut == 9
    assert "took theirs in 1" in call("import", file, "--take-theirs").output
    assert store.get(key(1)).reports[CostStage.CSYNTH].lut == 1001
    (tmp_path / "junk.tar.gz").write_bytes(b"junk")
    result = call("import", tmp_path / "junk.tar.gz")
    assert result.exit_code == 1 and "is not an archive" in result.stderr


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (["--older-than", "60h"], {3, 4, 5}),
        (["--older-than", "0.5w"], {4, 5}),
        (["--keep", "2"], {3, 4, 5}),
        (["--keep", "9"], set()),
        (["--keep", "1", "--older-than", "3.5d"], {4, 5}),
        (["--tool", "2023.2", "--keep", "4"], {5}),
        (["--failed"], {4}),
        (["--damaged"], set()),
    ],
)
def test_prune_removes_exactly_what_was_said(
    call: Call, store: ReportStore, options: list[str], gone: set[int]
) -> None:
    everything = set(store.keys())
    result = call("prune", *options, "--dry-run")
    assert result.exit_code == 0 and set(listed(result.output)) == gone and set(store.keys()) == everything
    result = call("prune", *options, "--yes")
    assert result.exit_code == 0 and f"removed {len(gone)} entr" in result.output
    assert everything - set(store.keys()) == {key(seed) for seed in gone}


def test_prune_asks(call: Call, store: ReportStore) -> None:
    assert call("prune", "--keep", "0", answer="n\n").exit_code == 1
    assert call("prune", "--keep", "0", answer="").exit_code == 1
    assert len(store.keys()) == 5
    result = call("prune", "--keep", "0", answer="y\n")
    assert "Remove 5 of 5 entries" in result.output and store.keys() == []


def test_prune_of_damaged_entries(call: Call, store: ReportStore) -> None:
    (store.path(key(3)) / "meta.json").unlink()
    call("prune", "--damaged", "--yes")
    assert store.keys() == sorted(key(seed) for seed in (1, 2, 4, 5))


def test_prune_needs_to_be_told_what(call: Call, store: ReportStore) -> None:
    result = call("prune", "--yes")
    assert result.exit_code == 2 and "nothing says which entries" in result.stderr and len(store.keys()) == 5
    result = call("prune", "--older-than", "month", "--yes")
    assert result.exit_code == 2 and "30d" in result.stderr and len(store.keys()) == 5
