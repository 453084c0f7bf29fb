import numpy as np
import pytest
import torch
from integer_reference import Geometry, run
from torch import Tensor, nn
from toy_networks import INPUT, as_if_trained, bits, extreme_codes, on_grid, randomised

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers


class Strided(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(3, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(4, 6, 2, dilation=2, groups=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(18, 3, bias=False),
        )


NETWORKS = {
    "mlp": (lambda: Mlp((9,), 4, hidden=(12, 7)), (9,), {}),
    "without batch normalisation": (lambda: Mlp((5,), 2, hidden=(6,), batch_norm=False), (5,), {}),
    "conv1d": (
        lambda: Conv1dNet((3, 9), 3, channels=(4, 5), hidden=(6,)),
        (3, 9),
        {"conv1": Geometry(padding=1, pool=2), "conv2": Geometry(padding=1, pool=2)},
    ),
    "strided, dilated, grouped": (Strided, (3, 10), {"0": Geometry(stride=2, padding=1), "2": Geometry(dilation=2)}),
    "conv2d": (
        lambda: Conv2dNet((2, 5, 6), 3, channels=(3, 4), hidden=(5,)),
        (2, 5, 6),
        {"conv1": Geometry(padding=1, pool=2), "conv2": Geometry(padding=1, pool=2)},
    ),
    "deep sets": (lambda: DeepSets((4, 7), 3, phi=(6, 5), rho=(6,)), (4, 7), {}),
}


@pytest.mark.parametrize("rounding", ["AP_TRN", "AP_RND_CONV"])
@pytest.mark.parametrize(("weight", "activation"), [(2, 1), (3, 6), (6, 4), (8, 8)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_computes_what_the_integers_compute(name: str, weight: int, activation: int, rounding: str) -> None:
    make, shape, geometry = NETWORKS[name]
    torch.manual_seed(1)
    model = randomised(make())
    network = quantize_model(model, on_grid(300, shape), INPUT, bits(weight, activation, rounding))
    network = as_if_trained(network)
    spec = describe_network(network)
    codes = extreme_codes(shape, INPUT)
    expected = run(spec, codes, geometry)
    x = torch.from_numpy(codes * INPUT.lsb)
    assert spec.accumulator_bound < 2**24
    with torch.no_grad():
        single = network(x.float())
        double = freeze(network, double=True)(x)
        frozen = freeze(network)(x.float())
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    np.testing.assert_array_equal(single.double().numpy(), expected)
    np.testing.assert_array_equal(double.numpy(), expected)
    np.testing.assert_array_equal(frozen.double().numpy(), expected)
    assert activation == 1 or len(np.unique(expected)) > 10  # not all saturated or zero


def test_wide_accumulators_are_exact_in_float64_only() -> None:
    torch.manual_seed(2)
    wide = FixedPoint(16, 4)
    model = Mlp((30,), 3, hidden=(40,), batch_norm=False)
    network = as_if_trained(quantize_model(model, on_grid(300, (30,), wide), wide, bits(16, 16)))
    spec = describe_network(network)
    assert 2**24 < spec.accumulator_bound < 2**52
    codes = extreme_codes((30,), wide)
    expected = run(spec, codes, {})
    x = torch.from_numpy(codes * wide.lsb)
    with torch.no_grad():
        np.testing.assert_array_equal(freeze(network, double=True)(x).numpy(), expected)
        assert (network(x.float()).double().numpy() != expected).any()


@pytest.mark.parametrize("rounding", ["AP_TRN", "AP_RND_CONV"])
def test_quantised_activations_are_unbiased(rounding: str) -> None:
    """The half LSB in the biases: without it AP_TRN would be low by half an LSB on average."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 3))
    nn.init.zeros_(model[0].bias)  # the bias starts at zero, and its type must still hold the shift
    x = on_grid(4000, (12,))
    network = quantize_model(model, x, INPUT, bits(14, 5, rounding))
    quantizer = next(module for module in network.modules() if isinstance(module, FixedQuantizer))
    seen: dict[str, Tensor] = {}
    quantizer.register_forward_hook(lambda _module, _inputs, output: seen.__setitem__("quantised", output))
    with torch.no_grad():
        network(x)
        exact = torch.relu(nn.functional.linear(x, model[0].weight, model[0].bias))
    inside = (exact > quantizer.fixed.lsb) & (exact < quantizer.fixed.max_value)
    shift = float((seen["quantised"] - exact)[inside].mean()) / quantizer.fixed.lsb
    assert abs(shift) < 0.02


def test_no_half_lsb_where_nothing_is_dropped() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    coarse = FixedPoint(3, 3)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
        model[0].bias.copy_(torch.tensor([1.0, 2.0]))
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0], [-4.0, 3.0]])
    network = quantize_model(model, x, coarse, bits(3, 8))
    assert network.get_submodule("0").bias.tolist() == [1.0, 2.0]


def test_a_bias_that_starts_at_zero_can_be_trained() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    for index in (0, 2):
        nn.init.zeros_(model[index].bias)
    network = quantize_model(model, on_grid(200, (4,)), INPUT, bits(6, 6))
    for layer in weight_layers(network).values():
        assert layer.bias_type.max_value >= 0.9 * float(layer.weight.detach().abs().max()) > 0


def test_quantised_outputs_approach_the_float_network_with_more_bits() -> None:
    torch.manual_seed(4)
    model = randomised(Mlp((9,), 4, hidden=(12, 7)))
    x = on_grid(500, (9,))
    with torch.no_grad():
        exact = model.eval()(x)
        errors = [float((quantize_model(model, x, INPUT, bits(b, b))(x) - exact).abs().mean()) for b in (4, 8, 14)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[2] < 0.003 * float(exact.abs().mean())


def test_the_float_type_of_the_model_is_kept() -> None:
    model = Mlp((5,), 2, hidden=(6,)).double()
    network = quantize_model(model, on_grid(100, (5,)), INPUT, bits(6, 6))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert network(on_grid(3, (5,)).double()).dtype == torch.float64
