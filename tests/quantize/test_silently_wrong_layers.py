"""The four layers that hls4ml converts to a wrong result without a word never get there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trigger_prune.errors import UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.verify.matrix.refused_layers import REFUSED_LAYERS

PRECISION = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
INPUT = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")


class Called(nn.Module):
    """A layer in front of, a function behind it."""

    def __init__(self, layer: nn.Module, function: object) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(self.layer(x))  # type: ignore[operator]
        return result


class Attention(nn.Module):
    """One head by einsum, the form that hls4ml converts to other values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Conv1d(3, 4, 1), nn.Conv1d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bcp,bcq->bpq", self.query(x), self.key(x)).flatten(1)


class SelfAttention(nn.Module):
    """nn.MultiheadAttention on (positions, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(5, 1, batch_first=True), nn.Linear(15, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.attention(x, x, x)[0].flatten(1))
        return result


def _dense() -> nn.Linear:
    return nn.Linear(5, 4)


def _conv() -> nn.Conv1d:
    return nn.Conv1d(3, 4, 1)


CASES = {
    "softmax": (nn.Sequential(_dense(), nn.Softmax(dim=-1)), (5,), "logits"),
    "softmax function": (Called(_dense(), lambda x: functional.softmax(x, dim=1)), (5,), "logits"),
    "softmax method": (Called(_dense(), lambda x: x.softmax(1)), (5,), "logits"),
    "log softmax": (nn.Sequential(_dense(), nn.LogSoftmax(dim=1)), (5,), "logits"),
    "sigmoid": (nn.Sequential(_dense(), nn.Sigmoid()), (5,), "logits"),
    "adaptive average": (nn.Sequential(_conv(), nn.AdaptiveAvgPool1d(1), nn.Flatten()), (3, 5), "depthwise"),
    "adaptive average 2d": (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (3, 5, 5),
        "depthwise",
    ),
    "adaptive function": (
        Called(_conv(), lambda x: functional.adaptive_avg_pool1d(x, 1).flatten(1)),
        (3, 5),
        "depthwise",
    ),
    "average": (nn.Sequential(_conv(), nn.AvgPool1d(5), nn.Flatten()), (3, 5), "depthwise"),
    "average 2d": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(5), nn.Flatten()), (3, 5, 5), "depthwise"),
    "mean": (Called(_conv(), lambda x: x.mean(dim=2)), (3, 5), "depthwise"),
    "linear on positions": (
        nn.Sequential(_dense(), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)),
        (3, 5),
        "Conv1d with kernel size 1",
    ),
    "attention by einsum": (Attention(), (3, 5), "without attention"),
    "attention": (SelfAttention(), (3, 5), "without attention"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_refused_with_what_works_instead(name: str) -> None:
    model, shape, instead = CASES[name]
    events = torch.randn(50, *shape)
    model(events)  # torch itself has nothing against it
    with pytest.raises(UnsupportedLayerError) as caught:
        quantize_model(model, events, INPUT, PRECISION)
    assert instead in str(caught.value.hint)


def test_the_documentation_names_all_four() -> None:
    text = " ".join(entry.layer for entry in REFUSED_LAYERS)
    for layer in ("Softmax", "AdaptiveAvgPool", "Linear on (positions, features)", "Attention"):
        assert layer in text
    assert all(entry.reason and entry.instead for entry in REFUSED_LAYERS)
