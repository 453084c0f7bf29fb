from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.mlp import Mlp
from trigger_prune.precision.search import SearchInputs
from trigger_prune.precision.space import PrecisionSpace, RangeRule
from trigger_prune.prune.budget.estimators import RtlEstimator
from trigger_prune.target import Target
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.objective import Objective

INPUT = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")


class Residual(nn.Module):
    """A sum of two wires: one layer reads what two quantisers made."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        return self.head(torch.relu(y + self.second(y)))


def events(n: int = 1500, seed: int = 0, inputs: int = 6) -> Batches:
    """Three classes in correlated inputs, on the input's grid, with unequal weights."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    mixing = np.random.default_rng(99).normal(size=(inputs, inputs))
    centres = np.random.default_rng(98).normal(size=(3, inputs))
    features = INPUT.quantize(generator.normal(size=(n, inputs)) @ mixing * 0.6 + centres[labels])
    return Batches(
        torch.from_numpy(features).float(),
        torch.from_numpy(labels),
        torch.from_numpy(generator.uniform(0.5, 2.0, n)).float(),
        torch.from_numpy(labels),
        torch.ones(n, dtype=torch.float64),
    )


def trained(model: nn.Module, steps: int = 300) -> nn.Module:
    """A few steps of Adam: enough for weights that matter."""
    data = events(3000, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.features), data.targets).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def mlp_model() -> nn.Module:
    torch.manual_seed(0)
    return trained(Mlp((6,), 3, hidden=(8, 6)))


@pytest.fixture(scope="session")
def residual_model() -> nn.Module:
    torch.manual_seed(1)
    return trained(Residual())


def space_of(model: nn.Module, weight_bits: tuple[int, ...], activation_bits: tuple[int, ...], **options: object):
    return PrecisionSpace(model, events(2000, seed=1).features, INPUT, weight_bits, activation_bits, **options)


def inputs_of(space: PrecisionSpace, **options: object) -> SearchInputs:
    cost = AnalyticCost()
    data = events()
    return SearchInputs(
        space, data, data, "classify", Objective("accuracy"), Target(), RtlEstimator(cost), cost.estimate, **options
    )


@pytest.fixture(scope="session")
def space(mlp_model: nn.Module) -> PrecisionSpace:
    """Four widths of weights and three of wires per layer: 12 x 12 x 4 networks."""
    return space_of(mlp_model, (2, 3, 4, 6), (2, 4, 6), rule=RangeRule(0.01))
