"""Production of event files: the same bytes however it was run, stopped, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from toy_maker import ToyMaker, notes

from trigger_prune.errors import ArtefactError, ConfigError, ToolError
from trigger_prune.generate.driver import SHARDS_PREFIX, identity_of, produce, shards_folder
from trigger_prune.generate.event_files import package_versions, read_npz, read_provenance, write_npz
from trigger_prune.generate.workers import shard_path

HERE = Path(__file__).parent


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


def start(out, log, jobs=2, seconds=0.3, rows=50, largest=0):
    """The production of a ToyMaker in a process group of its own."""
    command = [sys.executable, HERE / "toy_maker.py", out, log, jobs, seconds, rows, largest]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [str(word) for word in command], env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def wait_until(condition, what, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def finished_shards(out):
    return sorted(int(path.stem) for path in out.glob(f"{SHARDS_PREFIX}*/*.npz") if not path.name.startswith("."))


def undisturbed(tmp_path):
    """Bytes of the file of a ToyMaker that nothing stopped."""
    (path,) = produce([ToyMaker(str(tmp_path / "other_log"))], tmp_path / "undisturbed", 1)
    return path.read_bytes()


def test_the_file_holds_the_shards_in_order(tmp_path, log):
    maker = ToyMaker(log)
    (path,) = produce([maker], tmp_path / "out", 9, jobs=2)
    found = read_npz(path)
    assert list(found["order"]) == list(range(6))
    expected = [np.random.default_rng([9, shard]).normal(size=50) for shard in range(6)]
    np.testing.assert_array_equal(found["x"], np.concatenate(expected))
    assert not list(path.parent.glob(f"{SHARDS_PREFIX}*"))
    assert not list(path.parent.glob("*.tmp")) + list(path.parent.glob(".*.tmp"))


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path):
    found = set()
    for jobs in (1, 2, 9):
        own_log = str(tmp_path / f"log{jobs}")
        (path,) = produce([ToyMaker(own_log)], tmp_path / f"out{jobs}", 1, jobs, command="trigger-prune data make toy")
        found.add(path.read_bytes())
        workers = {pid for _, pid in notes(own_log, "made")}
        assert len(notes(own_log, "prepare")) == min(jobs, 6) >= len(workers) and os.getpid() not in workers
        assert not any(alive(pid) for pid in workers)
    assert len(found) == 1


def test_another_seed_gives_other_events(tmp_path, log):
    (one,) = produce([ToyMaker(log)], tmp_path / "one", 1)
    (two,) = produce([ToyMaker(log)], tmp_path / "two", 2)
    assert not np.array_equal(read_npz(one)["x"], read_npz(two)["x"])


def test_provenance_says_how_and_with_what_but_not_where_or_when(tmp_path, log):
    (path,) = produce([ToyMaker(log)], tmp_path / "out", 4, jobs=2, command="trigger-prune data make toy --seed 4")
    found = read_provenance(path)
    assert found == {
        "name": "toy",
        "seed": 4,
        "shards": 6,
        "settings": {"rows": 50, "scale": 1.0, "pair": [1, 2]},
        "versions": package_versions(),
        "command": "trigger-prune data make toy --seed 4",
    }
    assert found["versions"]["numpy"] == np.__version__
    assert str(tmp_path) not in json.dumps(found) and os.uname().nodename not in json.dumps(found)
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_killed_run_goes_on_with_the_unfinished_shards_only(tmp_path, log):
    out = tmp_path / "out"
    run = start(out, log)
    wait_until(lambda: len(finished_shards(out)) >= 2, "two shards")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = finished_shards(out)
    assert 2 <= len(kept) < 6 and not (out / "toy.npz").exists()
    Path(log).unlink()
    # of a run that was killed later, at the file of all shards; and one that is not of this production
    (out / ".toy.npz.7.tmp").write_bytes(b"half")
    (out / ".other.npz.7.tmp").write_bytes(b"half")
    (path,) = produce([ToyMaker(log)], out, 1)
    assert sorted(shard for shard, _ in notes(log, "made")) == sorted(set(range(6)) - set(kept))
    assert path.read_bytes() == undisturbed(tmp_path)
    assert [left.name for left in out.rglob(".*.tmp")] == [".other.npz.7.tmp"]


def test_workers_end_when_the_parent_alone_is_killed(tmp_path, log):
    out = tmp_path / "out"
    run = start(out, log, seconds=0.4)
    wait_until(lambda: len({pid for _, pid in notes(log, "start")}) == 2, "two workers")
    workers = {pid for _, pid in notes(log, "start")}
    run.kill()
    run.wait()
    wait_until(lambda: not any(alive(pid) for pid in workers), "the end of the workers")
    # the shards they were at were finished, and nothing was begun after that
    assert len(notes(log, "made")) == len(notes(log, "start")) < 6
    (path,) = produce([ToyMaker(log)], out, 1)
    assert path.read_bytes() == undisturbed(tmp_path)


def test_ctrl_c_ends_the_workers_and_keeps_the_shards(tmp_path, log):
    out = tmp_path / "out"
    run = start(out, log, seconds=1.5)
    wait_until(lambda: len(notes(log, "made")) >= 2 and len(notes(log, "start")) >= 4, "two shards, and two begun")
    workers = {pid for _, pid in notes(log, "start")}
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in errors
    assert not any(alive(pid) for pid in workers)
    # what was begun is not waited for
    assert len(notes(log, "made")) < len(notes(log, "start"))
    assert 2 <= len(finished_shards(out)) < 6
    (path,) = produce([ToyMaker(log)], out, 1)
    assert path.read_bytes() == undisturbed(tmp_path)


def test_workers_leave_ctrl_c_to_the_parent(tmp_path, log):
    run = start(tmp_path / "out", log, seconds=0.4)
    wait_until(lambda: len(notes(log, "start")) >= 2, "the workers")
    for pid in {pid for _, pid in notes(log, "start")}:
        os.kill(pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert (tmp_path / "out" / "toy.npz").read_bytes() == undisturbed(tmp_path)


@pytest.mark.parametrize(
    ("trouble", "error", "message", "hint"),
    [
        ("killed", ToolError, r"shard 3 of toy was not made: its process was ended by SIGKILL", "fewer --jobs"),
        ("exit", ToolError, r"shard 3 of toy was not made: its process ended with code 7", "same command again"),
        ("full", ArtefactError, r"shard 3 of toy was not made: No space left on device", "make room"),
        ("typed", ToolError, r"shard 3 of toy was not made: the toy is broken", "mend it"),
        ("bug", ToolError, r"shard 3 of toy was not made: ZeroDivisionError: by nought", "--debug"),
    ],
)
def test_trouble_is_named_and_what_is_finished_stays(tmp_path, log, trouble, error, message, hint):
    out = tmp_path / "out"
    Path(f"{log}.trouble").touch()
    maker = ToyMaker(log, trouble=trouble)
    with pytest.raises(error, match=message) as caught:
        produce([maker], out, 1, jobs=1)
    assert hint in caught.value.hint
    if trouble not in ("typed", "bug"):
        assert "3 of 6 shards are kept" in caught.value.hint
    assert finished_shards(out) == [0, 1, 2]
    Path(f"{log}.trouble").unlink()
    (path,) = produce([maker], out, 1, jobs=2)
    assert sorted(shard for shard, _ in notes(log, "made")) == list(range(6))
    assert path.read_bytes() == undisturbed(tmp_path)


def test_traceback_of_a_bug_reaches_the_debug_output(tmp_path, log):
    Path(f"{log}.trouble").touch()
    with pytest.raises(ToolError) as caught:
        produce([ToyMaker(log, trouble="bug")], tmp_path / "out", 1)
    assert "toy_maker.py" in str(caught.value.__cause__) and "ZeroDivisionError" in str(caught.value.__cause__)


@pytest.mark.parametrize(("rows", "largest", "kept"), [(5000, 20_000, 0), (2000, 40_000, 6)])
def test_a_disk_that_takes_no_more_leaves_no_half_file(tmp_path, log, rows, largest, kept):
    """The first limit stops the first shard, the second the file of all shards."""
    out = tmp_path / "out"
    run = start(out, log, seconds=0.0, rows=rows, largest=largest)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1 and "ArtefactError" in errors and "File too large" in errors
    assert f"{kept} of 6 shards are kept" in errors
    assert len(finished_shards(out)) == kept
    assert not (out / "toy.npz").exists() and not list(out.rglob("*.tmp")) and not list(out.rglob(".*.tmp"))


def test_a_failure_leaves_no_half_file_of_another_process(tmp_path, log):
    """The process that is ended in the middle of a file cannot remove it itself."""
    out = tmp_path / "out"
    with pytest.raises(ArtefactError, match="shard 1 of toy was not made: No space left on device"):
        produce([ToyMaker(log, trouble="full beside a writer")], out, 1, jobs=2)
    assert Path(f"{log}.writing").exists()
    assert not list(out.rglob(".*.tmp")) and not list(out.rglob("*.npz"))


def test_a_finished_file_is_not_made_again(tmp_path, log):
    (path,) = produce([ToyMaker(log)], tmp_path / "out", 1)
    before = path.stat().st_mtime_ns
    Path(log).unlink()
    # force replaces what differs, and this does not
    produce([ToyMaker(log)], tmp_path / "out", 1, jobs=2, force=True)
    assert path.stat().st_mtime_ns == before and not notes(log, "made")


@pytest.mark.parametrize(
    ("other", "seed", "difference"),
    [
        ({"scale": 2.0}, 1, "settings.scale 1.0 there, 2.0 here"),
        ({}, 2, "seed 1 there, 2 here"),
        ({"n_shards": 5}, 1, "shards 6 there, 5 here"),
    ],
)
def test_a_file_of_other_settings_is_replaced_by_force_only(tmp_path, log, other, seed, difference):
    out = tmp_path / "out"
    (path,) = produce([ToyMaker(log)], out, 1)
    before = path.read_bytes()
    with pytest.raises(ArtefactError, match=difference) as caught:
        produce([ToyMaker(log, **other)], out, seed)
    assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    produce([ToyMaker(log, **other)], out, seed, force=True)
    assert read_provenance(path)["seed"] == seed
    assert path.read_bytes() != before


@pytest.mark.parametrize("content", ["foreign", "damaged", "npy"])
def test_a_file_that_is_no_product_is_not_overwritten(tmp_path, log, content):
    out = tmp_path / "out"
    (path,) = produce([ToyMaker(log)], out, 1)
    if content == "foreign":
        write_npz(path, {"x": np.zeros(3)})
    elif content == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 3] ^= 255
        path.write_bytes(damaged)
    before = path.read_bytes()
    with pytest.raises(ArtefactError, match="damaged or was not written"):
        produce([ToyMaker(log)], out, 1)
    assert path.read_bytes() == before
    produce([ToyMaker(log)], out, 1, force=True)
    assert path.read_bytes() == undisturbed(tmp_path)


def test_unfinished_shards_of_other_settings_are_dropped_by_force_only(tmp_path, log):
    out = tmp_path / "out"
    Path(f"{log}.trouble").touch()
    with pytest.raises(ToolError):
        produce([ToyMaker(log, trouble="typed", scale=3.0)], out, 1)
    Path(f"{log}.trouble").unlink()
    with pytest.raises(ArtefactError, match=r"unfinished shards of toy.*settings.scale 3.0 there, 1.0 here"):
        produce([ToyMaker(log)], out, 1)
    assert finished_shards(out) == [0, 1, 2]
    # a file of another name is no obstacle, and does not touch them
    produce([ToyMaker(log, name="other")], out, 1)
    assert finished_shards(out) == [0, 1, 2]
    (path,) = produce([ToyMaker(log)], out, 1, force=True)
    assert not finished_shards(out) and path.read_bytes() == undisturbed(tmp_path)


def test_a_damaged_shard_is_made_again(tmp_path, log):
    out = tmp_path / "out"
    Path(f"{log}.trouble").touch()
    maker = ToyMaker(log, trouble="typed")
    with pytest.raises(ToolError):
        produce([maker], out, 1)
    Path(f"{log}.trouble").unlink()
    damaged = shard_path(shards_folder(out, identity_of(maker, 1)), 1)
    damaged.write_bytes(damaged.read_bytes()[:-30])
    Path(log).unlink()
    (path,) = produce([maker], out, 1)
    assert sorted(shard for shard, _ in notes(log, "made")) == [1, 3, 4, 5]
    assert path.read_bytes() == undisturbed(tmp_path)


def test_workers_compute_with_one_thread(tmp_path, log, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    produce([ToyMaker(log)], tmp_path / "out", 1)
    assert {line.split()[0] for line in Path(log).read_text().splitlines() if line.startswith("made")} == {"made:1"}
    assert os.environ["OMP_NUM_THREADS"] == "3" and "NUMBA_NUM_THREADS" not in os.environ


def test_several_files_one_after_the_other(tmp_path, log):
    makers = [ToyMaker(log, name="a", n_shards=2), ToyMaker(log, name="b", n_shards=1, rows=3)]
    assert produce(makers, tmp_path / "out", 1, jobs=3) == [tmp_path / "out" / "a.npz", tmp_path / "out" / "b.npz"]
    assert len(read_npz(tmp_path / "out" / "b.npz")["x"]) == 3


def test_progress_counts_events_and_what_was_there(tmp_path, log):
    counts = []

    class Tracker:
        def advance(self, n=1, **fields):
            counts.append((n, sorted(fields)))

    from contextlib import contextmanager

    from trigger_prune.pipeline.progress import QuietProgress

    class Recorded(QuietProgress):
        @contextmanager
        def track(self, total, description):
            counts.append(total)
            yield Tracker()

    Path(f"{log}.trouble").touch()
    with pytest.raises(ToolError):
        produce([ToyMaker(log, trouble="typed")], tmp_path / "out", 1)
    Path(f"{log}.trouble").unlink()
    produce([ToyMaker(log)], tmp_path / "out", 1, progress=Recorded())
    assert counts == [300, (150.0, []), (50.0, ["speed"]), (50.0, ["speed"]), (50.0, ["speed"])]


def test_wrong_numbers_are_refused(tmp_path, log):
    with pytest.raises(ConfigError, match="seed -1"):
        produce([ToyMaker(log)], tmp_path / "out", -1)
    with pytest.raises(ConfigError, match="0 processes"):
        produce([ToyMaker(log)], tmp_path / "out", 1, jobs=0)
    assert not (tmp_path / "out").exists()
