from types import SimpleNamespace

import pytest
import torch
from torch import fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.mlp import Mlp
from trigger_prune.prune.inputs import DroppedInput, drop_redundant, drop_unused
from trigger_prune.quantize.convert import input_shape_of, quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.sensitivity.findings import InputFinding
from trigger_prune.sensitivity.inputs import find_redundant_inputs, scan_inputs
from trigger_prune.train.evaluate import Batches

INPUT = FixedPoint(8, 3)
NAMES = ("pt", "eta", "pt_copy", "zero", "mass", "pt_again", "two")


def events(n: int = 300, positions: int | None = None) -> torch.Tensor:
    shape = (n, 7) if positions is None else (n, 7, positions)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    x[:, 2] = x[:, 5] = x[:, 0]
    x[:, 3], x[:, 6] = 0.0, 2.0
    return torch.from_numpy(INPUT.quantize(x.numpy())).float()


def quantised(model: nn.Module, x: torch.Tensor, weight_bits: int = 6) -> fx.GraphModule:
    bits = SimpleNamespace(weight_bits=weight_bits, activation_bits=8, rounding="AP_TRN")
    return quantize_model(model, x, INPUT, bits)


def findings(network: fx.GraphModule, x: torch.Tensor) -> tuple[InputFinding, ...]:
    batches = Batches(x, torch.zeros(len(x), dtype=torch.long), torch.ones(len(x)))
    return tuple(scan_inputs(network, batches, NAMES, find_redundant_inputs(x.numpy()), "classify"))


@pytest.mark.parametrize("weight_bits", [6, 16])
def test_what_the_scan_finds_is_dropped_and_the_network_stays_what_it_was(weight_bits: int) -> None:
    torch.manual_seed(0)
    x = events()
    network = quantised(Mlp((7,), 3, hidden=(12,)), x, weight_bits)
    before = network(x).detach()
    kept, dropped = drop_redundant(network, findings(network, x), NAMES)
    assert kept == (0, 1, 4)
    assert dropped == (
        DroppedInput("pt_copy", "equal to pt on every training event"),
        DroppedInput("zero", "always 0; folded into biases"),
        DroppedInput("pt_again", "equal to pt on every training event"),
        DroppedInput("two", "always 2; folded into biases"),
    )
    assert input_shape_of(network) == (3,)
    difference = (network(x[:, list(kept)]).detach() - before).abs().mean() / before.abs().mean()
    assert float(difference) < (0.1 if weight_bits == 6 else 0.005)


def test_a_constant_behind_a_padded_convolution_stays_and_the_others_go() -> None:
    torch.manual_seed(0)
    x = events(positions=4)
    network = quantised(Conv1dNet((7, 4), 3, channels=(4,), hidden=(4,)), x)
    kept, dropped = drop_redundant(network, findings(network, x), NAMES)
    assert kept == (0, 1, 4, 6)
    assert [item.name for item in dropped] == ["pt_copy", "zero", "pt_again"]
    assert network(x[:, list(kept)]).shape == (300, 3)


def test_a_network_that_flattens_first_is_left_alone() -> None:
    x = events(positions=2)
    network = quantised(nn.Sequential(nn.Flatten(), nn.Linear(14, 3)), x)
    before = describe_network(network).content_hash()
    assert drop_redundant(network, findings(network, x), NAMES) == (tuple(range(7)), ())
    assert drop_unused(network, NAMES) == (tuple(range(7)), ())
    assert describe_network(network).content_hash() == before


def test_nothing_redundant_changes_nothing() -> None:
    x = events()[:, [0, 1, 4]]
    network = quantised(Mlp((3,), 2, hidden=(4,)), x)
    before = describe_network(network).content_hash()
    none = tuple(InputFinding(name, i, "informative", None, None, 0.0, 0.0, 0.0) for i, name in enumerate("abc"))
    assert drop_redundant(network, none, ("a", "b", "c")) == ((0, 1, 2), ())
    assert describe_network(network).content_hash() == before


def test_unused_inputs_go_but_one_always_stays() -> None:
    x = events()
    network = quantised(Mlp((7,), 3, hidden=(12,)), x)
    layer = weight_layers(network)["dense1"]
    layer.weight_mask[:, [1, 5]] = 0
    before = network(x).detach()
    kept, dropped = drop_unused(network, NAMES)
    assert kept == (0, 2, 3, 4, 6)
    assert dropped == (
        DroppedInput("eta", "all its weights were pruned"),
        DroppedInput("pt_again", "all its weights were pruned"),
    )
    assert torch.equal(network(x[:, list(kept)]), before)
    weight_layers(network)["dense1"].weight_mask.zero_()
    constant = network(x[:, list(kept)]).detach()
    kept, dropped = drop_unused(network, ("a", "b", "c", "d", "e"))
    assert kept == (0,) and len(dropped) == 4
    assert torch.equal(network(x[:, :1]), constant)


def test_all_inputs_constant_leaves_one() -> None:
    x = torch.ones(50, 3) * torch.tensor([1.0, 2.0, 0.5])
    network = quantised(Mlp((3,), 2, hidden=(4,)), x)
    before = network(x).detach()
    found = tuple(InputFinding(n, i, "constant", None, float(x[0, i]), 0.0, 0.0, 0.0) for i, n in enumerate("abc"))
    kept, dropped = drop_redundant(network, found, ("a", "b", "c"))
    assert kept == (2,) and len(dropped) == 2
    assert torch.equal(network(x[:, list(kept)]), before)
