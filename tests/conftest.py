"""What every test shares: no test reads or writes the user's report store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


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
