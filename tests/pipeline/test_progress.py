"""Progress in a log is readable text, on a terminal it is live, in a library it is silent."""

from __future__ import annotations

import io
import os
import pty
import re
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console
from toy_stages import make_stages, toy_project

from trigger_prune.pipeline import progress as module
from trigger_prune.pipeline.progress import LineProgress, LiveProgress, Progress, QuietProgress, progress_for
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stage import StageContext


def training(name: str, context: StageContext) -> None:
    if name == "train":
        with context.progress.track(100, "epoch") as epochs:
            for epoch in range(100):
                epochs.advance(loss=1 / (1 + epoch), accuracy=0.5)
        context.progress.note("early [bold]stop[/bold]")


def text_of(folder: Path, console: Console) -> str:
    run_pipeline(
        toy_project(folder), make_stages(lambda n: None, training), folder / "build", console=console, until="train"
    )
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("colour", [None, "1"])
def test_a_log_gets_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: str | None) -> None:
    if colour:
        monkeypatch.setenv("FORCE_COLOR", colour)
    text = text_of(tmp_path, Console(file=io.StringIO()))
    lines = text.splitlines()
    assert lines[0] == "[1/2] events: toy events"
    assert re.fullmatch(r"\[1/2\] events: done in \d+\.\d s", lines[1])
    assert lines[3] == "    early [bold]stop[/bold]"
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text) is None
    again = text_of(tmp_path, Console(file=io.StringIO())).splitlines()
    assert [line.split(" (took")[0] for line in again] == ["[1/2] events: loaded", "[2/2] train: loaded"]


def test_a_log_gets_a_line_about_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO())
    with LineProgress(console).track(1000, "epoch") as tracker:
        for epoch in range(1000):
            now += 0.1
            tracker.advance(loss=0.123456, at=f"e{epoch}")
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert 18 <= len(lines) <= 20, "100 seconds of work"
    counts = [int(re.match(r"    epoch (\d+)/1000  loss 0\.1235  at e\d+$", line)[1]) for line in lines]  # type: ignore[index]
    assert all(48 <= b - a <= 52 for a, b in pairwise(counts))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (61.6, "1 min 02 s"), (3600.0, "60 min 00 s")]
)
def test_durations(seconds: float, shown: str) -> None:
    console = Console(file=io.StringIO())
    LineProgress(console).stored("1/1", "train", "t", seconds)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == f"[1/1] train: loaded (took {shown})\n"


def test_a_terminal_gets_live_bars_and_one_line_per_stage(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        console = Console(file=terminal, width=120, force_terminal=True, _environ={"TERM": "xterm"})
        assert isinstance(progress_for(console), LiveProgress)
        run_pipeline(
            toy_project(tmp_path), make_stages(lambda n: None, training), tmp_path / "b", console=console, until="train"
        )
        terminal.flush()
        shown = os.read(master, 1 << 16).decode()
    os.close(master)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "\x1b[" in shown
    assert re.search(r"\[  1/2\] events +toy events +\d\.\d s", plain)
    assert re.search(r"\[  2/2\] train +toy train +\d\.\d s", plain)
    assert "early [bold]stop[/bold]" in plain


def test_a_dumb_terminal_and_none_get_no_bars() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        dumb = Console(file=terminal, force_terminal=True, _environ={"TERM": "dumb"})
        assert isinstance(progress_for(dumb), LineProgress)
    os.close(master)
    quiet: Progress = progress_for(None)
    assert isinstance(quiet, QuietProgress)
    with pytest.warns(UserWarning, match="look"):
        quiet.warn("look")


def test_a_failed_stage_is_not_called_done(tmp_path: Path) -> None:
    def fail(name: str, context: StageContext) -> None:
        if name == "train":
            raise KeyError("boom")

    console = Console(file=io.StringIO())
    with pytest.raises(KeyError, match="boom"):
        run_pipeline(toy_project(tmp_path), make_stages(lambda n: None, fail), tmp_path / "b", console=console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[-1] == "[2/5] train: toy train"
