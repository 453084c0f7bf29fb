"""Keeps what other packages print off the user's terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_LOCK = threading.RLock()


class _Muted:
    """Stands in for a stream: drops what one thread writes, until it is released; all else passes through.

    ``contextlib.redirect_stdout`` would swallow the output of every thread (progress bars), and two threads inside it
    at once can leave the stream redirected for good.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread: int | None = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return len(text)
        written: int = self._stream.write(text)
        return written

    def release(self) -> None:
        self._thread = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what this thread prints, and warnings; failures are raised, not printed. One thread at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out, err = _Muted(sys.stdout), _Muted(sys.stderr)
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = out, err
        try:
            yield
        finally:
            out.release()
            err.release()
            # A progress display that started meanwhile holds the stand-in; it now passes everything through.
            if sys.stdout is out:
                sys.stdout = before[0]
            if sys.stderr is err:
                sys.stderr = before[1]
