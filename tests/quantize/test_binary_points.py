import numpy as np
import pytest
import torch
from torch import nn
from toy_networks import bits, on_grid

from trigger_prune.errors import FixedPointError, ModelError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.quantize.ranges import best_type, bias_type

INPUT = FixedPoint(8, 3)
RNG = np.random.default_rng(0)
SAMPLES = {
    "normal": RNG.normal(size=400),
    "heavy tail": RNG.standard_t(1.5, size=400),
    "one outlier": np.append(RNG.normal(size=2000) * 0.01, 3.0),
    "far outlier": np.append(RNG.normal(size=100_000) * 1e-4, 4.0),
    "at the edge": np.array([0.99, -0.99, 0.97]),
    "a power of two": np.array([0.25, 0.25, -0.5]),
    "all negative": -RNG.random(100),
    "all positive": RNG.random(100) * 7,
    "tiny": RNG.normal(size=100) * 1e-9,
    "huge": RNG.normal(size=100) * 1e9,
    "integers": np.arange(-8.0, 8.0),
}


def mean_square_error(values: np.ndarray, fixed: FixedPoint) -> float:
    if fixed.rounding is Rounding.AP_TRN:  # half an LSB is in the bias
        fixed = FixedPoint(fixed.width, fixed.integer, fixed.signed, Rounding.AP_RND, fixed.overflow)
    return float(np.square(fixed.quantize(values) - values).mean())


@pytest.mark.parametrize("rounding", [Rounding.AP_TRN, Rounding.AP_RND_CONV])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("width", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("name", SAMPLES)
def test_no_other_binary_point_is_better(name: str, width: int, signed: bool, rounding: Rounding) -> None:
    values = SAMPLES[name]
    found = best_type(values, width, signed=signed, rounding=rounding)
    assert (found.width, found.signed, found.rounding, found.overflow) == (width, signed, rounding, Overflow.AP_SAT)
    candidates = [FixedPoint(width, i, signed, rounding, Overflow.AP_SAT) for i in range(-60, 61)]
    least = min(mean_square_error(values, candidate) for candidate in candidates)
    assert mean_square_error(values, found) == least


def test_nothing_to_represent_and_nothing_that_can_be() -> None:
    for values in ([], [0.0, 0.0], [-1.0, -2.0]):
        assert best_type(values, 5, signed=False, rounding=Rounding.AP_TRN).width == 5
    with pytest.raises(FixedPointError):
        best_type([1.0, float("nan")], 5, signed=True, rounding=Rounding.AP_TRN)


@pytest.mark.parametrize("scale", [1e-6, 0.3, 1.0, 5.0, 700.0])
@pytest.mark.parametrize("fraction", [-2, 0, 5, 14])
def test_a_bias_type_holds_four_times_the_bias_on_the_grid_of_the_accumulator(scale: float, fraction: int) -> None:
    bias = scale * np.random.default_rng(1).normal(size=20)
    fixed = bias_type(bias, fraction)
    assert fixed.fraction <= fraction and fixed.width <= 24
    assert fixed.fraction == fraction or fixed.width == 24
    room = 4 * np.abs(bias).max()
    assert np.abs(fixed.quantize([room, -room]) - [room, -room]).max() <= fixed.lsb
    assert bias_type(bias, fraction, at_least=1e4).max_value >= 1e4 - fixed.lsb
    assert bias_type(None, fraction).width == 2


def quantisers(network: nn.Module) -> dict[str, FixedPoint]:
    return {name: module.fixed for name, module in network.named_modules() if isinstance(module, FixedQuantizer)}


class SharedRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.relu = nn.ReLU()
        self.large_quant = nn.Linear(5, 5)  # a name that a quantiser might want
        with torch.no_grad():
            self.small.weight.mul_(0.01)
            self.small.bias.mul_(0.01)
            self.large.weight.mul_(1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.large_quant(self.relu(self.large(self.relu(self.small(x))))))


def test_every_call_of_a_shared_relu_has_a_range_of_its_own() -> None:
    torch.manual_seed(0)
    types = quantisers(quantize_model(SharedRelu(), on_grid(300, (4,)), INPUT, bits(8, 8)))
    assert len(types) == 3
    first, second = types["relu_quant"], types["relu_quant_1"]
    assert second.integer > first.integer + 5
    assert not first.signed and not second.signed


def test_only_a_wire_that_cannot_become_negative_is_unsigned() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():  # positive on every calibration event; training may change that
        model[0].weight.zero_()
        model[0].bias.fill_(1.0)
    types = quantisers(quantize_model(model, on_grid(100, (3,)), INPUT, bits(6, 1)))
    assert {name: (fixed.signed, fixed.width) for name, fixed in types.items()} == {
        "0_quant": (True, 2),
        "2_quant": (False, 1),
    }
    sets = quantize_model(DeepSets((3, 4), 2, phi=(4,), rho=(4,)), on_grid(100, (3, 4)), INPUT, bits(6, 6))
    assert not any(fixed.signed for fixed in quantisers(sets).values())
    mean = weight_layers(sets)["mean"]
    assert torch.equal(mean.quantized_weight(), mean.weight) and not mean.weight.requires_grad
    assert mean.weight_type.width == 2


def test_a_linear_layer_on_a_sequence_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Linear(15, 2))
    with pytest.raises(UnsupportedLayerError, match=r"'0' reads events of shape \(5, 4\)") as caught:
        quantize_model(model, on_grid(10, (5, 4)), INPUT, bits(6, 6))
    assert "kernel size 1" in str(caught.value.hint)


def test_calibration_needs_events() -> None:
    with pytest.raises(ModelError, match="no calibration event"):
        quantize_model(nn.Sequential(nn.Linear(4, 3)), torch.zeros(0, 4), INPUT, bits(6, 6))


def test_calibration_sees_all_events_of_a_narrow_wire() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()
    x = torch.zeros(5000, 1)
    x[-1] = 3.0
    (fixed,) = quantisers(quantize_model(model, x, INPUT, bits(6, 6))).values()
    assert fixed.max_value >= 3.0
