"""Small transformer encoder on the particles, or on the features, of an event."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.models._blocks import check_positive


class MultiHeadAttention(nn.Module):
    """Every token looks at every token; ``(B, n_tokens, width)`` to the same shape.

    A. Vaswani et al., "Attention is all you need", NeurIPS 2017: ``softmax(Q K^T / sqrt(head size)) V`` in every head,
    the heads joined by ``output``. Head h has the h-th of ``n_heads`` equal parts of the rows of ``query``, ``key`` and
    ``value`` and of the columns of ``output``. Sizes are read from these layers, so heads can be cut out of a block.
    ``n_tokens`` is fixed because the exported graph then has no arithmetic on shapes, a quarter of the time of a call.
    """

    def __init__(self, n_tokens: int, width: int, n_heads: int, head_size: int) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.n_heads = n_heads
        self.query = nn.Linear(width, n_heads * head_size)
        self.key = nn.Linear(width, n_heads * head_size)
        self.value = nn.Linear(width, n_heads * head_size)
        self.output = nn.Linear(n_heads * head_size, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._heads(layer, x) for layer in (self.query, self.key, self.value))
        scale = (self.key.out_features // self.n_heads) ** -0.5
        weights = torch.softmax(torch.matmul(query, key.transpose(2, 3)) * scale, dim=-1)
        joined = torch.matmul(weights, value).transpose(1, 2).reshape(-1, self.n_tokens, self.output.in_features)
        result: Tensor = self.output(joined)
        return result

    def _heads(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """``(B, n_tokens, width)`` to ``(B, n_heads, n_tokens, size)``."""
        split: Tensor = layer(x).reshape(-1, self.n_tokens, self.n_heads, layer.out_features // self.n_heads)
        return split.transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention, then a feed-forward network of one hidden layer per token; each is added to its input and normalised.

    The order of Vaswani et al. and of ``torch.nn.TransformerEncoderLayer(norm_first=False)``; no dropout.
    """

    def __init__(self, n_tokens: int, width: int, n_heads: int, head_size: int, hidden: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(n_tokens, width, n_heads, head_size)
        self.attention_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.relu = nn.ReLU()
        self.contract = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention_norm(x + self.attention(x))
        result: Tensor = self.norm(x + self.contract(self.relu(self.expand(x))))
        return result


class Encoder(nn.Module):
    """Embedding of every token, encoder layers, mean over tokens, ``head``; to logits ``(B, n_outputs)``.

    Events ``(B, F, P)``: a token is a particle with F features, and the order of particles does not matter. Absent
    ones are filled with zeros, and the network sees them. Events ``(B, F)``: a token is a feature, told from the others
    by a learned vector (as in Y. Gorishniy et al., NeurIPS 2021).
    width       of a token inside the network
    head_size   of one head; without it ``width / n_heads``
    hidden      width of the feed-forward networks

    No FPGA export: softmax, products of activations and LayerNorm have no fixed-point form here. It runs with
    ``cost.backend: runtime``. Raises ModelError for events of another rank, sizes below 1, and a width that the heads
    cannot share.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        width: int = 32,
        n_heads: int = 4,
        n_layers: int = 2,
        hidden: int = 64,
        head_size: int | None = None,
    ) -> None:
        if len(input_shape) not in (1, 2):
            raise ModelError(
                f"encoder takes events of shape (F, P) or (F), but one event has shape {tuple(input_shape)}",
                hint="choose a model that fits the events, or reshape the events",
            )
        check_positive("encoder", n_outputs=n_outputs, width=width, n_heads=n_heads, n_layers=n_layers, hidden=hidden)
        if head_size is None and width % n_heads:
            raise ModelError(
                f"encoder: {n_heads} heads cannot share a width of {width}",
                hint="make width a multiple of n_heads, or give head_size",
            )
        size = width // n_heads if head_size is None else head_size
        check_positive("encoder", head_size=size)
        super().__init__()
        self.embedding = nn.Linear(input_shape[0] if len(input_shape) == 2 else 1, width)
        self.feature_vectors = None
        if len(input_shape) == 1:
            self.feature_vectors = nn.Parameter(torch.randn(input_shape[0], width))
        self.layers = nn.ModuleList(
            EncoderLayer(input_shape[-1], width, n_heads, size, hidden) for _ in range(n_layers)
        )
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.feature_vectors is None:
            x = self.embedding(x.transpose(1, 2))
        else:
            x = self.embedding(x.unsqueeze(2)) + self.feature_vectors
        for layer in self.layers:
            x = layer(x)
        result: Tensor = self.head(x.mean(dim=1))
        return result
