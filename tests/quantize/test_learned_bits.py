"""Networks with trained widths: gradients by hand, and the fixed-point network that they become, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import fx, nn

from trigger_prune.cost.csd import csd_count
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import ChannelQuantizer, FixedQuantizer, weight_layers
from trigger_prune.quantize.learned.charge import expected_digits
from trigger_prune.quantize.learned.convert import LearnedBits, fixed_network, learned_network
from trigger_prune.quantize.learned.layers import LearnedQuantizer
from trigger_prune.quantize.learned.price import CostPath, PriceController
from trigger_prune.quantize.learned.ranges import fit_ranges
from trigger_prune.quantize.learned.rounding import learned_round
from trigger_prune.quantize.learned.train import charge_of, train_to_cost
from trigger_prune.quantize.state import load_network_state, network_state
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings

INPUT = FixedPoint(8, 3, True, Rounding.AP_RND, Overflow.AP_SAT)


@dataclass(frozen=True)
class Bits:
    weight_bits: int = 6
    activation_bits: int = 6
    rounding: str = "AP_TRN"


def events(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(INPUT.quantize(rng.normal(size=(n, *shape)))).float()


def mlp() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3))


def conv() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 2),
    )


def scattered(network: nn.Module, spread: float = 2.5) -> None:
    """Widths as a training may leave them: different for every weight and channel, some of them of no bits at all."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("fraction"):
                parameter += spread * (torch.randn(parameter.shape, generator=generator) - 0.7)


def test_rounding_and_its_gradients_are_those_of_the_definition() -> None:
    x = torch.tensor([0.3, -1.26, 2.125, 0.1], requires_grad=True)
    fraction = torch.tensor([2.2, 1.0, 2.6, -0.4], requires_grad=True)
    rounded = learned_round(x, fraction)
    expected = [np.floor(v * 2.0**f + 0.5) / 2.0**f for v, f in ((0.3, 2), (-1.26, 1), (2.125, 3), (0.1, 0))]
    assert rounded.tolist() == pytest.approx(expected)
    upstream = torch.tensor([1.0, -2.0, 3.0, 0.5])
    rounded.backward(upstream)
    assert x.grad is not None and fraction.grad is not None
    assert torch.equal(x.grad, upstream)
    error = x.detach() - rounded.detach()
    assert fraction.grad.tolist() == pytest.approx((upstream * error * np.log(2)).tolist())


def test_truncation_rounds_down() -> None:
    assert learned_round(torch.tensor([-0.3, 0.7]), torch.tensor(1.0), truncate=True).tolist() == [-0.5, 0.5]


def test_one_shared_width_collects_the_gradients_of_all_it_rounds() -> None:
    x, fraction = torch.tensor([[0.3, 0.4], [0.6, 1.1]]), torch.tensor([[1.0], [2.0]], requires_grad=True)
    rounded = learned_round(x, fraction)
    rounded.sum().backward()
    assert fraction.grad is not None
    assert fraction.grad.flatten().tolist() == pytest.approx(((x - rounded).sum(1) * np.log(2)).tolist())


def test_the_charge_of_a_layer_is_digits_times_input_bits() -> None:
    network = learned_network(quantize_model(mlp(), events(500, 5), INPUT, Bits()), events(500, 5), LearnedBits())
    scattered(network)
    total = 0.0
    widths = {name: m.widths().flatten() for name, m in network.named_modules() if isinstance(m, LearnedQuantizer)}
    order = ["input_quant", *[name for name in widths if name != "input_quant"]]
    layers = [m for m in network.modules() if hasattr(m, "weight_fraction")]
    for layer, wire in zip(layers, order, strict=True):
        codes = (layer.quantized_weight().detach() * torch.exp2(torch.round(layer.weight_fraction.detach()))).numpy()
        bits = np.array([[int(abs(code)).bit_length() for code in row] for row in np.rint(codes).astype(int)])
        digits = np.where(bits > 0, (bits + 2) / 3, 0.0)
        total += float((digits * widths[wire].detach().numpy()).sum())
    assert charge_of(network) == pytest.approx(total, rel=1e-5)


def test_ebops_are_weight_bits_times_input_bits() -> None:
    network = learned_network(quantize_model(mlp(), events(500, 5), INPUT, Bits()), events(500, 5), LearnedBits())
    scattered(network)
    widths = {name: m.widths().flatten() for name, m in network.named_modules() if isinstance(m, LearnedQuantizer)}
    order = ["input_quant", *[name for name in widths if name != "input_quant"]]
    total = 0.0
    for layer, wire in zip([m for m in network.modules() if hasattr(m, "weight_fraction")], order, strict=True):
        codes = layer.quantized_weight().detach() * torch.exp2(torch.round(layer.weight_fraction.detach()))
        bits = np.array([[int(abs(code)).bit_length() for code in row] for row in codes.round().int().tolist()])
        total += float((bits * widths[wire].detach().numpy()).sum())
    assert charge_of(network, "ebops") == pytest.approx(total, rel=1e-5)


def test_expected_digits_are_those_of_random_codes() -> None:
    for bits in (4, 7, 10):
        codes = np.arange(2 ** (bits - 1), 2**bits)
        weight = torch.from_numpy(codes).double()
        expected = expected_digits(weight, weight, torch.zeros_like(weight))
        assert float(expected.mean()) == pytest.approx(float(csd_count(codes).mean()), abs=0.35)


def test_lowering_the_width_and_growing_the_weight_saves_nothing() -> None:
    """Along fraction - 1, weight x 2 the bits stay, so the gradient of the charge must vanish in that direction."""
    weight = torch.tensor([0.7, -3.0], requires_grad=True)
    fraction = torch.tensor([4.0, 2.0], requires_grad=True)
    expected_digits(weight, learned_round(weight, fraction).detach(), fraction).sum().backward()
    assert weight.grad is not None and fraction.grad is not None
    along = -fraction.grad + weight.grad * weight.detach() * np.log(2)
    assert along.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert (fraction.grad > 0.3).all()


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize(("model", "shape"), [(mlp, (5,)), (conv, (2, 6, 6))])
def test_the_fixed_network_computes_the_same_bits(model, shape, granularity, wrap) -> None:  # type: ignore[no-untyped-def]
    x = events(2000, *shape)
    settings = LearnedBits(activations=granularity, wrap=wrap)
    network = learned_network(quantize_model(model(), x, INPUT, Bits()), x, settings)
    scattered(network, 1.2)
    network.eval()
    fixed = fixed_network(network, x).eval()
    with torch.no_grad():
        expected, got = network(x).double(), fixed.double()(x.double())
    assert torch.unique(expected, dim=0).shape[0] > 20
    assert torch.equal(expected, got)
    kinds = {type(m) for m in fixed.modules() if isinstance(m, FixedQuantizer | ChannelQuantizer)}
    assert (ChannelQuantizer in kinds) == (granularity == "channel")


def test_weights_are_codes_on_one_grid_per_layer_and_dead_ones_are_masked() -> None:
    x = events(500, 5)
    network = learned_network(quantize_model(mlp(), x, INPUT, Bits()), x, LearnedBits())
    scattered(network)
    fixed = fixed_network(network.eval(), x)
    learned = [m for m in network.modules() if hasattr(m, "weight_fraction")]
    for layer, before in zip(weight_layers(fixed).values(), learned, strict=True):
        weight = before.quantized_weight().detach()
        assert torch.equal(layer.quantized_weight().detach(), weight)
        assert torch.equal(layer.weight_mask, (weight != 0).to(layer.weight_mask))
        codes = layer.weight_type.to_code(weight.double().numpy())
        assert (codes & 1).any()  # the grid is no finer than the finest weight


def test_a_learned_network_starts_where_the_quantised_one_was() -> None:
    """With many bits it computes what the float weights compute, half LSBs of truncation taken out."""
    x = events(800, 5)
    model = mlp()
    network = learned_network(quantize_model(model, x, INPUT, Bits(12, 14)), x, LearnedBits(14, 14)).eval()
    with torch.no_grad():
        assert torch.allclose(network(x), model(x), atol=3e-3)


def test_wrapping_channels_follow_ap_fixed() -> None:
    types = (FixedPoint(4, 2, True), None, FixedPoint(3, 4, False))
    x = torch.from_numpy(np.random.default_rng(0).normal(scale=9, size=(400, 3)))
    got = ChannelQuantizer(types)(x)
    for channel, fixed in enumerate(types):
        expected = np.zeros(400) if fixed is None else fixed.quantize(x[:, channel].numpy())
        assert (got[:, channel].numpy() == expected).all()


def test_checkpoint_and_state_keep_channel_types(tmp_path) -> None:  # type: ignore[no-untyped-def]
    x = events(600, 5)
    model = mlp()
    network = learned_network(quantize_model(model, x, INPUT, Bits()), x, LearnedBits())
    start = fixed_network(network.eval(), x).eval()
    scattered(network)
    fixed = fixed_network(network.eval(), x).eval()
    save_network(fixed, tmp_path / "network.pt")
    loaded = load_network(tmp_path / "network.pt", model).eval()
    restored = start
    load_network_state(restored, network_state(fixed))
    with torch.no_grad():
        for other in (loaded, restored):
            assert torch.equal(other(x), fixed(x))
            assert describe_network(other).content_hash() == describe_network(fixed).content_hash()


def test_channel_types_reach_the_content_hash() -> None:
    x = events(600, 5)
    network = learned_network(quantize_model(mlp(), x, INPUT, Bits()), x, LearnedBits()).eval()
    before = describe_network(fixed_network(network, x)).content_hash()
    quantizer = next(m for n, m in network.named_modules() if isinstance(m, LearnedQuantizer) and n != "input_quant")
    with torch.no_grad():
        quantizer.fraction[0, 2] -= 1
    assert describe_network(fixed_network(network, x)).content_hash() != before


@pytest.mark.parametrize(("model", "shape"), [(mlp, (5,)), (conv, (2, 6, 6))])
def test_shrinking_keeps_every_bit(model, shape) -> None:  # type: ignore[no-untyped-def]
    x = events(1500, *shape)
    network = learned_network(quantize_model(model(), x, INPUT, Bits()), x, LearnedBits())
    scattered(network, 2.0)
    with torch.no_grad():
        next(m for m in network.modules() if hasattr(m, "weight_fraction")).weight_mask[0] = 0
    fixed = fixed_network(network.eval(), x).eval()
    shrunk = shrink_network(fixed)
    assert shrunk.removed
    with torch.no_grad():
        assert torch.equal(shrunk.network.eval()(x[:, list(shrunk.kept_inputs)]), fixed(x))


def test_the_price_lands_on_the_goal() -> None:
    controller, path, cost, rate = PriceController(), CostPath(1000.0, 200.0), 1000.0, 0.0
    for step in range(8000):
        # a plant whose cost falls while the price is above 1e-4 and rises below
        price = controller.price(cost, path.at(step / 2000))
        rate = 0.9 * rate + 0.1 * np.clip(np.log(1e-4 / price), -3, 3)
        cost *= np.exp(2e-3 * rate)
    assert cost == pytest.approx(200.0, rel=0.03)


def test_a_path_turns_to_another_end_without_a_jump() -> None:
    path = CostPath(1000.0, 10.0)
    assert path.at(0.5) == pytest.approx(100.0)
    path.turn(0.5, 400.0)
    assert path.at(0.5) == pytest.approx(100.0)
    assert path.at(0.75) == pytest.approx(200.0)
    assert path.at(1.0) == pytest.approx(400.0)
    path.turn(0.75, 50.0)
    assert [path.at(part) for part in (0.75, 0.875, 1.0, 1.5)] == pytest.approx([200.0, 100.0, 50.0, 50.0])


@pytest.fixture(scope="module")
def short_training() -> tuple[fx.GraphModule, Batches]:
    x = events(1000, 5)
    y = (x[:, 0] > 0).long()
    ones = torch.ones(len(y))
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
    network = learned_network(quantize_model(model, x, INPUT, Bits()), x, LearnedBits())
    return network, Batches(x, y, ones, y, ones.double())


def test_the_end_follows_what_the_network_really_costs(short_training: tuple[fx.GraphModule, Batches]) -> None:
    network, data = copy.deepcopy(short_training[0]), short_training[1]
    path = CostPath(charge_of(network), charge_of(network) / 3)
    charges: list[float] = []

    def cost() -> float:
        charges.append(charge_of(network))
        return 1.25  # a quarter above what is wanted at the end

    settings = FitSettings("learn", 20, 128, 5e-3, 1)
    train_to_cost(
        network, data, data, settings, PriceController(per_step=0.03), path, anneal=False, cost=cost, lead=1.1
    )
    assert len(charges) == 3 and charges[0] > charges[2]
    assert path.end == pytest.approx(1.1 * charges[2] / 1.25)
    assert path.done == 0.9


def test_the_settled_epoch_nearest_to_the_cost_is_kept(short_training: tuple[fx.GraphModule, Batches]) -> None:
    network, data = copy.deepcopy(short_training[0]), short_training[1]
    path = CostPath(charge_of(network), charge_of(network) / 3)
    found = [0.9, 1.0]  # at the corrections after epochs 20 and 30
    settled = iter([1.3, 0.97, 1.02, *[0.5] * 10])  # from epoch 32 on
    weights: list[torch.Tensor] = []

    def cost() -> float:
        if len(weights) < 2:
            weights.append(torch.empty(0))
            return found[len(weights) - 1]
        weights.append(next(m for m in network.modules() if hasattr(m, "weight_fraction")).weight.detach().clone())
        return next(settled)

    settings = FitSettings("learn", 40, 128, 5e-3, 1)
    controller = PriceController(per_step=0.03)
    history = train_to_cost(network, data, data, settings, controller, path, anneal=True, cost=cost)
    assert history.best_index == 33
    layer = next(m for m in network.modules() if hasattr(m, "weight_fraction"))
    assert torch.equal(layer.weight, weights[4])
    assert not torch.equal(layer.weight, weights[-1])


def test_training_lands_on_the_charge_and_learns() -> None:
    x = events(3000, 5)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
    ones = torch.ones(len(y))
    data = Batches(x, y, ones, y, ones.double())
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    network = learned_network(quantize_model(model, x, INPUT, Bits()), x, LearnedBits())
    start = charge_of(network)
    wanted = start / 8
    controller = PriceController(per_step=0.01)
    for epochs, first, anneal in ((120, start, False), (50, wanted, True)):
        settings = FitSettings("learn", epochs, 128, 5e-3, 1)
        train_to_cost(network, data, data, settings, controller, CostPath(first, wanted), anneal=anneal)
    assert charge_of(network) == pytest.approx(wanted, rel=0.1)
    fixed = fixed_network(network.eval(), x).eval()
    with torch.no_grad():
        accuracy = float((fixed(x).argmax(1) == y).float().mean())
    assert accuracy > 0.88
    assert charge_of(network) < start / 6


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_ranges_are_found_anew_after_weights_have_grown(granularity: str) -> None:
    x = events(1500, 5)
    settings = LearnedBits(activations=granularity)  # type: ignore[arg-type]
    network = learned_network(quantize_model(mlp(), x, INPUT, Bits()), x, settings)
    scattered(network, 1.0)
    fixed = fixed_network(network.eval(), x).eval()
    layer = next(iter(weight_layers(fixed).values()))
    layer.weight_type = replace(
        layer.weight_type, width=layer.weight_type.width + 2, integer=layer.weight_type.integer + 2
    )
    with torch.no_grad():
        layer.weight *= 4
        wide = copy.deepcopy(fixed)
        for name, module in list(wide.named_modules()):
            if isinstance(module, ChannelQuantizer):
                types = [t and replace(t, width=t.width + 12, integer=t.integer + 12) for t in module.types]
                wide.set_submodule(name, ChannelQuantizer(types))
            elif isinstance(module, FixedQuantizer):
                t = module.fixed
                wide.set_submodule(name, FixedQuantizer(replace(t, width=t.width + 12, integer=t.integer + 12)))
        wrapped = fixed(x)
        fit_ranges(fixed, x)
        assert not torch.equal(wrapped, wide(x))
        assert torch.equal(fixed(x), wide(x))
        before = describe_network(fixed).content_hash()
        fit_ranges(fixed, x)
    assert describe_network(fixed).content_hash() == before
