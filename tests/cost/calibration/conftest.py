from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthesised_project import float_weights, write_synthesised_project


@pytest.fixture
def weights() -> dict[str, Any]:
    """Kernel and bias of the layers that ``write_project`` writes."""
    return float_weights()


@pytest.fixture
def write_project() -> Callable[..., Path]:
    """``write_synthesised_project``."""
    return write_synthesised_project
