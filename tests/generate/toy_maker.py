"""A maker of shards without physics: worker processes import it, so it lives in a module of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trigger_prune.errors import DataError
from trigger_prune.generate.driver import produce


@dataclass(frozen=True)
class NeverWritten:
    """An array that is not there yet when its file is already open: says so in ``log``, then keeps the writer."""

    log: str

    def __array__(self, dtype=None, copy=None):
        Path(f"{self.log}.writing").touch()
        time.sleep(60)
        raise AssertionError("nobody ended this process")


@dataclass(frozen=True)
class ToyMaker:
    """``log`` (not part of the identity) gets a line ``kind shard pid`` from every prepare and every finished make.

    ``trouble`` at shard 3: killed, exit, full, typed, bug; only while the file ``log``.trouble is there. With
    "full beside a writer" the disk is full at shard 1 as soon as another process is in the middle of writing shard 0.
    """

    log: str
    rows: int = 50
    n_shards: int = 6
    name: str = "toy"
    scale: float = 1.0
    seconds: float = 0.0
    trouble: str = ""

    @property
    def n_events(self) -> int:
        return self.rows * self.n_shards

    def identity(self):
        return {"rows": self.rows, "scale": self.scale, "pair": (1, 2)}

    def prepare(self):
        self._note("prepare", -1)

    def make(self, shard, seed):
        self._note("start", shard)
        time.sleep(self.seconds)
        if self.trouble == "full beside a writer" and shard == 0:
            return {"x": NeverWritten(self.log)}
        if self.trouble == "full beside a writer" and shard == 1:
            while not Path(f"{self.log}.writing").exists():
                time.sleep(0.01)
            raise OSError(28, "No space left on device")
        if shard == 3 and self.trouble and Path(f"{self.log}.trouble").exists():
            if self.trouble == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "exit":
                os._exit(7)
            if self.trouble == "full":
                raise OSError(28, "No space left on device")
            if self.trouble == "typed":
                raise DataError("the toy is broken", hint="mend it")
            raise ZeroDivisionError("by nought")
        x = np.random.default_rng([seed, shard]).normal(size=self.rows) * self.scale
        self._note(f"made:{os.environ.get('OMP_NUM_THREADS')}", shard)
        return {"x": x, "shard": np.asarray(shard)}

    def merge(self, shards):
        return {
            "x": np.concatenate([shard["x"] for shard in shards]),
            "order": np.array([int(shard["shard"]) for shard in shards]),
        }

    def _note(self, kind, shard):
        with Path(self.log).open("a") as stream:
            stream.write(f"{kind} {shard} {os.getpid()}\n")


def notes(log, kind):
    """Shards (or -1) and process numbers of the lines of one kind."""
    if not Path(log).exists():
        return []
    lines = [line.split() for line in Path(log).read_text().splitlines()]
    return [(int(shard), int(pid)) for found, shard, pid in lines if found.split(":")[0] == kind]


if __name__ == "__main__":
    # arguments: out, log, jobs, seconds per shard, rows, largest file in bytes (0: any)
    out, log, jobs, seconds, rows, largest = sys.argv[1:]
    # a parent that was started in the background hands on an ignored SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if int(largest):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
    # the class of this module under its importable name, for the workers
    from toy_maker import ToyMaker as Importable

    maker = Importable(log, rows=int(rows), seconds=float(seconds))
    try:
        produce([maker], Path(out), 1, int(jobs))
    except KeyboardInterrupt:
        sys.exit(130)
