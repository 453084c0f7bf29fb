"""Ranges of the input in all spellings, against torch; and those that are refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.graph import prepare
from trigger_prune.quantize.input_slices import is_slice, slice_bounds

INPUT = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")
PRECISION = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")


class Net(nn.Module):
    """Two layers on two ranges of six features."""

    def __init__(self, cut: Callable[[Tensor], tuple[Tensor, Tensor]], first: int = 4, second: int = 2) -> None:
        super().__init__()
        self.cut = cut
        self.one, self.two, self.head = nn.Linear(first, 3), nn.Linear(second, 3), nn.Linear(6, 2)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cut(x)
        result: Tensor = self.head(torch.cat([self.relu1(self.one(a)), self.relu2(self.two(b))], dim=1))
        return result


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    parts = torch.split(x, [4, 2], dim=1)
    return parts[0], parts[1]


def _method_split(x: Tensor) -> tuple[Tensor, Tensor]:
    parts = x.split(4, dim=1)
    return parts[0], parts[1]


SPELLINGS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "getitem": lambda x: (x[:, :4], x[:, 4:]),
    "bounds": lambda x: (x[:, 0:4], x[:, 4:6]),
    "from the end": lambda x: (x[:, :-2], x[:, -2:]),
    "narrow": lambda x: (x.narrow(1, 0, 4), torch.narrow(x, 1, 4, 2)),
    "split sections": _split,
    "split size": _method_split,
}


def _network(spelling: str) -> tuple[nn.Module, torch.fx.GraphModule, Tensor]:
    torch.manual_seed(1)
    model = Net(SPELLINGS[spelling]).eval()
    x = torch.tensor(INPUT.quantize(np.random.default_rng(0).normal(size=(300, 6)))).float()
    return model, quantize_model(model, x, INPUT, PRECISION), x


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_every_spelling_is_the_same_network(spelling: str) -> None:
    model, network, x = _network(spelling)
    slices = [node for node in network.graph.nodes if is_slice(node)]
    assert [slice_bounds(node, 6) for node in slices] == [(0, 4), (4, 6)]
    torch.testing.assert_close(prepare(model)(x), model(x))
    # 6 bits are coarse; a wrong range would be far off
    with torch.no_grad():
        assert float((network.eval()(x) - model(x)).abs().mean()) < 0.1 * float(model(x).abs().mean())
    spec = describe_network(network)
    assert [(layer.name, layer.weight.shape) for layer in spec.layers[:2]] == [("one", (3, 4)), ("two", (3, 2))]
    assert all(layer.input_type == INPUT for layer in spec.layers[:2])
    reference = describe_network(_network("getitem")[1])
    assert spec.content_hash() == reference.content_hash()


REFUSED: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "steps": lambda x: (x[:, ::2], x[:, 1::2]),
    "an index": lambda x: (x[:, 0], x[:, 1:]),
    "events": lambda x: (x[:4], x[4:]),
    "a list": lambda x: (x[:, [0, 1]], x[:, 2:]),
    "other axis": lambda x: (x.narrow(0, 0, 4), x[:, 4:]),
    "behind something": lambda x: (torch.relu(x)[:, :4], x[:, 4:]),
    "a split of something": lambda x: torch.split(torch.relu(x), [4, 2], dim=1),  # type: ignore[dict-item, return-value]
    "split of events": lambda x: (torch.split(x, 4)[0], x[:, 4:]),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_is_no_range_of_the_input_is_refused(what: str) -> None:
    with pytest.raises(ModelError) as caught:
        prepare(Net(REFUSED[what]))
    assert not isinstance(caught.value, UnsupportedLayerError) or "x[:, :8]" in str(caught.value.hint)


def test_an_empty_range_is_refused() -> None:
    network = prepare(Net(lambda x: (x[:, :4], x[:, 7:])))
    last = [node for node in network.graph.nodes if is_slice(node)][-1]
    with pytest.raises(UnsupportedLayerError, match="of 6 features is empty"):
        slice_bounds(last, 6)


def test_two_arguments_name_the_way_out() -> None:
    class TwoArguments(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(UnsupportedLayerError, match="takes 2 inputs") as caught:
        prepare(TwoArguments())
    assert "x[:, :8] and x[:, 8:]" in str(caught.value.hint)


def test_a_shape_is_still_refused_as_a_shape() -> None:
    class Shaped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(x.reshape(x.shape[0], 6))
            return result

    with pytest.raises(UnsupportedLayerError, match=r"getattr|reshape") as caught:
        prepare(Shaped())
    assert "nn.Flatten" in str(caught.value.hint)
