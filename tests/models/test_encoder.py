"""The encoder against torch's own attention, which shares no code with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trigger_prune.config.project import ModelConfig
from trigger_prune.errors import ModelError
from trigger_prune.models.build import build_model
from trigger_prune.models.encoder import Encoder, EncoderLayer, MultiHeadAttention


def randomised(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return module.eval()


def events(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torch_attention(own: MultiHeadAttention, width: int) -> nn.MultiheadAttention:
    """torch's attention with the same weights."""
    other = nn.MultiheadAttention(width, own.n_heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        parts = (own.query, own.key, own.value)
        other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        other.out_proj.weight.copy_(own.output.weight)
        other.out_proj.bias.copy_(own.output.bias)
    return other.eval()


@pytest.mark.parametrize(("width", "n_heads", "n_tokens"), [(8, 1, 5), (12, 4, 7), (16, 8, 1)])
def test_attention_is_that_of_torch(width: int, n_heads: int, n_tokens: int) -> None:
    own = randomised(MultiHeadAttention(n_tokens, width, n_heads, width // n_heads), 1)
    x = events(9, n_tokens, width)
    expected, _ = torch_attention(own, width)(x, x, x)
    torch.testing.assert_close(own(x), expected, rtol=0, atol=1e-12)


def test_masked_heads_are_zeroed_heads_of_torch() -> None:
    """Here rows of query, key, value and columns of output go; there only what a head adds is set to zero."""
    own = randomised(MultiHeadAttention(6, 12, 4, 3), 2)
    other = torch_attention(own, 12)
    with torch.no_grad():
        for head in (0, 2):
            rows = slice(3 * head, 3 * head + 3)
            other.out_proj.weight[:, rows] = 0
            own.output.weight[:, rows] = 0
            for part in (own.query, own.key, own.value):
                part.weight[rows] = 0
    x = events(9, 6, 12)
    torch.testing.assert_close(own(x), other(x, x, x)[0], rtol=0, atol=1e-12)


def test_heads_of_any_size_follow_the_formula() -> None:
    own = randomised(MultiHeadAttention(4, 5, 3, 2), 3)
    x = events(2, 4, 5)
    query, key, value = (
        (x.numpy() @ part.weight.detach().numpy().T + part.bias.detach().numpy())
        for part in (own.query, own.key, own.value)
    )
    joined = np.zeros((2, 4, 6))
    for event in range(2):
        for head in range(3):
            mine = slice(2 * head, 2 * head + 2)
            for token in range(4):
                scores = [query[event, token, mine] @ key[event, t, mine] / math.sqrt(2) for t in range(4)]
                weights = np.exp(scores) / np.exp(scores).sum()
                joined[event, token, mine] = sum(weights[t] * value[event, t, mine] for t in range(4))
    expected = joined @ own.output.weight.detach().numpy().T + own.output.bias.detach().numpy()
    np.testing.assert_allclose(own(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_a_layer_is_that_of_torch() -> None:
    own = randomised(EncoderLayer(5, 8, 2, 4, 20), 4)
    other = nn.TransformerEncoderLayer(8, 2, 20, dropout=0.0, batch_first=True, dtype=torch.float64)
    attention = torch_attention(own.attention, 8)
    other.self_attn.load_state_dict(attention.state_dict())
    for here, there in (
        (own.expand, other.linear1), (own.contract, other.linear2), (own.attention_norm, other.norm1),
        (own.norm, other.norm2),
    ):  # fmt: skip
        there.load_state_dict(here.state_dict())
    x = events(6, 5, 8)
    torch.testing.assert_close(own(x), other.eval()(x), rtol=0, atol=1e-12)


def test_the_order_of_particles_does_not_matter() -> None:
    model = randomised(Encoder((3, 9), 5, width=8, n_heads=2, hidden=12), 5)
    x = events(6, 3, 9)
    mixed = x[:, :, torch.randperm(9, generator=torch.Generator().manual_seed(2))]
    torch.testing.assert_close(model(mixed), model(x), rtol=0, atol=1e-12)
    assert not torch.allclose(model(x[:, [1, 0, 2]]), model(x), atol=1e-3)
    # every particle counts, also through the others
    moved = x.clone()
    moved[:, 0, 4] += 1.0
    assert (model(moved) - model(x)).abs().amin() > 1e-9


def test_features_of_a_vector_are_told_apart() -> None:
    model = randomised(Encoder((4,), 3, width=8, n_heads=2), 6)
    x = events(6, 4)
    assert model(x).shape == (6, 3)
    assert not torch.allclose(model(x[:, [1, 0, 2, 3]]), model(x), atol=1e-3)
    whole = torch.cat([model(event[None]) for event in x])
    torch.testing.assert_close(model(x), whole, rtol=0, atol=1e-12)


def test_a_project_builds_it_by_name() -> None:
    model = build_model(ModelConfig(name="encoder", args={"width": 6, "n_heads": 3, "n_layers": 3}), (4, 5), 2)
    assert isinstance(model, Encoder) and len(model.layers) == 3
    assert model.layers[0].attention.query.weight.shape == (6, 6)


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        ((3, 4, 5), {}, "encoder takes events of shape"),
        ((3, 4), {"width": 10, "n_heads": 4}, "4 heads cannot share a width of 10"),
        ((3, 4), {"n_layers": 0}, "n_layers is 0"),
        ((3, 4), {"head_size": 0}, "head_size is 0"),
    ],
)
def test_impossible_encoders_are_named(shape: tuple[int, ...], arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Encoder(shape, 2, **arguments)
