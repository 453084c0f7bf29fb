"""Two-dimensional convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.models._blocks import Layers, check_positive, check_rank, dense_blocks


class Conv2dNet(nn.Sequential):
    """Blocks ``conv, norm, relu, pool``, then dense blocks; ``(B, C, H, W)`` to logits ``(B, n_outputs)``.

    For images such as calorimeter regions in eta and phi. Every convolution keeps height and width (odd ``kernel``,
    zero padding), every max pooling divides both by ``pool`` and drops what is left over. With ``stride`` above 1 the
    convolutions do not pad and are applied at every ``stride``-th place only, which divides their cost. ``channels``
    and ``hidden`` hold the widths of the convolutional and the dense layers.
    Raises ModelError for events of another rank, an even kernel of stride 1, or when nothing is left.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: int,
        channels: Sequence[int] = (8, 16),
        kernel: int = 3,
        pool: int = 2,
        hidden: Sequence[int] = (32,),
        batch_norm: bool = True,
        stride: int = 1,
    ) -> None:
        check_rank("conv2d", input_shape, "(C, H, W)")
        check_positive("conv2d", n_outputs=n_outputs, channels=channels, kernel=kernel, pool=pool, hidden=hidden)
        check_positive("conv2d", stride=stride)
        if kernel % 2 == 0 and stride == 1:
            raise ModelError(f"conv2d: kernel is {kernel}", hint="an odd kernel keeps height and width")
        width, rows, columns = input_shape
        layers: Layers = OrderedDict()
        for number, n_channels in enumerate(channels, start=1):
            layers[f"conv{number}"] = nn.Conv2d(
                width, n_channels, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=not batch_norm
            )
            if stride > 1:
                rows, columns = max(0, (rows - kernel) // stride + 1), max(0, (columns - kernel) // stride + 1)
            if batch_norm:
                layers[f"conv_norm{number}"] = nn.BatchNorm2d(n_channels)
            layers[f"conv_relu{number}"] = nn.ReLU()
            if pool > 1:
                layers[f"pool{number}"] = nn.MaxPool2d(pool)
            width, rows, columns = n_channels, rows // pool, columns // pool
        if rows == 0 or columns == 0:
            raise ModelError(
                f"conv2d: nothing is left of an image of {input_shape[1]} x {input_shape[2]} after {len(channels)} "
                f"convolutions of stride {stride} and poolings by {pool}",
                hint="use fewer channels entries, pool: 1 or stride: 1",
            )
        layers["flatten"] = nn.Flatten()
        layers.update(dense_blocks(width * rows * columns, hidden, batch_norm=batch_norm))
        layers["head"] = nn.Linear(hidden[-1] if hidden else width * rows * columns, n_outputs)
        super().__init__(layers)
