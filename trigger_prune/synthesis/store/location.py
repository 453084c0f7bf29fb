"""Where the user's store is."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "TRIGGER_PRUNE_STORE"


def default_store_folder() -> Path:
    """``$TRIGGER_PRUNE_STORE``, else ``trigger_prune/store`` in the cache folder of the XDG base directories."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a relative path there is invalid and ignored.
    base = Path(cache) if cache.startswith("/") else Path("~/.cache").expanduser()
    return base / "trigger_prune" / "store"
