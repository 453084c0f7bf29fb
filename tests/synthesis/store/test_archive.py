"""What one group exports another one can import; what nobody should import is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from stored_runs import run, with_lut

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ArtefactError
from trigger_prune.synthesis.store.archive import export_runs, import_runs, read_archive
from trigger_prune.synthesis.store.entry import NETWORK, entry_files
from trigger_prune.synthesis.store.reports import ReportStore

Members = dict[str, bytes]


@pytest.fixture
def store(tmp_path: Path) -> ReportStore:
    return ReportStore(tmp_path / "store")


def filled(path: Path, *seeds: int) -> ReportStore:
    store = ReportStore(path)
    for seed in seeds:
        store.put(run(seed))
    return store


def luts(store: ReportStore) -> dict[str, int | None]:
    return {found.key: found.reports[CostStage.CSYNTH].lut for found in store.runs()}


def contents(store: ReportStore) -> Members:
    return {
        str(path.relative_to(store.folder)): path.read_bytes() for path in store.folder.rglob("*") if path.is_file()
    }


def test_an_export_gives_the_same_store_elsewhere(tmp_path: Path) -> None:
    mine = filled(tmp_path / "mine", 1, 2, 3)
    assert export_runs(mine.runs(), tmp_path / "x.tar.gz") == 3
    theirs = ReportStore(tmp_path / "theirs")
    result = import_runs(theirs, read_archive(tmp_path / "x.tar.gz"))
    assert sorted(result.added) == mine.keys() and result.known == () == result.conflicts
    assert contents(theirs) == contents(mine)
    again = import_runs(theirs, read_archive(tmp_path / "x.tar.gz"))
    assert (again.added, sorted(again.known)) == ((), mine.keys())


def test_an_export_tells_nothing_about_its_maker_and_is_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_runs(filled(tmp_path / name, 3, 1).runs(), tmp_path / f"{name}.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    plain = gzip.decompress((tmp_path / "a.tar.gz").read_bytes())
    assert str(tmp_path).encode() not in plain and b"root" not in plain
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)
            assert not member.name.startswith("/")


def test_weights_can_be_left_out(tmp_path: Path) -> None:
    mine = filled(tmp_path / "mine", 1)
    export_runs(mine.runs(), tmp_path / "x.tar.gz", with_networks=False)
    (found,) = read_archive(tmp_path / "x.tar.gz")
    assert found.network is None and found.key == run(1).key
    own = next(iter(mine.runs()))
    assert own.network is not None and own.design is None
    assert found.design is not None
    assert found.design.layers[0].name == own.network.layers[0].name
    assert all(layer.weight is None and layer.bias is None for layer in found.design.layers)
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert not any(member.name.endswith(NETWORK) for member in tar)
    # Who gets the network later has it; who had it keeps it.
    for first, second in ((found, own), (own, found)):
        store = ReportStore(tmp_path / f"store of {first.network is None}")
        store.put(first)
        both = store.put(second)
        assert both.network is not None and both.design is None
        assert store.get(both.key) is not None and len(store.keys()) == 1
    bare = ReportStore(tmp_path / "bare")
    bare.put(replace(found, design=None))
    assert bare.put(found).design is not None


def test_an_export_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_text("precious")
    with pytest.raises(ArtefactError, match="exists already"):
        export_runs([run(1)], tmp_path / "x.tar.gz")
    assert (tmp_path / "x.tar.gz").read_text() == "precious"
    with pytest.raises(ArtefactError, match="cannot be written"):
        export_runs([run(1)], tmp_path / "missing" / "x.tar.gz")


def test_conflicts_are_reported_and_resolved_as_asked(tmp_path: Path) -> None:
    store = filled(tmp_path / "mine", 1, 2)
    theirs = [with_lut(run(1), 55), run(2), run(3)]
    before = contents(store)
    with pytest.raises(ArtefactError, match=rf"1 entries have other figures.*{run(1).key[:12]} \(csynth\)") as caught:
        import_runs(store, theirs)
    assert "--keep-mine" in str(caught.value.hint)
    assert contents(store) == before, "nothing is imported, not even what is no conflict"
    assert import_runs(store, theirs, on_conflict="theirs", dry_run=True).added == (run(3).key,)
    assert contents(store) == before
    result = import_runs(store, theirs, on_conflict="mine")
    assert (result.added, result.known, result.conflicts) == ((run(3).key,), (run(2).key,), (run(1).key,))
    assert luts(store)[run(1).key] == 1001
    import_runs(store, theirs, on_conflict="theirs")
    assert luts(store) == {run(1).key: 55, run(2).key: 1002, run(3).key: 1003}


def test_other_run_times_are_no_conflict(tmp_path: Path) -> None:
    store = filled(tmp_path / "mine", 1)
    changed = {stage: found.with_details(seconds=99) for stage, found in run(1).reports.items()}
    assert import_runs(store, [run(1, reports=changed)]).known == (run(1).key,)


def pack(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def valid() -> list[tuple[tarfile.TarInfo, bytes]]:
    head = json.dumps({"format": 1, "entries": 1}).encode()
    entry = sorted(entry_files(run(1)).items())
    return [
        (tarfile.TarInfo("trigger_prune_store.json"), head),
        *((tarfile.TarInfo(f"entries/{run(1).key}/{name}"), content) for name, content in entry),
    ]


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


KEY = run(1).key


@pytest.mark.parametrize(
    "extra",
    [
        named("../../../etc/cron.d/x"),
        named("/etc/passwd"),
        named(f"entries/{KEY}/../../x"),
        named(f"entries/{KEY}/sub/x.json"),
        named(f"entries/{KEY}/.hidden"),
        named(f"entries/{KEY[:-1]}G/meta.json"),
        named(f"entries/{KEY}/link", tarfile.SYMTYPE, "/etc/passwd"),
        named(f"entries/{KEY}/link", tarfile.LNKTYPE, f"entries/{KEY}/meta.json"),
        named(f"entries/{KEY}/pipe", tarfile.FIFOTYPE),
        named(f"entries/{KEY}", tarfile.DIRTYPE),
        named(f"entries/{KEY}/meta.json"),
        named(f"entries/{KEY}/more.json"),
        named("readme.txt"),
    ],
)
def test_foreign_members_are_refused(tmp_path: Path, store: ReportStore, extra: tarfile.TarInfo) -> None:
    pack(tmp_path / "good.tar.gz", valid())
    assert len(read_archive(tmp_path / "good.tar.gz")) == 1
    path = pack(tmp_path / "bad.tar.gz", [*valid(), (extra, b"x")])
    with pytest.raises(ArtefactError):
        read_archive(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bad.tar.gz", "good.tar.gz"]


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="twice"):
        read_archive(pack(tmp_path / "bad.tar.gz", [*valid(), valid()[-1]]))


def replaced(old: str, new: Callable[[bytes], bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(info, new(content) if info.name.endswith(old) else content) for info, content in valid()]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (valid()[1:], "has no trigger_prune_store.json"),
        (valid()[:-1], "is missing"),
        (replaced("store.json", lambda _: b'{"format": 2, "entries": 1}'), "another format"),
        (replaced("store.json", lambda _: b"[1]"), "another format"),
        (replaced("store.json", lambda _: b'{"format": 1, "entries": 7}'), "1 of 7 entries"),
        (replaced("store.json", lambda _: b"{"), "not an archive of stored reports"),
        (replaced("csynth.json", lambda text: text.replace(b'"lut": 1001', b'"lut": 1')), "csynth.json was altered"),
        (replaced("meta.json", lambda text: text.replace(b"2023.2", b"2023.1")), "meta.json was altered"),
        (replaced("meta.json", lambda _: b"[" * 100_000), "meta.json is damaged"),
        ([], "has no trigger_prune_store.json"),
    ],
)  # fmt: skip
def test_damaged_archives_are_refused(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], said: str) -> None:
    with pytest.raises(ArtefactError, match=said):
        read_archive(pack(tmp_path / "bad.tar.gz", members))


def test_an_entry_under_another_key_is_refused(tmp_path: Path) -> None:
    renamed = [(named(info.name.replace(KEY, run(2).key)), content) for info, content in valid()]
    with pytest.raises(ArtefactError, match=f"entry {run(2).key[:12]} holds {KEY[:12]}"):
        read_archive(pack(tmp_path / "bad.tar.gz", renamed))


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = pack(tmp_path / "good.tar.gz", valid()).read_bytes()
    path = tmp_path / "cut.tar.gz"
    for length in range(0, len(whole) - 8, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtefactError):
            read_archive(path)
    for text in (b"", b"PK\x03\x04 a zip file", b"\x1f\x8b\x08\x00garbage"):
        path.write_bytes(text)
        with pytest.raises(ArtefactError):
            read_archive(path)
    with pytest.raises(ArtefactError, match="not an archive"):
        read_archive(tmp_path / "nowhere.tar.gz")
