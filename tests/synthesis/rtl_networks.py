"""Networks of plain layers with on-grid weights, for the tests of the Verilog route."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.layers import FixedQuantizer


def quantizer(
    width: int = 6, integer: int = 2, *, signed: bool = False, rounding: str = "AP_TRN", overflow: str = "AP_SAT"
) -> FixedQuantizer:
    return FixedQuantizer(FixedPoint(width, integer, signed, Rounding(rounding), Overflow(overflow)))


def fill(network: nn.Module, *, bits: int = 6, sparsity: float = 0.0, seed: int = 0) -> nn.Module:
    """Random weights and biases on a grid of ``bits`` bits below one."""
    generator = torch.Generator().manual_seed(seed)
    scale = 2.0 ** (bits - 1)
    with torch.no_grad():
        for parameter in network.parameters():
            values = torch.randn(parameter.shape, generator=generator) * 0.4
            values[torch.rand(parameter.shape, generator=generator) < sparsity] = 0
            parameter.copy_((values * scale).round().clamp(-scale, scale - 1) / scale)
    return network.eval()


class Residual(nn.Module):
    """Addition and concatenation of two wires."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(12, 3)
        self.relu, self.quantizer = nn.ReLU(), quantizer()

    def forward(self, x: Tensor) -> Tensor:
        y = self.quantizer(self.relu(self.first(x)))
        z = self.quantizer(self.relu(self.second(y) + y))
        return self.last(torch.cat([z, y], dim=1))


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Name -> (network without meaningful weights, shape of one event)."""
    return {
        "mlp": (nn.Sequential(nn.Linear(16, 12), nn.ReLU(), quantizer(), nn.Linear(12, 5)), (16,)),
        "deep_sets": (
            nn.Sequential(
                nn.Conv1d(3, 8, 1),
                nn.ReLU(),
                quantizer(),
                nn.Conv1d(8, 8, 4, groups=8, bias=False),
                quantizer(8),
                nn.Flatten(),
                nn.Linear(8, 5),
            ),
            (3, 4),
        ),
        "conv2d": (
            nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), quantizer(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4)),
            (1, 6, 6),
        ),
        "conv2d_padded": (
            nn.Sequential(
                nn.Conv2d(2, 3, 3, padding=1, stride=2),
                nn.ReLU(),
                quantizer(rounding="AP_RND", overflow="AP_WRAP"),
                nn.Flatten(),
                nn.Linear(18, 4),
            ),
            (2, 3, 6),
        ),
        "conv1d": (
            nn.Sequential(
                nn.Conv1d(2, 4, 3),
                nn.ReLU(),
                quantizer(rounding="AP_RND_CONV"),
                nn.MaxPool1d(2),
                nn.Flatten(),
                nn.Linear(12, 4),
            ),
            (2, 8),
        ),
        "average_pool": (
            nn.Sequential(nn.Conv1d(2, 4, 1), nn.ReLU(), quantizer(), nn.AvgPool1d(4), nn.Flatten(), nn.Linear(4, 4)),
            (2, 4),
        ),
        "residual": (Residual(), (6,)),
        "one_bit": (
            nn.Sequential(
                nn.Linear(6, 8),
                nn.ReLU(),
                quantizer(1, 1),
                nn.Linear(8, 6),
                nn.ReLU(),
                quantizer(1, 0, overflow="AP_WRAP"),
                nn.Linear(6, 3),
            ),
            (6,),
        ),
    }
