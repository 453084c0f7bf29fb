import math

import pytest
import torch
from torch import fx

from trigger_prune.errors import ModelError
from trigger_prune.models.autoencoder import Autoencoder
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets, mean_over_positions
from trigger_prune.models.mlp import Mlp

MODELS = {
    "mlp": (Mlp((16,), 5), (16,), 5),
    "mlp without norm": (Mlp((16,), 5, hidden=[8], batch_norm=False), (16,), 5),
    "mlp without hidden layers": (Mlp((3,), 2, hidden=()), (3,), 2),
    "conv1d": (Conv1dNet((3, 21), 4), (3, 21), 4),
    "conv2d": (Conv2dNet((2, 9, 13), 3), (2, 9, 13), 3),
    "deep sets": (DeepSets((3, 11), 5), (3, 11), 5),
    "autoencoder": (Autoencoder((20,)), (20,), 20),
}


@pytest.mark.parametrize("name", MODELS)
def test_graph_computes_what_the_module_computes_event_by_event(name: str) -> None:
    model, event_shape, n_outputs = MODELS[name]
    model.eval()
    x = torch.randn(7, *event_shape, generator=torch.Generator().manual_seed(0))
    whole = fx.symbolic_trace(model)(x)
    single = torch.cat([model(event[None]) for event in x])
    assert whole.shape == (7, n_outputs)
    torch.testing.assert_close(whole, single, rtol=1e-5, atol=1e-6)


def test_mlp_weight_count_is_that_of_the_published_jet_tagger() -> None:
    model = Mlp((16,), 5)
    kernels = sum(p.numel() for n, p in model.named_parameters() if n.endswith("weight") and not n.startswith("norm"))
    assert kernels == 16 * 64 + 64 * 32 + 32 * 32 + 32 * 5 == 4256
    assert [n for n, _ in model.named_children()][:4] == ["dense1", "norm1", "relu1", "dense2"]


@pytest.mark.parametrize("positions", [1, 2, 3, 8, 11, 16, 17])
def test_frozen_mean_is_the_mean_times_a_factor_below_one(positions: int) -> None:
    x = torch.randn(4, 5, positions, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer = mean_over_positions(5, positions).double()
    power = 1
    while power < positions:
        power *= 2
    torch.testing.assert_close(layer(x)[..., 0], x.mean(dim=2) * positions / power)
    weight = float(layer.weight.flatten()[0])
    assert math.frexp(weight)[0] == 0.5  # a power of two
    assert not layer.weight.requires_grad


def test_deep_sets_ignores_the_order_of_particles() -> None:
    model = DeepSets((3, 9), 5).eval()
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(6, 3, 9, generator=generator)
    mixed = x[:, :, torch.randperm(9, generator=generator)]
    torch.testing.assert_close(model(mixed), model(x), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model(x[:, [1, 0, 2]]), model(x), atol=1e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mlp((3, 4), 5), "mlp takes events of shape"),
        (lambda: Mlp((3,), 5, hidden=(4, 0)), "hidden is"),
        (lambda: Mlp((3,), 5, hidden=(4.0,)), "hidden is"),
        (lambda: Conv1dNet((3, 3), 5), "3 positions"),
        (lambda: Conv1dNet((3, 8), 5, kernel=2), "kernel is 2"),
        (lambda: Conv2dNet((3, 8, 3), 5), "8 x 3"),
        (lambda: DeepSets((3,), 5), "deep_sets takes events of shape"),
        (lambda: Autoencoder((3,), latent=0), "latent is 0"),
    ],
)
def test_impossible_shapes_are_named(make, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()
