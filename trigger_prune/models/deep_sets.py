"""Deep sets: a network on an unordered set of particles."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from trigger_prune.models._blocks import Layers, check_positive, check_rank, dense_blocks


def mean_over_positions(channels: int, positions: int) -> nn.Conv1d:
    """Mean over positions, up to a constant factor, as a frozen depthwise convolution: ``(B, C, P)`` to ``(B, C, 1)``.

    Every weight is ``2 ** -ceil(log2(positions))``: a power of two lies on every fixed-point grid with enough
    fraction bits and costs no multiplier. The missing factor (between 1/2 and 1) is absorbed by the next layer.
    A convolution, because of all ways to write a mean it is the one that hls4ml reads correctly from ONNX.
    Frozen means ``weight.requires_grad is False``: neither training nor pruning touches such a layer.
    """
    mean = nn.Conv1d(channels, channels, positions, groups=channels, bias=False)
    nn.init.constant_(mean.weight, 2.0 ** -math.ceil(math.log2(positions)))
    mean.weight.requires_grad_(False)
    return mean


class DeepSets(nn.Sequential):
    """Per-particle ``phi``, mean over particles, then ``rho``; ``(B, F, P)`` to logits ``(B, n_outputs)``.

    M. Zaheer et al., "Deep Sets", NeurIPS 2017; for jets P. Komiske et al., JHEP 01 (2019) 121. F are the features
    of a particle, P the number of particles of an event (absent ones filled with zeros: the network sees them).
    ``phi`` and ``rho`` hold layer widths; phi is a convolution with a kernel of one position.
    Raises ModelError for events of another rank and for widths below 1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        phi: Sequence[int] = (32, 32),
        rho: Sequence[int] = (32,),
        batch_norm: bool = True,
    ) -> None:
        check_rank("deep_sets", input_shape, "(F, P)")
        check_positive("deep_sets", n_outputs=n_outputs, phi=phi, rho=rho)
        width, positions = input_shape
        layers: Layers = OrderedDict()
        for number, n_channels in enumerate(phi, start=1):
            layers[f"phi{number}"] = nn.Conv1d(width, n_channels, 1, bias=not batch_norm)
            if batch_norm:
                layers[f"phi_norm{number}"] = nn.BatchNorm1d(n_channels)
            layers[f"phi_relu{number}"] = nn.ReLU()
            width = n_channels
        layers["mean"] = mean_over_positions(width, positions)
        layers["flatten"] = nn.Flatten()
        for name, layer in dense_blocks(width, rho, batch_norm=batch_norm).items():
            layers[name.replace("dense", "rho").replace("norm", "rho_norm").replace("relu", "rho_relu")] = layer
        layers["head"] = nn.Linear(rho[-1] if rho else width, n_outputs)
        super().__init__(layers)
