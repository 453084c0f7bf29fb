import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trigger_prune.config.project import ProjectConfig, TrainConfig
from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.stages.goal import Goal
from trigger_prune.pipeline.stages.training import fit_settings
from trigger_prune.train.fit import Batches, FitSettings, fit
from trigger_prune.train.objective import Objective
from trigger_prune.train.surrogate import (
    EfficiencySurrogate,
    efficiency_surrogate,
    lost_signal_bound,
    threshold_bound,
)

EVEN = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
HEAD = Score("head")


def exact_losses(scores: Tensor, signal: Tensor, weights: Tensor, fraction: float) -> tuple[float, float]:
    """Lost signal with the best threshold that keeps the rate, and with random tie-breaking."""
    s, positive, w = scores.double().numpy(), signal.numpy(), weights.numpy()
    background = w[~positive]
    allowed = [t for t in [-np.inf, *s] if background[s[~positive] > t].sum() <= fraction * background.sum()]
    kept = w[positive & (s > min(allowed))].sum() / w[positive].sum()
    return 1 - kept, 1 - signal_efficiency_at(roc_curve(s, positive, w), fraction)


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_is_never_below_the_exact_loss_of_signal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 400))
    signal = torch.from_numpy(rng.random(n) < 0.4)
    signal[:2] = torch.tensor([True, False])
    scores = torch.from_numpy(rng.standard_t(2, n) * 10 ** rng.uniform(-2, 2) + 3 * signal.numpy())
    if seed % 2:
        scores = scores.round()  # many ties, as integer networks give them
    weights = torch.from_numpy(rng.exponential(size=n) ** 3)
    weights[2:] *= torch.from_numpy(rng.random(n - 2) < 0.9)
    fraction, temperature = 10 ** rng.uniform(-3, -0.1), 10 ** rng.uniform(-1, 1)
    bound = float(lost_signal_bound(scores, signal, weights, fraction, temperature))
    assert bound >= max(exact_losses(scores, signal, weights, fraction)) - 1e-9
    above = weights[~signal & (scores > threshold_bound(scores, weights * ~signal, fraction, temperature))].sum()
    assert above <= fraction * weights[~signal].sum() * (1 + 1e-9)


def test_the_threshold_of_a_gaussian_background_is_its_cumulant_generating_function() -> None:
    mean, width, fraction, temperature = 0.7, 1.3, 0.01, 0.9
    scores = mean + width * torch.special.ndtri(EVEN)
    expected = mean + width**2 / (2 * temperature) - temperature * math.log(fraction)
    found = threshold_bound(scores, torch.ones_like(scores), fraction, temperature)
    assert float(found) == pytest.approx(expected, abs=2e-3)


def test_at_zero_temperature_only_signal_above_all_background_is_kept() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 1.5, 2.5, 3.0, 0.5], dtype=torch.float64)
    signal = torch.tensor([0, 0, 0, 1, 1, 1, 1], dtype=torch.bool)
    weights = torch.tensor([5.0, 1.0, 2.0, 1.0, 3.0, 1.0, 1.0], dtype=torch.float64)
    cold = 1e-4
    steps = (threshold_bound(scores, weights * ~signal, 0.2, cold) - scores[signal]).clamp_min(0) / cold / math.log(2)
    bound = lost_signal_bound(scores, signal, weights, 0.2, cold)
    assert float(bound) == pytest.approx(float((steps * weights[signal]).sum() / 6), rel=1e-9)
    assert float(steps[1]) == float(steps[2]) == 0 and float(steps[0]) > 1 and float(steps[3]) > 1


def test_with_the_best_temperature_the_bound_of_separated_classes_vanishes() -> None:
    scores = torch.cat([EVEN[::100], EVEN[::100] + 1.5])
    signal = torch.arange(len(scores)) >= len(scores) // 2
    bounds = [float(lost_signal_bound(scores, signal, torch.ones_like(scores), 0.05, t)) for t in (1.0, 0.1, 0.01)]
    assert bounds[0] > bounds[1] > bounds[2] and bounds[2] < 1e-12


def test_a_row_of_weight_three_counts_as_three_rows_and_one_of_weight_zero_as_none() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(50, generator=generator, dtype=torch.float64)
    signal = torch.arange(50) % 3 == 0
    times = torch.randint(0, 4, (50,), generator=generator)
    repeated = lost_signal_bound(
        scores.repeat_interleave(times), signal.repeat_interleave(times), torch.ones(int(times.sum())).double(), 0.1
    )
    weighted = lost_signal_bound(scores, signal, times.double(), 0.1)
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-12)
    # the two classes have scales of their own: neither changes the rate as a fraction
    scaled = lost_signal_bound(scores, signal, times * torch.where(signal, 1e-3, 1e7).double(), 0.1)
    assert float(scaled) == pytest.approx(float(repeated), rel=1e-12)


def test_gradients_are_those_of_finite_differences_and_add_up_to_zero() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(30, generator=generator, dtype=torch.float64, requires_grad=True)
    signal = torch.arange(30) % 2 == 0
    weights = torch.rand(30, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: lost_signal_bound(s, signal, weights, 0.05, 0.7), (scores,))
    lost_signal_bound(scores, signal, weights, 0.05, 0.7).backward()
    assert scores.grad is not None
    # signal is pushed up, background down, and a common shift of all scores changes nothing
    assert (scores.grad[signal] < 0).all() and (scores.grad[~signal] > 0).all()
    assert float(scores.grad.sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("present", ["signal", "background"])
def test_a_batch_of_one_kind_loses_nothing_and_has_zero_gradients(present: str) -> None:
    scores = torch.linspace(-2, 2, 5, requires_grad=True)
    signal = torch.full((5,), present == "signal")
    bound = lost_signal_bound(scores, signal, torch.ones(5, dtype=torch.float64), 0.01)
    assert float(bound.detach()) == 0.0
    bound.backward()
    assert scores.grad is not None and torch.equal(scores.grad, torch.zeros(5))


def test_the_loss_is_cross_entropy_with_its_own_weights_plus_the_bound_with_physical_ones() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.5], [1.0, 3.0, 0.0], [0.2, 0.1, 0.4]])
    classes = torch.tensor([0, 1, 1, 2])
    loss_weights, physical = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0, 1.0, 5.0, 30.0]).double()
    score = Score("difference", (1, 2), (0,))
    surrogate = EfficiencySurrogate("classify", score, (1, 2), 0.1, temperature=0.5, strength=0.25)
    found = float(surrogate(logits, Batches(logits, classes, loss_weights, classes, physical)))
    each = [-float(torch.log_softmax(row, 0)[c]) for row, c in zip(logits, classes, strict=True)]
    entropy = sum(w * e for w, e in zip(loss_weights.tolist(), each, strict=True)) / 10
    threshold = -1.5 - 0.5 * math.log(0.1)  # the one background event, at a fraction of 0.1
    bound = 0.0
    for s, w in ((1.0, 1.0), (2.0, 5.0), (0.2, 30.0)):
        bound += w / 36 * math.log2(1 + math.exp((threshold - s) / 0.5))
    assert found == pytest.approx(entropy + 0.25 * bound, rel=1e-5)


def tail_toy(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Signal at (2.5, 1.5); of the background 4 % lies at (4, 0), the rest at (0, 0); unit widths.

    In the bulk of the background the first feature is the better one, at 1 % background the second.
    """
    rng = np.random.default_rng(seed)
    signal = np.arange(n) % 2 == 0
    x = rng.normal(size=(n, 2))
    x[signal] += (2.5, 1.5)
    x[~signal, 0] += 4 * (rng.random((~signal).sum()) < 0.04)
    return x, signal, np.ones(n)


def trained_efficiency(surrogate: bool) -> tuple[float, float]:
    """Efficiency at 1 % background of a trained linear score and of the best direction, on other events."""
    x, signal, weights = tail_toy(20_000, 0)
    test, test_signal, test_weights = tail_toy(60_000, 1)
    features, labels = torch.from_numpy(x).float(), torch.from_numpy(signal.astype(np.int64))
    events = Batches(features, labels.float(), torch.ones(len(x)), labels, torch.from_numpy(weights))
    objective = Objective("efficiency_at_fpr", HEAD, (1,), 0.01)
    loss = efficiency_surrogate("binary", objective, (0, 1)) if surrogate else None
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    fit(network, events, events, FitSettings("toy", 15, 1000, 0.1, 1, task="binary", batch_loss=loss, select="last"))

    def efficiency(scores: NDArray[np.float64]) -> float:
        return signal_efficiency_at(roc_curve(scores, test_signal, test_weights), 0.01)

    angles = np.radians(np.arange(0, 91, 5))
    best = max(efficiency(test @ np.array([math.cos(a), math.sin(a)])) for a in angles)
    return efficiency(test @ network.weight.detach().double().numpy()[0]), best


def test_finds_the_direction_that_is_best_in_the_tail_where_cross_entropy_does_not() -> None:
    found, best = trained_efficiency(surrogate=True)
    plain, _ = trained_efficiency(surrogate=False)
    assert found > best - 0.03
    assert plain < best - 0.06


@pytest.mark.parametrize("phase", ["float", "qat", "prune"])
def test_the_key_train_loss_selects_it_for_every_fit_of_a_project(phase: str) -> None:
    objective = Objective("efficiency_at_rate", HEAD, (1,), 0.003)
    goal = Goal("binary", objective, HEAD, (1,), (0, 1), "balanced", 0.6)
    events = SimpleNamespace(train=SimpleNamespace(n_events=100))

    def batch_loss(goal: Goal, **train: object) -> object:
        context = SimpleNamespace(config=ProjectConfig(project="toy", train=TrainConfig(**train)))
        return fit_settings(context, events, goal, phase, 1, 1e-3).batch_loss

    assert batch_loss(goal) is None
    assert batch_loss(goal, loss="efficiency_surrogate") == EfficiencySurrogate("binary", HEAD, (1,), 0.003)
    with pytest.raises(ConfigError, match="objective loss has no background rate"):
        batch_loss(replace(goal, objective=Objective()), loss="efficiency_surrogate")


def test_what_has_no_surrogate_is_refused() -> None:
    at_fpr = Objective("efficiency_at_fpr", HEAD, (1,), 0.01)
    assert efficiency_surrogate("binary", at_fpr, (0, 1)) == EfficiencySurrogate("binary", HEAD, (1,), 0.01)
    with pytest.raises(ConfigError, match="task autoencoder learns no signal"):
        efficiency_surrogate("autoencoder", at_fpr, (0, 1))
    with pytest.raises(ConfigError, match="objective auc has no background rate"):
        efficiency_surrogate("binary", Objective("auc", HEAD, (1,)), (0, 1))
    with pytest.raises(ConfigError, match="objective accuracy has no background rate"):
        efficiency_surrogate("classify", Objective("accuracy"), (0, 1))
    for trained in ((0,), (1,)):
        with pytest.raises(ConfigError, match=r"train\.classes must name signal and background"):
            efficiency_surrogate("binary", at_fpr, trained)
    plain = Batches(torch.zeros(2, 1), torch.zeros(2), torch.ones(2))
    with pytest.raises(DataError, match="physical weights"):
        efficiency_surrogate("binary", at_fpr, (0, 1))(torch.zeros(2, 1), plain)
