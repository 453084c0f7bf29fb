"""A small network, and a cost that a test may distort, for the closed loop of the plain rankings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import fx, nn

from trigger_prune.config.project import PruneConfig
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.loop import LoopInputs, PruneResult
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings

CONSTANT_LUT = 40


@dataclass
class FakeCost:
    """10 LUT per weight that is not zero, and a constant; ``distort(call, lut)`` changes what is reported."""

    distort: Callable[[int, float], float] = lambda _call, lut: lut
    name: str = "fake"
    stage: CostStage = CostStage.ANALYTIC
    calls: list[int] = field(default_factory=list)

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        spec = describe_network(network)
        lut = round(self.distort(len(self.calls), CONSTANT_LUT + 10 * spec.nonzeros))
        self.calls.append(lut)
        return HardwareReport(
            self.stage, "fake", "1", target.part, target.clock_period_ns, lut, lut // 2, 0, None,
            4 + spec.nonzeros // 20, 1, spec.content_hash(),
        )  # fmt: skip


def events(n: int, seed: int) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator)
    labels = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    return Batches(x, labels, torch.ones(n))


def start() -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 3))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    return quantize_model(model, events(500, 1).features, FixedPoint(10, 4), bits)


N_WEIGHTS = 8 * 24 + 24 * 12 + 12 * 3


def loop_inputs(cost: FakeCost, budget: Budget, **config: object) -> LoopInputs:
    chosen = PruneConfig(**{"epochs_per_round": 4, "final_epochs": 6, "learning_rate": 5e-3, **config})
    return LoopInputs(
        train=events(1000, 2),
        validation=events(500, 3),
        settings=FitSettings("prune", 1, 100, 1e-3, seed=1),
        config=chosen,
        budget=budget,
        target=Target(),
        cost_model=cost,
    )


def built(network: fx.GraphModule) -> NetworkSpec:
    """What is measured: neurons and inputs without effect are taken out first."""
    return describe_network(shrink_network(network).network)


def state_of(result: PruneResult) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in result.network.state_dict().items()}
