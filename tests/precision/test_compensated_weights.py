"""Rounding with repair: against all grid points where they can be listed, and against what it promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import build_structure
from trigger_prune.quantize.ptq.compensate import (
    InputMoments,
    compensated_type,
    compensated_weights,
    input_moments,
    output_error,
    patches,
)

INPUT = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")
GRID = FixedPoint(3, 1, True, "AP_RND_CONV", "AP_SAT")


def _moments(k: int, seed: int) -> tuple[np.ndarray, InputMoments]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(4000, k)) @ generator.normal(size=(k, k)) + generator.normal(size=k)
    return x, InputMoments(x.mean(0)[None], np.cov(x.T, bias=True)[None])


def test_error_lies_between_the_best_of_all_grid_points_and_plain_rounding() -> None:
    near_best = []
    for seed in range(25):
        _, moments = _moments(4, seed)
        weight = np.random.default_rng(seed + 100).uniform(-0.9, 0.7, (1, 4))
        rounded, _ = compensated_weights(weight, GRID, moments)
        assert GRID.contains(rounded).all()
        levels = np.arange(GRID.min_code, GRID.max_code + 1) * GRID.lsb
        every = [output_error(weight, np.array([point]), moments) for point in itertools.product(levels, repeat=4)]
        mine, plain = output_error(weight, rounded, moments), output_error(weight, GRID.quantize(weight), moments)
        assert min(every) <= mine + 1e-12
        near_best.append((mine, plain, min(every)))
    mine, plain, best = np.array(near_best).sum(axis=0)
    assert best <= mine < 0.6 * plain


def test_error_and_bias_are_those_of_the_outputs() -> None:
    x, moments = _moments(6, 3)
    weight = np.random.default_rng(5).uniform(-0.9, 0.7, (5, 6))
    rounded, shift = compensated_weights(weight, GRID, moments)
    change = x @ (weight - rounded).T
    assert output_error(weight, rounded, moments) == pytest.approx(change.var(axis=0).sum())
    np.testing.assert_allclose(shift, change.mean(axis=0))  # what the bias gets leaves the mean output


def test_weights_on_the_grid_stay_and_equal_inputs_share_their_weight() -> None:
    _, moments = _moments(5, 1)
    on_grid = GRID.quantize(np.random.default_rng(2).uniform(-1, 0.7, (3, 5)))
    rounded, shift = compensated_weights(on_grid, GRID, moments)
    np.testing.assert_array_equal(rounded, on_grid)
    np.testing.assert_array_equal(shift, 0)
    # two copies of one input: 0.1 + 0.1 is nearer to 0.25 + 0 than to 0 + 0
    copies = InputMoments(np.zeros((1, 2)), np.full((1, 2, 2), 1.0))
    rounded, _ = compensated_weights(np.array([[0.1, 0.1]]), GRID, copies)
    assert sorted(rounded.ravel().tolist()) == [0.0, 0.25]


def test_the_type_is_the_best_of_three_binary_points() -> None:
    _, moments = _moments(6, 7)
    weight = np.random.default_rng(8).normal(size=(8, 6)) * 0.9
    trials = {i: FixedPoint(3, i, True, "AP_RND_CONV", "AP_SAT") for i in (0, 1, 2)}
    errors = {i: output_error(weight, compensated_weights(weight, t, moments)[0], moments) for i, t in trials.items()}
    assert compensated_type(weight, trials[1], moments) == trials[min(errors, key=errors.__getitem__)]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 3), (5,)),
        (nn.Conv1d(4, 6, 3, padding=1, groups=2), (4, 7)),
        (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), dilation=(1, 2)), (2, 8, 7)),
        (nn.Conv1d(2, 3, 4, padding="same"), (2, 6)),
    ],
)
def test_patches_times_weights_are_the_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    if isinstance(layer, nn.Conv1d) and layer.padding == "same":
        # torch puts the odd column of zeros behind, and moments do not notice where a border lies
        x = functional.pad(x, (1, 2))
        layer.padding = (0,)
    groups = getattr(layer, "groups", 1)
    weight = layer.weight.reshape(groups, len(layer.weight) // groups, -1)
    by_hand = torch.einsum("gnk,gok->ngo", patches(layer, x), weight).flatten(1) + layer.bias
    expected = layer(x).flatten(2).transpose(1, 2).flatten(0, 1) if x.ndim > 2 else layer(x)
    torch.testing.assert_close(by_hand, expected)


def test_moments_of_every_layer_are_those_of_what_it_reads() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.from_numpy(INPUT.quantize(np.random.default_rng(0).normal(size=(700, 4)))).float()
    found = input_moments(build_structure(model, INPUT, (4,)), x)
    hidden = torch.relu(model[0](x)).detach().double().numpy()
    np.testing.assert_allclose(found["2"].mean[0], hidden.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["2"].covariance[0], np.cov(hidden.T, bias=True), rtol=1e-4, atol=1e-7)
