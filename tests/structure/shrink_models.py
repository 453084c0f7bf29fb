"""Networks that are hard to shrink, and random masks for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trigger_prune.models.autoencoder import Autoencoder
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp

Shapes = tuple[tuple[int, ...], ...]
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


class ResidualConv(nn.Module):
    """Two convolutions in one residual add, pooling and a flatten behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.second, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.pool, self.hidden, self.head = nn.MaxPool2d(2), nn.Linear(6 * 4, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.first(x)))
        y = self.pool(torch.relu(self.norm2(self.second(y)) + y))
        return self.head(torch.relu(self.hidden(torch.flatten(y, 1))))


class SkipFromInput(nn.Module):
    """The input is added to a layer and joined with another one."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.wide, self.last, self.head = nn.Linear(6, 6), nn.Linear(6, 5), nn.Linear(11, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.same(x)) + x
        return self.head(torch.relu(self.last(torch.cat([y, torch.relu(self.wide(x))], dim=1))))


class JoinedBranches(nn.Module):
    """Two branches of channels are joined, flattened, and joined with a dense branch."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv1d(3, 4, 3, padding=1), nn.Conv1d(3, 5, 1)
        self.dense, self.norm = nn.Linear(15, 6), nn.BatchNorm1d(6)
        self.hidden, self.head = nn.Linear(9 * 5 + 6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        channels = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], dim=1)
        dense = torch.relu(self.norm(self.dense(torch.flatten(x, 1))))
        return self.head(torch.relu(self.hidden(torch.cat([torch.flatten(channels, 1), dense], dim=1))))


class TwoFlattens(nn.Module):
    """Branches of different channels and positions meet flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv1d(2, 4, 2), nn.Conv1d(2, 3, 3, padding=1)
        self.deeper, self.head = nn.Conv1d(4, 5, 2), nn.Linear(5 * 4 + 3 * 6, 4)

    def forward(self, x: Tensor) -> Tensor:
        left = torch.relu(self.deeper(torch.relu(self.left(x))))
        return self.head(torch.cat([torch.flatten(left, 1), torch.flatten(torch.relu(self.right(x)), 1)], dim=1))


class Grouped(nn.Module):
    """Convolutions with two groups, with one filter and with two filters per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 12, 3, groups=2, padding=1)
        self.single, self.paired = nn.Conv1d(12, 12, 2, groups=12), nn.Conv1d(12, 24, 2, groups=12, bias=False)
        self.head = nn.Linear(24 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.first(x))))
        x = torch.relu(self.paired(torch.relu(self.single(x))))
        return self.head(torch.flatten(x, 1))


class LongSums(nn.Module):
    """A chain of sums: all of its layers are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(7, 7) for _ in range(3))
        self.first, self.head = nn.Linear(4, 7), nn.Linear(7, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for layer in self.layers:
            x = torch.relu(layer(x)) + x
        return self.head(x)


class TwoInputs(nn.Module):
    """Vectors and a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.vector, self.sequence = nn.Linear(5, 6), nn.Conv1d(3, 6, 3)
        self.norm, self.joined, self.head = nn.BatchNorm1d(6), nn.Linear(6 * 4 + 6 + 5, 9), nn.Linear(9, 2)

    def forward(self, vector: Tensor, sequence: Tensor) -> Tensor:
        y = functional.relu(self.norm(self.sequence(sequence)))
        z = functional.relu(self.vector(vector))
        return self.head(functional.relu(self.joined(torch.cat([y.view(y.size(0), -1), z, vector], 1))))


class Gated(nn.Module):
    """Channels times a gate from their means (squeeze and excitation), other activations, a functional pool."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.squeeze, self.excite = nn.Linear(6, 4), nn.Linear(4, 6)
        self.last, self.act = nn.Linear(6 * 4, 3), nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        gate = torch.sigmoid(self.excite(functional.gelu(self.squeeze(x.mean(dim=(2, 3))))))
        x = x * gate.unsqueeze(-1).unsqueeze(-1)
        return self.last(functional.max_pool2d(x * 0.5 + 1.0, 2).flatten(1))


class PerParticle(nn.Module):
    """Features in the last axis: dense layers act on every particle; convolutions on the transposed event."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(4, 7), nn.Linear(7, 6), nn.Linear(11, 3)
        self.conv, self.drop = nn.Conv1d(7, 5, 2), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(torch.relu(self.embed(x)), 0.2, self.training)
        mixed = self.drop(torch.tanh(self.mix(x))).mean(dim=1)
        moved = torch.relu(self.conv(x.transpose(1, 2))).amax(dim=-1)
        return self.head(torch.cat([mixed, moved], dim=-1))


class NotShrinkable(nn.Module):
    """A softmax, a fixed view, a layer called twice and tied weights: neurons there must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.back = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.back.weight = self.twice.weight
        self.scale, self.free, self.head = nn.Parameter(torch.ones(8)), nn.Linear(8, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.softmax(self.first(x), dim=1)
        x = torch.relu(self.twice(torch.relu(self.twice(x)))) * self.scale
        x = self.back(x).view(-1, 2, 4).transpose(1, 2).reshape(-1, 8)
        return self.head(torch.relu(self.free(x)))


QUANTISABLE: dict[str, tuple[Callable[[], nn.Module], Shapes]] = {
    **{
        f"{name}{' with batch norm' if norm else ''}": (make, shapes)
        for norm in (False, True)
        for name, make, shapes in (
            ("mlp", lambda norm=norm: Mlp((6,), 3, hidden=(12, 8), batch_norm=norm), ((6,),)),
            ("conv1d", lambda norm=norm: Conv1dNet((3, 8), 3, (6, 5), hidden=(7,), batch_norm=norm), ((3, 8),)),
            ("conv2d", lambda norm=norm: Conv2dNet((2, 8, 8), 3, (5, 6), hidden=(7,), batch_norm=norm), ((2, 8, 8),)),
            ("deep sets", lambda norm=norm: DeepSets((4, 6), 3, phi=(8, 7), rho=(6,), batch_norm=norm), ((4, 6),)),
            ("autoencoder", lambda norm=norm: Autoencoder((6,), (9, 7), 4, batch_norm=norm), ((6,),)),
        )
    },
    "residual convolution": (ResidualConv, ((2, 4, 4),)),
    "skip from the input": (SkipFromInput, ((6,),)),
    "joined branches": (JoinedBranches, ((3, 5),)),
    "two flattens": (TwoFlattens, ((2, 6),)),
    "grouped": (Grouped, ((3, 6),)),
    "long sums": (LongSums, ((4,),)),
}
"""Makers and the shapes of their inputs for one event."""

MODELS = QUANTISABLE | {
    "two inputs": (TwoInputs, ((5,), (3, 6))),
    "per particle": (PerParticle, ((5, 4),)),
    "gated": (Gated, ((1, 6, 6),)),
    "not shrinkable": (NotShrinkable, ((6,),)),
}


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Trained-looking numbers everywhere, statistics of BatchNorm included; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            with torch.no_grad():
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.2 + torch.rand(module.num_features, generator=generator))
                module.bias.copy_(torch.randn(module.num_features, generator=generator))
                module.weight.copy_(torch.randn(module.num_features, generator=generator))
        elif isinstance(module, WEIGHTED) and module.weight.requires_grad:
            with torch.no_grad():
                module.weight.copy_(0.5 * torch.randn(module.weight.shape, generator=generator))
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
    return model.eval()


def random_masks(layers: dict[str, Tensor], fraction: float, seed: int) -> dict[str, Tensor]:
    """0/1 masks for weights by layer: a fraction of the rows, of the columns and of the single weights is zero."""
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, weight in layers.items():
        mask = torch.ones_like(weight)
        mask[torch.rand(mask.shape[0], generator=generator) < fraction] = 0
        mask[:, torch.rand(mask.shape[1], generator=generator) < fraction / 3] = 0
        mask[torch.rand(mask.shape, generator=generator) < fraction / 3] = 0
        masks[name] = mask
    return masks
