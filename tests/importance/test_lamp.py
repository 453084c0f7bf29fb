import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import criterion_by_name
from trigger_prune.quantize.layers import QuantLinear

TYPE = FixedPoint(8, 2)


def brute_force(weight: np.ndarray) -> np.ndarray:
    """Straight from the definition: every weight against all that are at least as large."""
    squares = weight.astype(np.float64) ** 2
    return np.array([[w / squares[squares >= w].sum() if w else 0.0 for w in row] for row in squares])


@pytest.mark.parametrize("tied", [False, True])
def test_scores_follow_the_definition(tied: bool) -> None:
    torch.manual_seed(4)
    layer = QuantLinear(nn.Linear(9, 7), TYPE, TYPE)
    with torch.no_grad():
        if tied:
            layer.weight.copy_(torch.randint(-2, 3, (7, 9)))
        layer.weight_mask[2:4] = 0
    model = nn.Sequential(layer)
    scores = criterion_by_name("lamp").score(model, ["0"])["0"]
    expected = brute_force((layer.weight * layer.weight_mask).detach().numpy())
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-12, atol=0)
    assert scores.dtype == torch.float64 and not scores.requires_grad


def test_scores_do_not_depend_on_the_scale_of_a_layer() -> None:
    """The reason for LAMP: a layer of small weights is not at the bottom of a ranking over the whole network."""
    torch.manual_seed(5)
    model = nn.Sequential(QuantLinear(nn.Linear(6, 5), TYPE, TYPE))
    before = criterion_by_name("lamp").score(model, ["0"])["0"]
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    after = criterion_by_name("lamp").score(model, ["0"])["0"]
    torch.testing.assert_close(after, before, rtol=1e-5, atol=0)
    assert float(after.max()) == 1.0


def test_a_layer_without_weights_left_scores_zero() -> None:
    model = nn.Sequential(QuantLinear(nn.Linear(3, 2), TYPE, TYPE))
    model[0].weight_mask.zero_()
    assert not criterion_by_name("lamp").score(model, ["0"])["0"].any()
