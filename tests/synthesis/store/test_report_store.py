"""The store keeps what was put into it, whoever writes, reads or is killed at the same time."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from stored_runs import PART, big_run, report, run, spec, with_lut

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ArtefactError
from trigger_prune.synthesis.store.entry import META, Failure, StoredRun, read_files
from trigger_prune.synthesis.store.history import history
from trigger_prune.synthesis.store.key import key_of
from trigger_prune.synthesis.store.location import default_store_folder
from trigger_prune.synthesis.store.network_file import network_from_json, network_to_json
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target


@pytest.fixture
def store(tmp_path: Path) -> ReportStore:
    return ReportStore(tmp_path / "store")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("stored_runs.py")), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    answers = [process.communicate(timeout=120) for process in processes]
    for process, (_, problem) in zip(processes, answers, strict=True):
        assert process.returncode == 0, problem
    return [output for output, _ in answers]


def same_network(first: NetworkSpec | None, second: NetworkSpec | None) -> bool:
    return first is not None and second is not None and first.content_hash() == second.content_hash()


def test_what_was_put_comes_back(store: ReportStore) -> None:
    network = spec(3)
    both = {
        CostStage.CSYNTH: report(network, 4711, details={"seconds": 12.5}, interval_90={"lut": (1.0, 2.5)}),
        CostStage.VSYNTH: report(network, 2222, CostStage.VSYNTH, tool="Vivado", wns_ns=-0.25),
    }
    written = run(3, reports=both)
    assert store.get(written.key) is None
    store.put(written)
    found = ReportStore(store.folder).get(written.key)
    assert found is not None
    assert (found.parts, found.reports, found.created, found.log, found.raw, found.failure) == (
        written.parts, both, written.created, written.log, written.raw, None,
    )  # fmt: skip
    assert same_network(found.network, network)
    assert store.path(written.key).parts[-2:] == (written.key[:2], written.key)
    assert list((store.folder / "scratch").iterdir()) == []


def test_the_key_is_the_hash_of_its_parts_and_nothing_else(store: ReportStore) -> None:
    import hashlib

    parts = run(1).parts
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert run(1).key == hashlib.sha256(canonical.encode()).hexdigest()
    assert key_of(dict(reversed(parts.items()))) == key_of(parts)
    assert run(1, lut=9, log="other", created="2020-01-01T00:00:00+00:00").key == run(1).key
    others = [{**parts, "tool": {"version": "2023.1"}}, {**parts, "options": {}}, run(2).parts]
    assert len({key_of(other) for other in (parts, *others)}) == 4


def test_networks_survive_as_integers() -> None:
    network = spec(5)
    again = network_from_json(network_to_json(network))
    assert again.content_hash() == network.content_hash()
    for old, new in zip(network.layers, again.layers, strict=True):
        assert (
            (old.weight == new.weight).all() and (old.bias == new.bias).all() and old.weight.dtype == new.weight.dtype
        )
        assert {**vars(old), "weight": 0, "bias": 0} == {**vars(new), "weight": 0, "bias": 0}
    for broken in ("[]", "{}", network_to_json(network).replace("ap_fixed", "float"), '{"layers": [3]}', "{"):
        with pytest.raises(ArtefactError, match="not a stored network"):
            network_from_json(broken)


def test_the_first_of_two_writers_is_kept(store: ReportStore) -> None:
    store.put(run(1, lut=10))
    kept = store.put(run(1, lut=20))
    assert kept.reports[CostStage.CSYNTH].lut == 10
    found = store.get(run(1).key)
    assert found is not None and found.reports[CostStage.CSYNTH].lut == 10
    store.put(run(1, lut=20), replace_existing=True)
    found = store.get(run(1).key)
    assert found is not None and found.reports[CostStage.CSYNTH].lut == 20


def test_stages_that_were_missing_are_added(store: ReportStore) -> None:
    network = spec(1)
    store.put(run(1, lut=10, log="first"))
    later = {
        CostStage.CSYNTH: report(network, 99),
        CostStage.VSYNTH: report(network, 5, CostStage.VSYNTH),
    }
    store.put(run(1, reports=later, log="second"))
    found = store.get(run(1).key)
    assert found is not None
    assert {stage: known.lut for stage, known in found.reports.items()} == {CostStage.CSYNTH: 10, CostStage.VSYNTH: 5}


def test_a_report_takes_the_place_of_a_failure_and_not_the_other_way_round(store: ReportStore) -> None:
    failed = run(1, reports={}, failure=Failure("too many loops", "unroll_limit", "use fewer", {"timeout_s": 9.0}))
    store.put(failed)
    found = store.get(failed.key)
    assert found is not None and found.failure == failed.failure and found.reports == {}
    store.put(run(1, lut=77))
    store.put(failed)
    found = store.get(failed.key)
    assert found is not None and found.failure is None and found.reports[CostStage.CSYNTH].lut == 77


def damage_every_file(folder: Path) -> list[tuple[Path, bytes]]:
    """Every file cut short, with one bit turned, emptied, and removed."""
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 4
        for wrong in (content[: len(content) // 2], bytes(flipped), b"", b"\x00" * 40):
            found.append((path, wrong))
    return found


def test_every_kind_of_damage_is_named_and_never_half_read(store: ReportStore) -> None:
    written = run(1)
    store.put(written)
    folder = store.path(written.key)
    cases = damage_every_file(folder)
    assert len(cases) == 5 * 4, "csynth.json, log, network, raw text, meta"
    for path, wrong in cases:
        before = path.read_bytes()
        path.write_bytes(wrong)
        with pytest.raises(ArtefactError) as caught:
            store.get(written.key)
        assert str(folder) in caught.value.message and path.name in caught.value.message
        assert "store prune" in str(caught.value.hint)
        path.unlink()
        with pytest.raises(ArtefactError, match=path.name):
            store.get(written.key)
        path.write_bytes(before)
    assert store.get(written.key) is not None
    whole = (folder / META).read_bytes()
    for place in range(len(whole)):
        (folder / META).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArtefactError):
            read_files({path.name: path.read_bytes() for path in folder.iterdir()}, "the entry")
    damaged: list[str] = []
    (folder / META).write_text("{}")
    assert list(store.runs(lambda key, _: damaged.append(key))) == []
    assert damaged == [written.key]
    # writing again replaces what is damaged
    store.put(with_lut(written, 5))
    found = store.get(written.key)
    assert found is not None and found.reports[CostStage.CSYNTH].lut == 5


def rewrite_meta(folder: Path, **changes: object) -> None:
    """A consistent meta.json, as somebody who knows the format would write it."""
    from trigger_prune.synthesis.store.entry import _check

    meta = json.loads((folder / META).read_text())
    meta = {name: value for name, value in {**meta, **changes}.items() if name != "check"}
    meta["check"] = _check(meta)
    (folder / META).write_text(json.dumps(meta))


def test_files_that_do_not_belong_together_are_refused(store: ReportStore, tmp_path: Path) -> None:
    import hashlib

    written = run(1)
    store.put(written)
    folder = store.path(written.key)
    names = json.loads((folder / META).read_text())["files"]

    def swap(name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        rewrite_meta(folder, files={**names, name: hashlib.sha256(content).hexdigest()})

    original = (folder / "csynth.json").read_bytes()
    swap("csynth.json", report(spec(2), 5).to_json().encode())
    with pytest.raises(ArtefactError, match="another network"):
        store.get(written.key)
    swap("csynth.json", report(spec(1), 5, CostStage.VSYNTH).to_json().encode())
    with pytest.raises(ArtefactError, match="stage vsynth"):
        store.get(written.key)
    swap("csynth.json", original)
    swap("network.json.gz", gzip.compress(network_to_json(spec(2)).encode()))
    with pytest.raises(ArtefactError, match="another network"):
        store.get(written.key)
    store.put(written, replace_existing=True)
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    rewrite_meta(folder, files={**names, str(outside): "0" * 64, "../../outside": "0" * 64})
    with pytest.raises(ArtefactError, match="is missing"):
        store.get(written.key)
    rewrite_meta(folder, files=names, format=3)
    with pytest.raises(ArtefactError, match="format 3"):
        store.get(written.key)
    rewrite_meta(folder, files=names, format=1, parts={**written.parts, "flow": "rtl"})
    with pytest.raises(ArtefactError, match="key does not belong"):
        store.get(written.key)


def test_an_entry_copied_to_another_name_is_refused(store: ReportStore) -> None:
    store.put(run(1))
    other = store.path(run(2).key)
    other.parent.mkdir(parents=True, exist_ok=True)
    store.path(run(1).key).rename(other)
    with pytest.raises(ArtefactError, match="holds the entry"):
        store.get(run(2).key)


def test_texts_are_stored_without_places_and_people(store: ReportStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from trigger_prune.synthesis.store import scrub

    monkeypatch.setattr(scrub, "_own_names", lambda: ("lxplus123", "jdoe"))
    log = (
        "INFO: [HLS 200-10] For user 'alice' on host 'node7.cern.ch' (Linux_x86_64 version 5.14) on Mon May 6\n"
        "INFO: [HLS 200-10] In directory '/afs/cern.ch/user/a/alice/my project/prj'\n"
        "| Host         : node7 running 64-bit AlmaLinux\n"
        "source /home/jdoe/x/build_prj.tcl on lxplus123; C:\\Users\\jdoe\\run.tcl\n"
        "LUT/FF/DSP 12/34/56, 3.2 ns / 5.0 ns, see https://docs.amd.com/r/ug1399 for II=1/2\n"
    )
    xml = "<profile><File>/scratch/jdoe/prj/a.cpp</File><LUT>12</LUT><Unit>ns/us</Unit></profile>"
    reports = {CostStage.CSYNTH: report(spec(1), 5, details={"log": "/tmp/tmpabc/x/csynth.log", "note": "I/O is fine"})}
    store.put(run(1, reports=reports, log=log, raw={"top_csynth.xml": xml}))
    found = store.get(run(1).key)
    assert found is not None
    everything = found.log + "".join(found.raw.values()) + json.dumps(found.reports[CostStage.CSYNTH].details)
    for word in ("alice", "node7", "jdoe", "lxplus123", "/afs", "/home", "/tmp", "/scratch", "Users"):
        assert word not in everything, word
    assert "LUT/FF/DSP 12/34/56, 3.2 ns / 5.0 ns, see https://docs.amd.com/r/ug1399 for II=1/2" in found.log
    assert found.raw["top_csynth.xml"] == xml.replace("/scratch/jdoe/prj/", "")
    assert found.reports[CostStage.CSYNTH].details == {"log": "csynth.log", "note": "I/O is fine"}


def test_same_run_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ReportStore(tmp_path / name).put(run(4))
        time.sleep(0.01)
    first, second = (ReportStore(tmp_path / name).path(run(4).key) for name in ("a", "b"))
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


def test_history_gives_designs_and_reports_in_order_of_time(store: ReportStore) -> None:
    for seed, day in ((1, 3), (2, 1), (3, 2)):
        store.put(run(seed, created=f"2026-05-0{day}T00:00:00+00:00"))
    store.put(run(9, reports={}, failure=Failure("no", "compile_error")))
    found = list(history(store))
    assert [measurement.reports[CostStage.CSYNTH].lut for measurement in found] == [1002, 1003, 1001]
    assert found[0].target == Target() and found[0].tool["version"] == "2023.2" and found[0].flow == "hls"
    assert same_network(found[0].network, spec(2))


def test_entries_are_found_by_the_first_digits(store: ReportStore) -> None:
    keys = [run(seed).key for seed in range(40)]
    for seed in range(40):
        store.put(run(seed))
    assert store.keys() == sorted(keys)
    assert store.find(keys[7][:10].upper()) == keys[7]
    with pytest.raises(ArtefactError, match="entries start with ''"):
        store.find("")
    with pytest.raises(ArtefactError, match="no entry"):
        store.find("zz")
    assert store.discard(keys[7]) is True
    assert store.discard(keys[7]) is False
    assert store.get(keys[7]) is None and len(store.keys()) == 39


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    store = ReportStore(blocked / "store")
    assert store.get(run(1).key) is None and store.keys() == []
    with pytest.raises(ArtefactError, match="cannot be written") as caught:
        store.put(run(1))
    assert "cost.use_store" in str(caught.value.hint)


def test_left_overs_of_killed_writers_go_after_a_day(store: ReportStore) -> None:
    store.put(run(1))
    old, fresh = store.folder / "scratch" / "new-1-a", store.folder / "scratch" / "new-2-b"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "half.json").write_text("{")
    os.utime(old, (time.time() - 90_000,) * 2)
    store.sweep()
    assert not old.exists() and fresh.exists() and store.get(run(1).key) is not None


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIGGER_PRUNE_STORE", str(tmp_path / "mine"))
    assert default_store_folder() == tmp_path / "mine"
    monkeypatch.delenv("TRIGGER_PRUNE_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_store_folder() == tmp_path / "trigger_prune" / "store"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_store_folder() == tmp_path / ".cache" / "trigger_prune" / "store"


def test_eight_writers_one_killed_and_readers_all_the_while(store: ReportStore) -> None:
    """Same and different keys at once: every key is there, whole, and the work of exactly one writer."""
    readers = [start("read_for", store.folder, 3) for _ in range(2)]
    writers = [start("write_own_and_shared", store.folder, writer) for writer in range(8)]
    victim = writers.pop()
    time.sleep(1.0)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    finish(*writers)
    read = [int(output) for output in finish(*readers)]
    assert all(number > 100 for number in read), read
    found = {known.key: known for known in store.runs(lambda key, error: pytest.fail(str(error)))}
    expected = {big_run(seed, 0).key for seed in range(30)}
    expected |= {big_run(1000 + 10 * writer + seed, 0).key for writer in range(7) for seed in range(10)}
    assert expected <= found.keys()
    for known in found.values():
        writer = known.reports[CostStage.CSYNTH].lut - 100_000
        assert known.log == f"writer {writer}\n" * 2000


def test_readers_see_whole_entries_while_they_are_replaced_and_removed(store: ReportStore) -> None:
    writers = [start("write_forever", store.folder, writer) for writer in range(3)]
    try:
        assert int(finish(start("read_for", store.folder, 2))[0]) > 30
    finally:
        for writer in writers:
            assert writer.poll() is None, writer.communicate()
            writer.kill()
            writer.communicate()
    for seed in range(5):
        known = store.get(big_run(seed, 0).key)
        if known is not None:
            assert isinstance(known, StoredRun) and replace(known, log="").parts["target"]["part"] == PART
