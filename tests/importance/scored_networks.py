"""Small quantised networks and weighted events for the importance criteria."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import CriterionData
from trigger_prune.quantize.layers import FixedQuantizer, QuantConv1d, QuantConv2d, QuantLinear
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import event_losses

WEIGHT = FixedPoint(8, 2, overflow="AP_SAT")
ACTIVATION = FixedPoint(8, 3, signed=False, overflow="AP_SAT")


class Mixed(nn.Module):
    """Convolutions (padded, strided, grouped), pooling, ReLU as module and as function, a skip, masks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = QuantConv2d(nn.Conv2d(2, 4, 3, padding=1, stride=2), WEIGHT, WEIGHT)
        self.relu = nn.ReLU(inplace=True)
        self.first_quant = FixedQuantizer(ACTIVATION)
        self.second = QuantConv2d(nn.Conv2d(4, 4, 2, groups=2, bias=False), WEIGHT, WEIGHT)
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.left = QuantLinear(nn.Linear(4, 4), WEIGHT, WEIGHT)
        self.head = QuantLinear(nn.Linear(4, 3), WEIGHT, WEIGHT)
        self.dropout = nn.Dropout(0.5)
        with torch.no_grad():
            # around zero on these events, so that the ReLU behind it acts
            self.left.bias.copy_(torch.tensor([0.2, -0.3, 0.1, -0.1]))
        generator = torch.Generator().manual_seed(11)
        for layer in (self.first, self.second, self.left, self.head):
            layer.weight_mask.copy_((torch.rand(layer.weight.shape, generator=generator) > 0.2).to(layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first_quant(self.relu(self.first(x)))
        hidden = self.flatten(torch.relu(self.pool(self.second(hidden))))
        return self.head(self.dropout(torch.relu(self.left(hidden)) + hidden))


MIXED_LAYERS = ["head", "first", "left", "second"]


def mixed_network() -> Mixed:
    torch.manual_seed(3)
    return Mixed().double()


def mlp_network() -> nn.Sequential:
    torch.manual_seed(5)
    network = nn.Sequential(
        QuantLinear(nn.Linear(5, 6), WEIGHT, WEIGHT),
        nn.ReLU(),
        FixedQuantizer(ACTIVATION),
        QuantLinear(nn.Linear(6, 3), WEIGHT, WEIGHT),
    ).double()
    network[0].weight_mask[1, 2] = 0
    network[3].weight_mask[0, 4] = 0
    return network


def sequence_network() -> nn.Sequential:
    """One-dimensional convolution with dilation and padding, an autoencoder of four values."""
    torch.manual_seed(6)
    return nn.Sequential(
        QuantConv1d(nn.Conv1d(2, 3, 2, dilation=2, padding=1), WEIGHT, WEIGHT),
        nn.ReLU(),
        nn.Flatten(),
        QuantLinear(nn.Linear(3 * 4, 4), WEIGHT, WEIGHT),
    ).double()


def events(shape: tuple[int, ...], n: int = 150, task: str = "classify", seed: int = 1) -> CriterionData:
    """Events with weights between 0.2 and 2.2, one in ten of weight zero."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    weights = torch.rand(n, generator=generator, dtype=torch.float64) * 2 + 0.2
    weights[::10] = 0
    targets = {
        "classify": torch.randint(0, 3, (n,), generator=generator),
        "binary": torch.randint(0, 2, (n,), generator=generator).double(),
        "autoencoder": torch.randn(n, 4, generator=generator, dtype=torch.float64),
    }[task]
    return CriterionData(Batches(features, targets, weights), task)  # type: ignore[arg-type]


def trained_network() -> tuple[nn.Sequential, CriterionData]:
    """A net of 4-8-3 trained on three overlapping clouds."""
    torch.manual_seed(2)
    target = torch.randint(0, 3, (400,))
    x = (torch.randn(3, 4) * 1.5)[target] + torch.randn(400, 4)
    data = CriterionData(Batches(x.double(), target, torch.rand(400).double() + 0.5))
    fine = FixedPoint(16, 4, overflow="AP_SAT")
    network = nn.Sequential(
        QuantLinear(nn.Linear(4, 8), fine, fine), nn.ReLU(), QuantLinear(nn.Linear(8, 3), fine, fine)
    ).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02, weight_decay=1e-3)
    weights = data.batches.weights
    for _ in range(300):
        optimizer.zero_grad()
        losses = event_losses(network(data.batches.features), target, "classify")
        ((losses * weights).sum() / weights.sum()).backward()
        optimizer.step()
    return network, data
