from __future__ import annotations

import sys
import threading
import warnings

import pytest

from trigger_prune.export.quiet import quiet


def test_swallows_prints_and_warnings_of_its_own_thread_only(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        print("chatter")
        print("complaint", file=sys.stderr)
        warnings.warn("deprecated", stacklevel=1)
        other = threading.Thread(target=lambda: print("progress"))
        other.start()
        other.join()
    print("after")
    assert capsys.readouterr() == ("progress\nafter\n", "")


def test_overlapping_threads_leave_the_streams_as_they_were() -> None:
    before = sys.stdout, sys.stderr
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(50):
            with quiet():
                print("chatter")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sys.stdout, sys.stderr) == before


def test_a_display_that_took_the_stream_meanwhile_keeps_working(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with quiet():
        held = sys.stdout
        sys.stdout = wrapped = _Wrapper(held)
    try:
        assert sys.stdout is wrapped
        print("still shown")
    finally:
        sys.stdout = before
    assert capsys.readouterr().out == "still shown\n"


class _Wrapper:
    def __init__(self, stream: object) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


def test_failures_pass_through_and_restore() -> None:
    before = sys.stdout
    with pytest.raises(KeyError), quiet():
        raise KeyError("x")
    assert sys.stdout is before
