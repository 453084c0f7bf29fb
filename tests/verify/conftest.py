from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "export"))
import small_networks
from verify_cases import Verified, verified


@pytest.fixture(scope="session")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Verified:
    return verified(small_networks.mlp(), tmp_path_factory.mktemp("mlp"))


@pytest.fixture(scope="session")
def deep_sets(tmp_path_factory: pytest.TempPathFactory) -> Verified:
    return verified(small_networks.deep_sets(), tmp_path_factory.mktemp("deep_sets"))
