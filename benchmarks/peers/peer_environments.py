"""One virtual environment per peer, made from its pinned requirements."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


class PeerUnavailableError(Exception):
    """A peer's environment cannot be made; the text says why."""


def cache_folder() -> Path:
    """Where environments, events and trainings are kept: $TRIGGER_PRUNE_PEERS, else a folder that git ignores."""
    return Path(os.environ.get("TRIGGER_PRUNE_PEERS") or HERE / ".cache").absolute()


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made when it is missing or its requirements have changed.

    Raises PeerUnavailableError with pip's own words.
    """
    requirements = HERE / f"requirements-{peer}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = cache_folder() / "environments" / peer
    python, mark = folder / "bin" / "python", folder / "requirements.sha256"
    if mark.exists() and mark.read_text() == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"making the environment of {peer}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    # the requirements name every package but those that torch brings along on a platform with CUDA
    command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeerUnavailableError(f"{peer}: pip failed: {done.stderr.strip()[-600:]}")
    mark.write_text(wanted)
    return python


def version_of(peer: str) -> str:
    """``package==version`` of the peer itself: the first requirement."""
    lines = (HERE / f"requirements-{peer}.txt").read_text().splitlines()
    return next(line for line in lines if line and not line.startswith("#"))
