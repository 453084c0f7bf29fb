import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from trigger_prune.errors import ModelError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.graph import prepare
from trigger_prune.quantize.layers import FixedQuantizer, QuantConv1d, QuantLinear

TYPE = FixedPoint(6, 2)


def after_training_steps(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Batch statistics as training leaves them, and scales far from 1."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.affine:
            module.weight.data.uniform_(-2, 2, generator=generator)
            module.bias.data.normal_(generator=generator)
    model.train()
    for _ in range(4):
        model(2.0 * torch.randn(64, *shape, generator=generator) + 0.5)
    return model


class Spelled(nn.Module):
    """ReLU, flatten and dropout in every functional spelling, and one ReLU module for two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)
        self.norm = nn.BatchNorm1d(4, affine=False)
        self.relu = nn.ReLU()
        self.blocks = nn.ModuleList([nn.Linear(16, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)])
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.dropout(self.conv(x)))).flatten(1)
        x = functional.relu(self.blocks[0](torch.flatten(x, start_dim=1)), inplace=True)
        x = torch.relu(self.blocks[1](functional.dropout(x, 0.5, training=self.training)))
        x = self.blocks[2](self.dropout(x)).relu()
        y = x
        y += self.relu(self.blocks[3](x))
        return self.head(y)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Mlp((7,), 3, hidden=(8, 5)), (7,)),
        (Conv1dNet((3, 8), 2, channels=(4,), hidden=(5,)), (3, 8)),
        (Conv2dNet((2, 6, 6), 2, channels=(3,), hidden=(5,)), (2, 6, 6)),
        (DeepSets((4, 5), 3, phi=(6,), rho=(5,)), (4, 5)),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False), nn.Identity(), nn.ReLU()), (4,)),
        (nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.BatchNorm1d(3), nn.ReLU(inplace=True)), (4,)),
        (Spelled(), (3, 6)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_computes_what_the_model_computes_in_eval_mode(model: nn.Module, shape: tuple[int, ...]) -> None:
    model = after_training_steps(model, shape)
    before = [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]
    graph = prepare(model)
    # the model that was passed in is as it was
    assert all(module.training for module in model.modules())
    now = [*model.parameters(), *model.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
    x = torch.randn(200, *shape)
    with torch.no_grad():
        expected = model.eval()(x)
        torch.testing.assert_close(graph(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        torch.testing.assert_close(graph.train()(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    gone = (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Identity)
    assert not any(isinstance(module, gone) for module in graph.modules())
    assert not any(isinstance(module, nn.ReLU) and module.inplace for module in graph.modules())
    assert {node.op for node in graph.graph.nodes} <= {"placeholder", "call_module", "call_function", "output"}


def test_folding_does_not_share_memory_with_the_model() -> None:
    model = Mlp((4,), 2, hidden=(3,))
    graph = prepare(model)
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.add_(1.0)
    assert all(not torch.equal(a, b) for a, b in zip(prepare(model).parameters(), graph.parameters(), strict=True))


def test_a_folded_bias_is_trained_and_a_frozen_layer_stays_frozen() -> None:
    model = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
    )
    model[3].weight.requires_grad_(False)
    graph = prepare(model)
    trained = {name: parameter.requires_grad for name, parameter in graph.named_parameters()}
    assert trained == {
        "0.weight": True, "0.bias": True, "3.weight": False, "3.bias": False, "5.weight": True, "5.bias": True
    }  # fmt: skip


class Calls(nn.Module):
    """One call on the input, then a linear layer."""

    def __init__(self, call: object, **modules: nn.Module) -> None:
        super().__init__()
        self.call = call
        self.fc = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)  # type: ignore[operator,no-any-return]


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def parametrised() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)))


class FlowControl(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        (Calls(lambda m, x: m.head(m.fc(m.fc(x)))), "layer 'fc' is called twice", "layer of its own"),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), "BatchNorm '0' does not directly follow", "standardised"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4)), "BatchNorm '2' does not", "its ReLU"),
        (Calls(lambda m, x: m.norm(m.fc(x)) + m.fc(x), norm=nn.BatchNorm1d(4)), "'fc' is called twice", "own"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), "'1' keeps no", "running"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(9)), "'1' normalises 9 channels, but '0' has 4", "Conv1d"),
        (Calls(lambda m, x: m.fc(x).mean(dim=1)), "'mean' is a mean, which is not", "deep_sets.py"),
        (Calls(lambda m, x: torch.mean(m.fc(x), 1)), "'mean' is a mean", "deep_sets.py"),
        (nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=1)), "layer '1' is a Softmax", "logits"),
        (Calls(lambda m, x: torch.softmax(m.fc(x), 1)), "'softmax' is a softmax", "logits"),
        (nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten()), "'0' is a AdaptiveAvgPool1d", "silently wrong"),
        (Calls(lambda m, x: m.fc(x.view(-1, 4))), "'view' is a view", "nn.Flatten"),
        (Calls(lambda m, x: m.fc(x.reshape(x.shape[0], -1))), "'getattr_1' is a getattr", "nn.Flatten"),
        (Calls(lambda m, x: m.fc(torch.flatten(x))), "flatten must start at dimension 1", None),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 2)), "0: flatten must start at dimension 1", None),
        (Calls(lambda m, x: m.fc(x) + 1.0), "add: only the sum of two wires", "bias"),
        (Calls(lambda m, x: torch.add(m.fc(x), x, alpha=2)), "add: only the sum of two wires", "bias"),
        (Calls(lambda m, x: torch.cat([x, m.fc(x)])), "cat: cat along dimension 0", "dim=1"),
        (Calls(lambda m, x: (m.fc(x), m.head(x))), "returns a tuple", "one tensor"),
        (Calls(lambda m, x: functional.dropout(m.fc(x), 0.5)), "dropout: this dropout also acts", "training="),
        (Calls(lambda m, x: torch.relu_(m.fc(x))), "'relu_' is a relu_", "supported: Linear"),
        (Calls(lambda m, x: (lambda h: functional.relu(h, inplace=True) + h)(m.fc(x))), "overwrites 'fc'", "inplace"),
        (nn.Sequential(nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular")), "'0' has padding_mode", "zeros"),
        (nn.Sequential(nn.ConvTranspose1d(2, 2, 3)), "'0' is a ConvTranspose1d", "supported: Linear"),
        (nn.Sequential(QuantLinear(nn.Linear(2, 2), TYPE, TYPE)), "'0' is a QuantLinear", "already"),
        (nn.Sequential(nn.Linear(2, 2), FixedQuantizer(TYPE)), "'1' is a FixedQuantizer", "already"),
        (parametrised(), "'0' is a ParametrizedLinear", "remove_parametrizations"),
        (TwoInputs(), "takes 2 inputs", "concatenate"),
    ],
)
def test_what_cannot_be_quantised_is_named(model: nn.Module, message: str, hint: str | None) -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        prepare(model)
    assert message in caught.value.message
    assert (hint is None and caught.value.hint is None) or hint in str(caught.value.hint)


def test_a_forward_that_depends_on_values_cannot_be_traced() -> None:
    with pytest.raises(ModelError, match="FlowControl cannot be traced") as caught:
        prepare(FlowControl())
    assert "branches" in str(caught.value.hint)


def test_masks_of_torch_prune_must_be_made_permanent() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    prune.l1_unstructured(model[0], "weight", 0.5)
    model(torch.ones(1, 4))
    with pytest.raises(ModelError, match="cannot be copied"):
        prepare(model)
    prune.remove(model[0], "weight")
    assert torch.equal(prepare(model).get_submodule("0").weight, model[0].weight)


def test_the_model_may_use_the_names_that_new_modules_would_get() -> None:
    model = Calls(lambda m, x: m.relu(functional.relu(m.fc(x))), relu=nn.Linear(4, 3))
    graph = prepare(model)
    x = torch.randn(20, 4)
    assert torch.equal(graph(x), model(x))
    assert isinstance(graph.get_submodule("relu"), nn.Linear)


def test_quantised_layers_take_over_what_their_source_is() -> None:
    source = nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False, padding_mode="circular").double()
    source.weight.requires_grad_(False)
    layer = QuantConv1d(source, FixedPoint(40, 4, rounding="AP_RND", overflow="AP_SAT"), TYPE)
    assert not layer.weight.requires_grad and layer.bias is None
    x = torch.randn(5, 4, 9, dtype=torch.float64)
    torch.testing.assert_close(layer(x), source(x), atol=1e-9, rtol=0)
    linear = nn.Linear(3, 2)
    linear.bias.requires_grad_(False)
    twin = QuantLinear(linear, TYPE, TYPE)
    assert twin.weight.requires_grad and not twin.bias.requires_grad
    assert copy.deepcopy(twin).weight_type == TYPE
