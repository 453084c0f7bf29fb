import math

import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.errors import ConfigError, DataError, ModelError
from trigger_prune.train.device import resolve_device
from trigger_prune.train.evaluate import Batches, evaluate, predict
from trigger_prune.train.loss import event_losses, weighted_mean
from trigger_prune.train.schedule import one_cycle_learning_rate
from trigger_prune.train.weights import class_factors


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3.0), 0.0, 0.0, 0.0]], dtype=torch.float64)
    losses = event_losses(logits, torch.tensor([2, 0]), "classify")
    np.testing.assert_allclose(losses, [math.log(4.0), math.log(2.0)])
    assert float(weighted_mean(losses, torch.tensor([1.0, 3.0]))) == pytest.approx(5 / 4 * math.log(2.0))


def test_reconstruction_error_by_hand() -> None:
    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    targets = torch.tensor([[[1.0], [4.0]], [[3.0], [1.0]]])  # another layout of the same values
    np.testing.assert_allclose(event_losses(outputs, targets, "autoencoder"), [2.0, 5.0])


class Table(nn.Module):
    """Looks its outputs up, so that truth is known; counts its calls' sizes."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.sizes.append(len(x))
        return self.rows[x[:, 0].long()]


def test_evaluate_weighs_loss_and_accuracy_over_all_batches() -> None:
    table = Table(torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [0.0, math.log(7.0)]], dtype=torch.float64))
    batches = Batches(
        torch.tensor([[1.0], [2.0], [1.0]], dtype=torch.float64),
        torch.tensor([0, 0, 1]),
        torch.tensor([5.0, 2.0, 1.0], dtype=torch.float64),
    )
    result = evaluate(table, batches, "classify", batch_size=2)
    expected = (5 * math.log(4 / 3) + 2 * math.log(8) + math.log(4)) / 8
    assert (result.loss, result.accuracy) == (pytest.approx(expected, rel=1e-14), 5 / 8)
    assert table.sizes == [2, 1]
    assert table.training
    with pytest.raises(ModelError, match="no weight"):
        evaluate(table, Batches(batches.features, batches.targets, torch.zeros(3)), "classify")


def test_predict_does_not_narrow_a_float64_network() -> None:
    third = torch.tensor([[1 / 3, 2 / 3]], dtype=torch.float64)
    outputs = predict(Table(third), torch.zeros(5, 1), batch_size=2)
    assert outputs.dtype == np.float64
    np.testing.assert_array_equal(outputs, np.repeat([[1 / 3, 2 / 3]], 5, axis=0))


def test_schedule_is_torchs_one_cycle() -> None:
    total = 97
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    truth = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.02,
        total_steps=total,
        pct_start=0.3,
        div_factor=25,
        final_div_factor=40,
        cycle_momentum=False,
    )
    for step in range(total):
        mine = one_cycle_learning_rate(
            step, total, 0.02, warmup_fraction=0.3, start_fraction=1 / 25, final_fraction=1 / 1000
        )
        assert mine == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), step
        optimizer.step()
        truth.step()


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.3), (2, 0.3), (3, 0.3), (5, 0.0), (5, 1.0)])
def test_short_schedules_stay_between_the_ends(total: int, warmup: float) -> None:
    rates = [
        one_cycle_learning_rate(s, total, 1.0, warmup_fraction=warmup, start_fraction=0.04, final_fraction=0.001)
        for s in range(total)
    ]
    assert all(0.001 - 1e-12 <= rate <= 1.0 + 1e-12 for rate in rates)
    assert max(rates) == pytest.approx(1.0)


def test_balanced_factors_give_every_class_the_same_total_and_mean_one() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=500, p=[0.7, 0.2, 0.1])
    weights = rng.exponential(3.0, size=500)
    factors = class_factors(labels, weights, 3, "balanced")
    loss_weights = weights * factors[labels]
    np.testing.assert_allclose([loss_weights[labels == c].sum() for c in range(3)], 500 / 3)
    unbalanced = weights * class_factors(labels, weights, 3, "none")[labels]
    assert unbalanced.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(unbalanced / weights, unbalanced[0] / weights[0])


def test_classes_without_weight_are_an_error_only_when_balanced() -> None:
    labels, weights = np.array([0, 0, 2]), np.array([1.0, 1.0, 2.0])
    np.testing.assert_allclose(class_factors(labels, weights, 3, "none"), 3 / 4)
    with pytest.raises(DataError, match="class 1 has no weight"):
        class_factors(labels, weights, 3, "balanced")
    with pytest.raises(DataError, match="no event of weight"):
        class_factors(labels, np.zeros(3), 3, "none")


def test_device_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
