"""A small jet-like network and the inputs of the loops that measure it by an HLS compiler's report."""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import fx, nn

from trigger_prune.config.project import PruneConfig
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.report import HardwareReport
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.budget.estimators import HlsEstimator
from trigger_prune.prune.budget.loop import SolverInputs
from trigger_prune.prune.measured import LoopInputs
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit


def jets(n: int, seed: int) -> Batches:
    """Eight features, three classes that two of them and a product tell apart."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator)
    labels = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] + 0.5 * x[:, 3] > 0.8).long()
    return Batches(x, labels, torch.ones(n))


def jet_network(bits: int = 6) -> fx.GraphModule:
    """8-12-3, trained, the same at every call."""
    return copy.deepcopy(_jet_network(bits))


@cache
def _jet_network(bits: int) -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))
    precision = SimpleNamespace(weight_bits=bits, activation_bits=bits, rounding="AP_TRN")
    network = quantize_model(model, jets(500, 1).features, FixedPoint(12, 4), precision)
    fit(network, jets(1000, 2), jets(500, 3), FitSettings("train", 20, 100, 1e-2, seed=1))
    return network


def expected(network: fx.GraphModule, target: Target | None = None) -> HardwareReport:
    """csynth's report by formula: what the stand-in multiplies by its bias."""
    return HlsAnalyticCost().measure(shrink_network(network).network, target or Target())


def loop_inputs(cost: CostModel, budget: Budget, **config: Any) -> LoopInputs:
    """Short trainings; the loops' logic is what is looked at."""
    chosen = PruneConfig(**{"epochs_per_round": 4, "final_epochs": 6, "learning_rate": 5e-3, **config})
    return LoopInputs(
        train=jets(1000, 2),
        validation=jets(500, 3),
        settings=FitSettings("prune", 1, 500, 1e-3, seed=1),
        config=chosen,
        budget=budget,
        target=Target(),
        cost_model=cost,
        estimate=HlsAnalyticCost().estimate,
    )


def solver_inputs(cost: CostModel, budget: Budget, **config: Any) -> SolverInputs:
    """The same for the solver."""
    loop = loop_inputs(cost, budget, **{"scope": "solver", **config})
    return SolverInputs(loop, HlsEstimator(HlsAnalyticCost()), (("Latency", 1),))
