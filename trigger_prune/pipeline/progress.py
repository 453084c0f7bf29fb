"""Progress of a run: nothing, plain lines for a log, or live bars for a terminal."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_S = 5.0
"""Pause between two lines about the same work in a log."""


class Tracker(Protocol):
    """Counts finished pieces of work."""

    def advance(self, n: float = 1, **fields: float | str) -> None:
        """``n`` more pieces are done; ``fields`` (loss=..., accuracy=...) are shown beside the count."""


class Progress(Protocol):
    """Where a run tells what it is doing."""

    def stage(self, position: str, name: str, title: str) -> AbstractContextManager[None]:
        """Around the work of one stage. ``position`` is like ``3/11``."""

    def stored(self, position: str, name: str, title: str, seconds: float) -> None:
        """A stage was found finished; ``seconds`` is what it took when it was computed."""

    def track(self, total: float | None, description: str) -> AbstractContextManager[Tracker]:
        """Around a piece of work of ``total`` steps (None: unknown) inside a stage; may be nested."""

    def note(self, text: str) -> None:
        """One line for the user."""

    def warn(self, text: str) -> None:
        """One line that the user should not miss."""


class QuietProgress:
    """For use as a library: says nothing; warnings go through ``warnings.warn``."""

    @contextmanager
    def stage(self, position: str, name: str, title: str) -> Iterator[None]:
        yield

    def stored(self, position: str, name: str, title: str, seconds: float) -> None:
        pass

    @contextmanager
    def track(self, total: float | None, description: str) -> Iterator[Tracker]:
        yield _NoTracker()

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        warnings.warn(text, stacklevel=2)


class LineProgress:
    """For logs and pipes: whole lines, sparse, no control characters whatever the environment says."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def stage(self, position: str, name: str, title: str) -> Iterator[None]:
        self._line(f"[{position}] {name}: {title}")
        start = time.monotonic()
        yield
        self._line(f"[{position}] {name}: done in {_duration(time.monotonic() - start)}")

    def stored(self, position: str, name: str, title: str, seconds: float) -> None:
        self._line(f"[{position}] {name}: loaded (took {_duration(seconds)})")

    @contextmanager
    def track(self, total: float | None, description: str) -> Iterator[Tracker]:
        yield _LineTracker(self, total, description)

    def note(self, text: str) -> None:
        self._line(f"    {text}")

    def warn(self, text: str) -> None:
        self._line(f"warning: {text}")

    def _line(self, text: str) -> None:
        print(text, file=self._console.file, flush=True)


class LiveProgress:
    """For a terminal: a line per stage, and bars below the running one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: RichProgress | None = None

    @contextmanager
    def stage(self, position: str, name: str, title: str) -> Iterator[None]:
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            console=self._console,
            transient=True,
        )
        start = time.monotonic()
        with bars:
            bars.add_task(f"[{position}] {name}: {title}", total=None, shown="")
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None
        self._print(position, name, title, _duration(time.monotonic() - start))

    def stored(self, position: str, name: str, title: str, seconds: float) -> None:
        self._print(position, name, title, f"loaded (took {_duration(seconds)})", dim=True)

    @contextmanager
    def track(self, total: float | None, description: str) -> Iterator[Tracker]:
        bars = self._bars
        if bars is None:
            yield _NoTracker()
            return
        task = bars.add_task(f"      {description}", total=total, shown="")
        try:
            yield _LiveTracker(bars, task)
        finally:
            bars.remove_task(task)

    def note(self, text: str) -> None:
        self._console.print(f"      {text}", markup=False, highlight=False)

    def warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)

    def _print(self, position: str, name: str, title: str, state: str, dim: bool = False) -> None:
        from rich.text import Text

        style = "dim" if dim else ""
        self._console.print(
            Text.assemble((f"[{position:>5}] ", "dim"), (f"{name:<12}", "bold"), f" {title}  ", (state, style))
        )


class _NoTracker:
    def advance(self, n: float = 1, **fields: float | str) -> None:
        pass


class _LineTracker:
    def __init__(self, lines: LineProgress, total: float | None, description: str) -> None:
        self._lines, self._total, self._description = lines, total, description
        self._done = 0.0
        self._last = time.monotonic()

    def advance(self, n: float = 1, **fields: float | str) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            of = "" if self._total is None else f"/{self._total:g}"
            self._lines.note(f"{self._description} {self._done:g}{of}  {_fields(fields)}".rstrip())


class _LiveTracker:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: float = 1, **fields: float | str) -> None:
        if fields:
            self._bars.update(self._task, advance=n, shown=_fields(fields))
        else:
            self._bars.advance(self._task, n)


def progress_for(console: Console | None) -> Progress:
    """Live bars when ``console`` is a real terminal, lines when it is not, nothing for None.

    The file itself is asked: FORCE_COLOR makes rich take a pipe for a terminal.
    """
    if console is None:
        return QuietProgress()
    isatty = getattr(console.file, "isatty", None)
    if isatty is not None and isatty() and not console.is_dumb_terminal:
        return LiveProgress(console)
    return LineProgress(console)


def _fields(fields: dict[str, float | str]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items()
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
