import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import criterion_by_name
from trigger_prune.quantize.layers import QuantConv1d, QuantLinear

COARSE = FixedPoint(3, 2)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    frozen = QuantConv1d(nn.Conv1d(4, 4, 5, groups=4, bias=False), COARSE, COARSE)
    frozen.weight.requires_grad_(False)
    return nn.Sequential(
        QuantConv1d(nn.Conv1d(3, 4, 1), COARSE, COARSE),
        frozen,
        nn.Flatten(),
        QuantLinear(nn.Linear(4, 2), COARSE, COARSE),
    )


@pytest.mark.parametrize(("name", "power"), [("magnitude_l1", 1), ("magnitude_l2", 2)])
def test_scores_are_powers_of_the_master_weights(name: str, power: int) -> None:
    model = network()
    model[3].weight_mask[0] = 0  # a mask changes nothing: the score says what bringing the weight back is worth
    scores = criterion_by_name(name).score(model, ["3", "0"])
    assert list(scores) == ["3", "0"]
    for key in scores:
        weight = model[int(key)].weight.detach().numpy().astype(np.float64)
        np.testing.assert_array_equal(scores[key].numpy(), np.abs(weight) ** power)
        assert scores[key].dtype == torch.float64
        assert not scores[key].requires_grad


def test_scores_do_not_change_with_the_weights_afterwards() -> None:
    model = network()
    score = criterion_by_name("magnitude_l1").score(model, ["0"])["0"]
    before = score.clone()
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(score, before)


def test_unknown_names_are_named() -> None:
    with pytest.raises(ConfigError, match="'magnitude_l3'; did you mean 'magnitude_l"):
        criterion_by_name("magnitude_l3")
    with pytest.raises(ModelError, match="'2' is no quantised weight layer"):
        criterion_by_name("magnitude_l1").score(network(), ["2"])
