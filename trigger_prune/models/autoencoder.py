"""Autoencoder for anomaly triggers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from trigger_prune.models._blocks import Layers, check_positive, check_rank, dense_blocks


class Autoencoder(nn.Sequential):
    """Encoder, ``latent``, mirrored decoder; ``(B, F)`` to the reconstruction ``(B, F)``.

    ``hidden`` holds the encoder's widths, ``latent`` the width of the bottleneck. The anomaly score is the mean
    squared difference of input and output, as in E. Govorkova et al., Nature Mach. Intell. 4 (2022) 154.
    Raises ModelError for events that are not vectors and for widths below 1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        hidden: Sequence[int] = (32, 16),
        latent: int = 8,
        batch_norm: bool = True,
    ) -> None:
        check_rank("autoencoder", input_shape, "(F)")
        check_positive("autoencoder", hidden=hidden, latent=latent)
        n_features = input_shape[0]
        layers: Layers = OrderedDict()
        encoder = dense_blocks(n_features, hidden, batch_norm=batch_norm)
        decoder = dense_blocks(latent, tuple(reversed(hidden)), batch_norm=batch_norm)
        layers.update((f"encoder_{name}", layer) for name, layer in encoder.items())
        layers["latent"] = nn.Linear(hidden[-1] if hidden else n_features, latent)
        layers.update((f"decoder_{name}", layer) for name, layer in decoder.items())
        layers["head"] = nn.Linear(hidden[0] if hidden else latent, n_features)
        super().__init__(layers)
