"""Only one process at a time holds a claim, and nobody waits for one that is dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trigger_prune.synthesis.store.claim import Claim, Patience, try_claim, wait_for_release

QUICK = Patience(heartbeat_s=0.05, stale_s=0.6, poll_s=0.02)

HOLD = """
import sys, time
from pathlib import Path
from trigger_prune.synthesis.store.claim import Patience, try_claim
claim = try_claim(Path(sys.argv[1]), Patience(0.05, 0.6, 0.02))
print("held" if claim else "refused", flush=True)
time.sleep(60)
"""

COUNT = """
import sys, time
from pathlib import Path
from trigger_prune.synthesis.store.claim import Patience, try_claim, wait_for_release
path, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(25):
    while (claim := try_claim(path, Patience(0.05, 5.0, 0.002))) is None:
        wait_for_release(path, Patience(0.05, 5.0, 0.002))
    value = int(counter.read_text())
    time.sleep(0.002)
    counter.write_text(str(value + 1))
    claim.release()
"""


def wait_seconds(path: Path, patience: Patience = QUICK) -> float:
    start = time.monotonic()
    wait_for_release(path, patience)
    return time.monotonic() - start


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims" / ("ab" * 32)


def test_one_holder_at_a_time(path: Path) -> None:
    first = try_claim(path, QUICK)
    assert isinstance(first, Claim)
    assert try_claim(path, QUICK) is None
    first.release()
    assert not path.exists()
    second = try_claim(path, QUICK)
    assert second is not None
    first.release()
    assert path.exists(), "a claim given up twice takes nobody else's away"
    second.release()
    wait_for_release(path, QUICK)


def test_a_living_claim_is_waited_for_beyond_the_time_of_a_stale_one(path: Path) -> None:
    claim = try_claim(path, QUICK)
    assert claim is not None
    threading.Timer(1.5, claim.release).start()
    assert wait_seconds(path) > 1.3, "2.5 times the time after which a dead one is taken over"


def test_the_claim_of_a_killed_process_goes_at_once(path: Path) -> None:
    process = hold(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()
    assert wait_seconds(path, Patience(0.05, 30.0, 0.02)) < 5.0
    claim = try_claim(path, QUICK)
    assert claim is not None
    claim.release()


def test_the_claim_of_a_silent_process_elsewhere_is_taken_over(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"owner": "x", "machine": "another", "process": os.getpid()}))
    os.utime(path, (time.time() + 9e5,) * 2)  # clocks of other machines are not to be trusted
    waited = wait_seconds(path)
    assert waited >= 0.6 and not path.exists()


def test_a_stopped_owner_notices_that_it_was_taken_for_dead(path: Path) -> None:
    process = hold(path)
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "machine": "another"}))  # so that only its silence counts
    process.send_signal(signal.SIGSTOP)
    try:
        assert wait_seconds(path) >= 0.5
        mine = try_claim(path, Patience(heartbeat_s=100.0))
        assert mine is not None
        touched = path.stat().st_mtime_ns
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        assert json.loads(path.read_text())["process"] == os.getpid()
        assert path.stat().st_mtime_ns == touched, "it no longer shows signs of life for a claim of somebody else"
        mine.release()
    finally:
        process.kill()
        process.communicate()


def test_many_processes_take_turns(path: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(path), str(counter)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=100) for process in processes] == [0] * 4
    assert counter.read_text() == "100", "an increment was lost: two held the claim at once"


def test_waiting_ends_when_it_is_told_to(path: Path) -> None:
    claim = try_claim(path, QUICK)
    looks = iter([True, True, False])
    wait_for_release(path, QUICK, lambda: next(looks))
    assert path.exists() and claim is not None
    claim.release()
