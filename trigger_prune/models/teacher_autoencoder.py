"""Autoencoders that other networks learn from. They never reach an FPGA, so any layer will do."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trigger_prune.models._blocks import Layers, check_positive, check_rank, dense_blocks

_LOG_VARIANCE_RANGE = (-8.0, 8.0)
"""An event far outside the training sample must not overflow the exponential."""


class TeacherAutoencoder(nn.Module):
    """``encoder``: ``(B, *input_shape)`` to ``(B, latent)``; ``decoder``: ``(B, latent)`` to ``(B, *input_shape)``.

    A variational one (D. Kingma and M. Welling, ICLR 2014) has an encoder of ``2 * latent`` outputs, the latent means
    first, then logarithms of variances; in training mode the decoder gets samples, else the means.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: int, variational: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.variational = variational

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Latent means ``(B, latent)``, and the logarithms of their variances (None of a plain autoencoder)."""
        latent = self.encoder(x)
        if not self.variational:
            return latent, None
        return latent[:, : self.latent], latent[:, self.latent :].clamp(*_LOG_VARIANCE_RANGE)

    def reconstruct(self, mean: Tensor, log_variance: Tensor | None) -> Tensor:
        """``(B, *input_shape)`` from what ``encode`` gave."""
        if log_variance is not None and self.training:
            mean = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        restored: Tensor = self.decoder(mean)
        return restored

    def forward(self, x: Tensor) -> Tensor:
        return self.reconstruct(*self.encode(x))


def teacher_encoder(
    input_shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], n_outputs: int
) -> nn.Sequential:
    """Convolutions of 3 x 3 with ReLU, images halved between them by averaging; dense layers; ``n_outputs``.

    Without ``channels`` events of any shape are flattened. Raises ModelError for channels on events that are no images
    ``(C, H, W)``, and for widths below 1.
    """
    check_positive("teacher", channels=channels, hidden=hidden, n_outputs=n_outputs)
    layers: Layers = OrderedDict()
    shapes = _image_shapes(input_shape, channels)
    width = input_shape[0]
    for number, n_channels in enumerate(channels, start=1):
        if number > 1:
            layers[f"halve{number}"] = nn.AvgPool2d(2, ceil_mode=True)
        layers[f"conv{number}"] = nn.Conv2d(width, n_channels, 3, padding=1)
        layers[f"conv_relu{number}"] = nn.ReLU()
        width = n_channels
    n_values = width * math.prod(shapes[-1]) if channels else math.prod(input_shape)
    layers["flatten"] = nn.Flatten()
    layers.update(dense_blocks(n_values, hidden, batch_norm=True))
    layers["latent"] = nn.Linear(hidden[-1] if hidden else n_values, n_outputs)
    return nn.Sequential(layers)


def teacher_decoder(
    input_shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], latent: int
) -> nn.Sequential:
    """The mirror image of ``teacher_encoder`` from ``(B, latent)`` to ``(B, *input_shape)``; raises like it."""
    check_positive("teacher", channels=channels, hidden=hidden, latent=latent)
    layers: Layers = OrderedDict()
    layers.update(dense_blocks(latent, tuple(reversed(hidden)), batch_norm=True))
    last = hidden[0] if hidden else latent
    if not channels:
        layers["values"] = nn.Linear(last, math.prod(input_shape))
        layers["shape"] = nn.Unflatten(1, tuple(input_shape))
        return nn.Sequential(layers)
    shapes = _image_shapes(input_shape, channels)
    layers["image"] = nn.Linear(last, channels[-1] * math.prod(shapes[-1]))
    layers["image_relu"] = nn.ReLU()
    layers["shape"] = nn.Unflatten(1, (channels[-1], *shapes[-1]))
    for number in range(len(channels), 0, -1):
        following = channels[number - 2] if number > 1 else input_shape[0]
        if number > 1:
            layers[f"conv{number}"] = nn.Conv2d(channels[number - 1], following, 3, padding=1)
            layers[f"conv_relu{number}"] = nn.ReLU()
            layers[f"double{number}"] = nn.Upsample(size=shapes[number - 2])
        else:
            layers["values"] = nn.Conv2d(channels[0], following, 3, padding=1)
    return nn.Sequential(layers)


def _image_shapes(input_shape: Sequence[int], channels: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width at every convolution."""
    if not channels:
        return []
    check_rank("teacher with channels", input_shape, "(C, H, W)")
    shapes = [(input_shape[1], input_shape[2])]
    while len(shapes) < len(channels):
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes
