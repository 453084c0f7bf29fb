"""Attention without some of its heads."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.layers import QuantLinear
from trigger_prune.structure.shrink.heads import shrink_heads


class Attention(nn.Module):
    """Events ``(B, P, width)``; heads may be wider or narrower than ``width / n_heads``."""

    def __init__(self, width: int, n_heads: int, size: int, value_size: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key = nn.Linear(width, n_heads * size), nn.Linear(width, n_heads * size)
        self.value, self.output = nn.Linear(width, n_heads * value_size), nn.Linear(n_heads * value_size, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        weights = torch.softmax(query @ key.transpose(-1, -2) / key.shape[-1] ** 0.5, dim=-1)
        result: Tensor = self.output((weights @ value).transpose(1, 2).flatten(2))
        return result


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Attention(6, 4, 3, 2), Attention(6, 3, 2, 5)])
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        result: Tensor = self.head(x.mean(dim=1))
        return result


def encoder() -> Encoder:
    torch.manual_seed(1)
    return Encoder().double()


def mask_head(masks: dict[str, Tensor], block: str, model: nn.Module, head: int, *, columns: bool = True) -> None:
    attention = model.get_submodule(block)
    for part in ("query", "key", "value"):
        weight = attention.get_submodule(part).weight
        mask = masks.setdefault(f"{block}.{part}", torch.ones_like(weight))
        mask.reshape(attention.n_heads, -1, weight.shape[1])[head] = 0
    if columns:
        weight = attention.output.weight
        mask = masks.setdefault(f"{block}.output", torch.ones_like(weight))
        mask.reshape(len(weight), attention.n_heads, -1)[:, head] = 0


def masked(model: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    model = copy.deepcopy(model)
    for name, mask in masks.items():
        model.get_submodule(name).weight.data *= mask
    return model


def test_heads_go_and_the_outputs_stay() -> None:
    model, masks = encoder(), {}
    for block, head in (("blocks.0", 0), ("blocks.0", 2), ("blocks.1", 1)):
        mask_head(masks, block, model, head)
    shrunk = shrink_heads(model, masks)
    assert shrunk.removed == {"blocks.0": (0, 2), "blocks.1": (1,)}
    x = torch.randn(50, 7, 6, dtype=torch.float64)
    assert torch.allclose(shrunk.model(x), masked(model, masks)(x), rtol=0, atol=1e-12)
    first, second = shrunk.model.blocks
    assert (first.n_heads, second.n_heads) == (2, 2) and model.blocks[0].n_heads == 4
    assert first.query.weight.shape == (6, 6) and first.output.weight.shape == (6, 4)
    assert second.value.out_features == 10 and second.output.in_features == 10
    assert torch.equal(first.output.bias, model.blocks[0].output.bias)
    assert shrink_heads(shrunk.model).removed == {}


def test_a_head_whose_value_bias_is_left_is_not_silent() -> None:
    """Its output is that bias for every event, which the output layer still reads."""
    model, masks = encoder(), {}
    mask_head(masks, "blocks.0", model, 1, columns=False)
    assert shrink_heads(model, masks).removed == {}
    model.blocks[0].value.bias.data[2:4] = 0
    shrunk = shrink_heads(model, masks)
    assert shrunk.removed == {"blocks.0": (1,)}
    x = torch.randn(50, 7, 6, dtype=torch.float64)
    assert torch.allclose(shrunk.model(x), masked(model, masks)(x), rtol=0, atol=1e-12)


def test_a_block_keeps_one_head() -> None:
    model, masks = encoder(), {}
    for head in range(3):
        mask_head(masks, "blocks.1", model, head)
    shrunk = shrink_heads(model, masks)
    assert shrunk.removed == {"blocks.1": (1, 2)}
    x = torch.randn(50, 7, 6, dtype=torch.float64)
    assert torch.allclose(shrunk.model(x), masked(model, masks)(x), rtol=0, atol=1e-12)


def test_weight_masks_of_quantised_layers_count() -> None:
    model = encoder()
    for block in model.blocks:
        for part in ("query", "key", "value", "output"):
            setattr(block, part, QuantLinear(getattr(block, part), FixedPoint(8, 1), FixedPoint(12, 2)))
    masks: dict[str, Tensor] = {}
    mask_head(masks, "blocks.1", model, 2)
    for name, mask in masks.items():
        model.get_submodule(name).weight_mask.copy_(mask)
    model.blocks[0].query.weight_mask[1, 2] = 0
    shrunk = shrink_heads(model)
    assert shrunk.removed == {"blocks.1": (2,)}
    x = torch.randn(50, 7, 6, dtype=torch.float64)
    assert torch.allclose(shrunk.model(x), model(x), rtol=0, atol=1e-12)
    assert shrunk.model.blocks[1].value.weight_mask.shape == (10, 6)


def test_what_is_no_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="has no attention block"):
        shrink_heads(nn.Sequential(nn.Linear(2, 2)))
    model = encoder()
    model.blocks[0].n_heads = 5
    with pytest.raises(ModelError, match=r"attention block 'blocks\.0': 12 of 'query' are not 5 equal heads"):
        shrink_heads(model)
    with pytest.raises(ModelError, match=r"the mask of 'blocks\.0\.query' fits no Linear layer"):
        shrink_heads(encoder(), {"blocks.0.query": torch.ones(2, 2)})
