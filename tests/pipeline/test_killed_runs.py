"""A run killed with SIGKILL, at any moment, goes on where it was and never reads anything half-written."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_stages import make_stages, toy_project

import trigger_prune
from trigger_prune.errors import ArtefactError
from trigger_prune.pipeline.runner import run_pipeline

UNTIL = "train"
FILE_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate", "fcntl.flock")


def run(folder: Path, **options: Any) -> Any:
    with (folder / "computed.log").open("a") as log:

        def note(name: str) -> None:
            log.write(name + "\n")
            log.flush()

        result = run_pipeline(toy_project(folder), make_stages(note), folder / "build", until=UNTIL, **options)
        return result.result(UNTIL)


def in_child(work: Callable[[], Any]) -> int:
    """Run ``work`` in a forked process; the status as os.waitpid gives it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def kill_at(event_number: int, build: Path) -> None:
    """From now on, kill this process just before its ``event_number``-th change or opening of a file in ``build``."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in FILE_EVENTS and (event == "fcntl.flock" or str(arguments[0]).startswith(str(build))):
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def killed_run(folder: Path, event_number: int, **options: Any) -> bool:
    """True when the run was killed, False when it ended before so many events."""

    def work() -> None:
        kill_at(event_number, folder / "build")
        run(folder, **options)

    status = in_child(work)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the run failed instead of resuming"
    return os.WIFSIGNALED(status)


def assert_all_artefacts_are_complete(build: Path) -> None:
    for folder in (build / "artefacts").glob("[!.]*"):
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, entry in manifest["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("undisturbed"))


def test_killed_before_every_single_file_operation(tmp_path: Path, expected: Any) -> None:
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        if not killed_run(folder, number):
            break
        if (folder / "build" / "artefacts").exists():
            assert_all_artefacts_are_complete(folder / "build")
        assert run(folder) == expected
        log = (folder / "computed.log").read_text().split()
        # Only the stage that was interrupted is computed twice.
        assert set(log) == {"events", "train"}
        assert len(log) <= 3, log
        assert list((folder / "build").rglob(".tmp*")) == []
        assert list((folder / "build" / "scratch").iterdir()) == []
    assert number > 40, f"only {number - 1} file operations were seen"


def test_killed_again_and_again_in_one_folder(tmp_path: Path, expected: Any) -> None:
    # Every attempt gets a little further than the one before, at a random place.
    choose = random.Random(1)
    kills = 0
    limit = 4
    while killed_run(tmp_path, choose.randint(limit // 2, limit)):
        kills += 1
        limit += 6
    assert kills > 4
    assert run(tmp_path) == expected


def test_killed_while_a_stage_is_computed_again_by_request(tmp_path: Path, expected: Any) -> None:
    number = 1
    run(tmp_path)
    while killed_run(tmp_path, number, from_stage="train"):
        assert run(tmp_path) == expected
        number += 5
    assert number > 20


SLOW_TRAINING = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from toy_stages import make_stages, toy_project
from trigger_prune.pipeline.runner import run_pipeline

def before(name, context):
    if name == "train":
        (context.scratch / "epoch-3").write_text("weights")
        (Path({folder!r}) / "started").write_text("x")
        time.sleep(60)

run_pipeline(toy_project(Path({folder!r})), make_stages(lambda name: None, before), Path({folder!r}) / "build")
"""


def test_partial_work_survives_a_kill_and_a_second_run_meanwhile_is_refused(tmp_path: Path) -> None:
    script = SLOW_TRAINING.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    root = str(Path(trigger_prune.__file__).parents[1])
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": root})
    try:
        while not (tmp_path / "started").exists():
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.02)
        with pytest.raises(ArtefactError, match=f"in use by another run .process {process.pid} "):
            run(tmp_path)
    finally:
        process.kill()
        process.wait()
    found: dict[str, list[str]] = {}

    def before(name: str, context: Any) -> None:
        found[name] = [path.name for path in context.scratch.iterdir()]

    result = run_pipeline(toy_project(tmp_path), make_stages(lambda name: None, before), tmp_path / "build")
    assert result.loaded == ("events",)
    assert found["train"] == ["epoch-3"], "what the killed run left to resume from"
    assert found["quantize"] == []
    assert list((tmp_path / "build" / "scratch").iterdir()) == [], "deleted when the stages are done"
