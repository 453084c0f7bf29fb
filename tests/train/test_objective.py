import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.errors import DataError, ModelError
from trigger_prune.physics.scores import Score
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.objective import Objective

HEAD = Score("head")


def rate_by_brute_force(scores, signal, weights, fraction) -> float:
    """Signal efficiency when thresholds are loosened one distinct score at a time, the last one taken in part."""
    background = weights[~signal].sum() * fraction
    efficiency = 0.0
    for value in sorted(set(scores.tolist()), reverse=True):
        at = scores == value
        gain = weights[at & signal].sum() / weights[signal].sum()
        cost = weights[at & ~signal].sum()
        if cost > background:
            return float(efficiency + gain * background / cost)
        background -= cost
        efficiency += gain
    return float(efficiency)


def events(n: int = 400, seed: int = 0) -> Batches:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, n)
    x = np.round(rng.normal(classes, 1.5) * 2) / 2  # ties
    weights = np.where(classes == 0, rng.uniform(0, 500, n), 1.0)
    weights[::17] = 0.0
    return Batches(
        torch.from_numpy(x[:, None]).float(),
        torch.from_numpy((classes > 0).astype(np.float32)),
        torch.ones(n),
        torch.from_numpy(classes),
        torch.from_numpy(weights),
    )


@pytest.mark.parametrize("fraction", [0.003, 0.05, 0.4])
@pytest.mark.parametrize("batch_size", [64, 10_000])
def test_efficiency_at_a_rate_counts_with_physical_weights(fraction: float, batch_size: int) -> None:
    batches = events()
    objective = Objective("efficiency_at_rate", HEAD, (1, 2), fraction)
    found = evaluate(nn.Identity(), batches, "binary", objective, batch_size=batch_size)
    scores = batches.features[:, 0].double().numpy()
    expected = rate_by_brute_force(scores, batches.classes.numpy() > 0, batches.physical.numpy(), fraction)
    assert found.merit == pytest.approx(expected, rel=1e-12)


def test_auc_is_the_chance_that_signal_beats_background() -> None:
    batches = events(150)
    found = evaluate(nn.Identity(), batches, "binary", Objective("auc", HEAD, (1, 2))).merit
    s, c, w = batches.features[:, 0].numpy(), batches.classes.numpy(), batches.physical.numpy()
    signal, background = np.flatnonzero(c > 0), np.flatnonzero(c == 0)
    pairs = [(w[i] * w[j], 1.0 if s[i] > s[j] else 0.5 if s[i] == s[j] else 0.0) for i in signal for j in background]
    assert found == pytest.approx(sum(w * x for w, x in pairs) / sum(w for w, _ in pairs), rel=1e-10)


def test_the_mean_auc_of_classes_needs_no_signal() -> None:
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(size=(60, 3)))
    classes = torch.from_numpy(rng.integers(0, 3, 60))
    batches = Batches(logits, classes, torch.ones(60), classes, torch.ones(60, dtype=torch.float64))
    found = evaluate(nn.Identity(), batches, "classify", Objective("auc")).merit
    each = []
    for c in range(3):
        score = logits[:, c] - logits[:, [i for i in range(3) if i != c]].amax(dim=1)
        above = score[classes == c][:, None] > score[classes != c][None, :]
        each.append(above.double().mean().item())
    assert found == pytest.approx(np.mean(each))


def test_loss_and_accuracy_are_those_of_the_evaluation() -> None:
    batches = events()
    plain = evaluate(nn.Identity(), batches, "binary")
    assert plain.merit == -plain.loss
    accuracy = evaluate(nn.Identity(), batches, "binary", Objective("accuracy"))
    right = (batches.features[:, 0] > 0) == (batches.targets > 0.5)
    assert accuracy.merit == accuracy.accuracy == right.double().mean().item()


def test_refuses_what_cannot_be_judged() -> None:
    bare = Batches(*[getattr(events(), name) for name in ("features", "targets", "weights")])
    with pytest.raises(DataError, match="classes and physical weights"):
        evaluate(nn.Identity(), bare, "binary", Objective("auc", HEAD, (1,)))
    with pytest.raises(DataError, match="needs a score"):
        Objective("efficiency_at_rate", None, (1,), 0.1)
    with pytest.raises(DataError, match=r"not inside 0\.\.1"):
        Objective("efficiency_at_fpr", HEAD, (1,), 1.5)
    with pytest.raises(ModelError, match="has no classes"):
        evaluate(nn.Identity(), Batches(bare.features, bare.features, bare.weights), "distil", Objective("accuracy"))


def test_a_reconstruction_is_compared_with_every_input_even_one_the_network_has_lost() -> None:
    rng = np.random.default_rng(5)
    inputs = torch.from_numpy(rng.normal(size=(80, 3)))
    classes = torch.from_numpy(rng.integers(0, 2, 80))
    kept = nn.Linear(2, 3).double()
    batches = Batches(inputs[:, 1:], inputs, torch.ones(80), classes, torch.ones(80, dtype=torch.float64))
    found = evaluate(kept, batches, "autoencoder", Objective("auc", Score("reconstruction"), (1,))).merit
    error = (kept(inputs[:, 1:]) - inputs).square().sum(dim=1).detach()
    above = error[classes == 1][:, None] > error[classes == 0][None, :]
    assert found == pytest.approx(above.double().mean().item())
