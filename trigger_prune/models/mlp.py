"""Fully connected network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from trigger_prune.models._blocks import check_positive, check_rank, dense_blocks


class Mlp(nn.Sequential):
    """Blocks ``dense, norm, relu`` and a linear ``head``; ``(B, F)`` to logits ``(B, n_outputs)``.

    ``hidden`` holds the widths of the hidden layers. The default, 64-32-32, is the jet tagger of
    J. Duarte et al., JINST 13 (2018) P07027, without its softmax: logits are what the firmware returns.
    Raises ModelError for events that are not vectors and for widths below 1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        hidden: Sequence[int] = (64, 32, 32),
        batch_norm: bool = True,
    ) -> None:
        check_rank("mlp", input_shape, "(F)")
        check_positive("mlp", n_outputs=n_outputs, hidden=hidden)
        layers = dense_blocks(input_shape[0], hidden, batch_norm=batch_norm)
        layers["head"] = nn.Linear(hidden[-1] if hidden else input_shape[0], n_outputs)
        super().__init__(layers)
