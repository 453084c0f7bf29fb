"""Stored results are believed only when every byte is where the manifest says."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from toy_stages import make_stages, toy_project

from trigger_prune.errors import ArtefactError
from trigger_prune.pipeline import artefacts
from trigger_prune.pipeline.artefacts import ArtefactStore, copy_atomically, locked
from trigger_prune.pipeline.keys import identities
from trigger_prune.pipeline.runner import RunResult, run_pipeline


def run(folder: Path, computed: list[str]) -> RunResult:
    computed.clear()
    return run_pipeline(toy_project(folder), make_stages(computed.append), folder / "build")


def test_the_manifest_says_what_the_result_is(tmp_path: Path) -> None:
    result = run(tmp_path, [])
    folder = result.runs["quantize"].folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert folder.name == f"quantize-{manifest['key'][:12]}"
    assert manifest["identity"]["config"]["train.batch_size"] == 1024
    assert manifest["identity"]["upstream"] == {"train": result.runs["train"].key}
    canonical = json.dumps(manifest["identity"], sort_keys=True, separators=(",", ":"))
    assert manifest["key"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert set(manifest["files"]) == {"result.txt", "parts/copy.txt"}
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def truncate(folder: Path) -> None:
    os.truncate(folder / "result.txt", 10)


def alter(folder: Path) -> None:
    content = bytearray((folder / "parts" / "copy.txt").read_bytes())
    content[5] ^= 1
    (folder / "parts" / "copy.txt").write_bytes(content)


def lose(folder: Path) -> None:
    (folder / "result.txt").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 100)


def foreign_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "key": manifest["key"][:12] + "0" * 52}))


def strange_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "result.txt has 10 bytes instead of"),
        (alter, "parts/copy.txt was altered"),
        (lose, "result.txt is missing"),
        (lose_manifest, "manifest is missing or damaged"),
        (cut_manifest, "manifest is missing or damaged"),
        (strange_manifest, "manifest is missing or damaged"),
        (foreign_manifest, "belongs to another key"),
    ],
)
def test_a_damaged_result_is_computed_again_with_a_warning(tmp_path: Path, damage: Any, said: str) -> None:
    computed: list[str] = []
    first = run(tmp_path, computed)
    damage(first.runs["quantize"].folder)
    with pytest.warns(UserWarning, match=said):
        second = run(tmp_path, computed)
    assert computed == ["quantize"]
    assert second.result("report") == first.result("report")
    run(tmp_path, computed)
    assert computed == []


def test_large_files_are_checked_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    folder = run(tmp_path, computed).runs["quantize"].folder
    monkeypatch.setattr(artefacts, "HASHED_BELOW_BYTES", 1)
    alter(folder)
    run(tmp_path, computed)
    assert computed == []
    truncate(folder)
    with pytest.warns(UserWarning, match="10 bytes"):
        run(tmp_path, computed)
    assert computed == ["quantize"]


def test_a_failing_save_leaves_nothing_behind(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path, lambda text: None)
    identity = identities(toy_project(tmp_path / "p"), make_stages(lambda name: None)[:1])["events"]

    def save(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.write(identity, 1.0, save)
    assert list(store.artefacts.iterdir()) == []
    assert store.find(identity) is None


def test_left_overs_of_killed_runs_are_swept(tmp_path: Path) -> None:
    run(tmp_path, [])
    left = tmp_path / "build" / "artefacts" / ".tmp-train-0123456789ab-1-0"
    left.mkdir()
    (left / "half").write_text("x")
    (tmp_path / "build" / ".tmp-report.html-1").write_text("x")
    run(tmp_path, [])
    assert list((tmp_path / "build").rglob(".tmp*")) == []


def test_two_runs_in_one_folder_are_refused_and_the_lock_ends_with_the_first(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ArtefactError, match=f"in use by another run .process {os.getpid()} "):
        run_pipeline(toy_project(tmp_path / "p"), make_stages(lambda name: None), tmp_path)
    run_pipeline(toy_project(tmp_path / "p"), make_stages(lambda name: None), tmp_path)


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match=r"file/build cannot be written"), locked(tmp_path / "file" / "build"):
        pass


def test_atomic_copies_replace_files_and_folders(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a").write_text("new")
    (out / "project").mkdir(parents=True)
    (out / "project" / "stale").write_text("old")
    copy_atomically(source, out / "project")
    copy_atomically(source / "deep" / "a", out / "b")
    copy_atomically(source / "deep" / "a", out / "b")
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == [
        "b",
        "project",
        "project/deep",
        "project/deep/a",
    ]
    assert (out / "b").read_text() == "new"


def test_clearing_removes_results_but_not_reports(tmp_path: Path) -> None:
    run(tmp_path, [])
    (tmp_path / "build" / "report.html").write_text("x")
    store = ArtefactStore(tmp_path / "build", lambda text: None)
    size = sum(p.stat().st_size for p in store.artefacts.rglob("*") if p.is_file())
    assert store.clear() == size > 0
    assert {path.name for path in (tmp_path / "build").iterdir()} == {".lock", "report.html"}
    assert store.clear() == 0
