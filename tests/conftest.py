"""What every test shares: no test reads or writes the user's report store, and every worker computes on one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # before torch is imported: two workers with two threads each wait for each other, up to twenty times longer
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def own_report_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty store for the whole run, for child processes too."""
    before = os.environ.get("TRIGGER_PRUNE_STORE")
    os.environ["TRIGGER_PRUNE_STORE"] = str(tmp_path_factory.mktemp("report_store"))
    yield
    if before is None:
        del os.environ["TRIGGER_PRUNE_STORE"]
    else:
        os.environ["TRIGGER_PRUNE_STORE"] = before
