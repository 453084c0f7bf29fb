from __future__ import annotations

import pytest
import small_networks
from torch import fx


@pytest.fixture(scope="session")
def mlp() -> fx.GraphModule:
    return small_networks.mlp()


@pytest.fixture(scope="session")
def deep_sets() -> fx.GraphModule:
    return small_networks.deep_sets(rounding="AP_RND_CONV")
