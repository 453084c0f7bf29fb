"""Conv2dNet with a stride: what is computed where, against convolutions written out."""

import numpy as np
import pytest
import torch

from trigger_prune.errors import ModelError
from trigger_prune.models.conv2d import Conv2dNet


def test_a_stride_equal_to_the_kernel_sees_every_region_once() -> None:
    torch.manual_seed(0)
    network = Conv2dNet((1, 18, 14), 1, channels=[4], kernel=2, stride=2, pool=1, hidden=[16], batch_norm=False).eval()
    image = torch.randn(3, 1, 18, 14)
    weight, bias = network.conv1.weight.detach().numpy(), network.conv1.bias.detach().numpy()
    tiles = image.numpy()[:, 0].reshape(3, 9, 2, 7, 2)
    by_hand = np.einsum("ncij,bhiwj->bnhw", weight[:, :1].reshape(4, 1, 2, 2), tiles) + bias[None, :, None, None]
    found = network.conv1(image).detach().numpy()
    assert found.shape == (3, 4, 9, 7)
    assert np.allclose(found, by_hand, atol=1e-5)
    assert network.dense1.in_features == 4 * 9 * 7
    assert network(image).shape == (3, 1)


def test_an_even_kernel_needs_a_stride_and_nothing_may_be_left_over() -> None:
    with pytest.raises(ModelError, match="kernel is 2"):
        Conv2dNet((1, 18, 14), 1, kernel=2)
    with pytest.raises(ModelError, match="nothing is left of an image of 4 x 4"):
        Conv2dNet((1, 4, 4), 1, channels=[2, 2, 2], kernel=2, stride=2, pool=1)
