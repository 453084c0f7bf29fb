"""What every test shares: no test reads or writes the user's report store, and every worker computes on one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # before torch is imported: two workers with two threads each wait for each other, up to twenty times longer
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a long file at the end would leave the other worker without work."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


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
