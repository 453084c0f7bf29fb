"""Numbered shards in several processes, each shard one file.

Every worker is a new process joined to this one by a pipe. It works with one thread, ignores Ctrl-C (this process
handles it), ends by itself after its shard when this process is gone, and its death is noticed at once.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from trigger_prune.errors import TriggerPruneError
from trigger_prune.generate.event_files import remove_unfinished, write_npz

if TYPE_CHECKING:
    from trigger_prune.generate.driver import ShardMaker

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class ShardFailure:
    """Why a shard was not made. ``died``: its process ended (``reason`` says how); ``os_error``: it could not write.

    ``hint`` comes from an error raised on purpose; ``details`` is the traceback of any other.
    """

    shard: int
    reason: str
    died: bool = False
    os_error: bool = False
    hint: str | None = None
    details: str = ""


class ShardError(Exception):
    """Ends the production; carries a ``ShardFailure``."""

    def __init__(self, failure: ShardFailure) -> None:
        super().__init__(failure.details or failure.reason)
        self.failure = failure


def shard_path(folder: Path, shard: int) -> Path:
    """File of a finished shard."""
    return folder / f"{shard:06d}.npz"


def make_shards(maker: ShardMaker, shards: Sequence[int], seed: int, jobs: int, folder: Path) -> Iterator[int]:
    """Make ``shards`` in up to ``jobs`` processes; yields each number when its file is in ``folder``.

    Raises ShardError on the first failure. All processes have ended when this returns, raises or is closed, and no
    half-written file of theirs is left.
    """
    waiting = list(reversed(shards))
    busy: dict[Connection, tuple[SpawnProcess, int]] = {}
    try:
        for _ in range(min(jobs, len(shards))):
            process, connection = _start(maker, seed, folder)
            busy[connection] = process, waiting.pop()
            _send(connection, *busy[connection])
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                process, shard = busy[ready]
                _receive(ready, process, shard)
                if waiting:
                    busy[ready] = process, waiting.pop()
                    _send(ready, *busy[ready])
                else:
                    del busy[ready]
                    ready.close()
                    process.join()
                yield shard
    finally:
        for connection, (process, _) in busy.items():
            connection.close()
            process.terminate()
            process.join()
        remove_unfinished(folder)


def _start(maker: ShardMaker, seed: int, folder: Path) -> tuple[SpawnProcess, Connection]:
    # spawn: a forked copy of threads and of compiled code's state is not safe
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, maker, seed, folder), daemon=True)
    with _one_thread():
        process.start()
    # the worker's end must live in the worker alone, or its death would not close the pipe
    theirs.close()
    return process, ours


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute with one thread: sums must not depend on how threads share them."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _send(connection: Connection, process: SpawnProcess, shard: int) -> None:
    try:
        connection.send(shard)
    except (BrokenPipeError, ConnectionResetError):
        process.join()
        raise ShardError(ShardFailure(shard, _death(process.exitcode), died=True)) from None


def _receive(connection: Connection, process: SpawnProcess, shard: int) -> None:
    try:
        failure = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise ShardError(ShardFailure(shard, _death(process.exitcode), died=True)) from None
    if failure is not None:
        raise ShardError(failure)


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with code {exitcode}"


def _work(connection: Connection, maker: ShardMaker, seed: int, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepared = False
    while True:
        try:
            shard = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        failure = None
        try:
            if not prepared:
                maker.prepare()
                prepared = True
            write_npz(shard_path(folder, shard), maker.make(shard, seed))
        except TriggerPruneError as error:
            failure = ShardFailure(shard, error.message, hint=error.hint)
        except OSError as error:
            failure = ShardFailure(shard, error.strerror or str(error), os_error=True, details=traceback.format_exc())
        except Exception as error:
            failure = ShardFailure(shard, f"{type(error).__name__}: {error}", details=traceback.format_exc())
        try:
            connection.send(failure)
        except (BrokenPipeError, ConnectionResetError):
            return
