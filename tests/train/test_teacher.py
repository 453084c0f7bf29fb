from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from trigger_prune.errors import DataError, ModelError
from trigger_prune.models.mlp import Mlp
from trigger_prune.models.teacher_autoencoder import TeacherAutoencoder, teacher_decoder, teacher_encoder
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.teacher import (
    TeacherLoss,
    feature_units,
    kl_to_unit_normal,
    reconstruction_error,
    reconstruction_errors,
    split_means,
    standardisation,
)


def autoencoder(
    n_features: int, hidden: list[int], latent: int, variational: bool, seed: int = 0
) -> TeacherAutoencoder:
    torch.manual_seed(seed)
    n_outputs = latent * (2 if variational else 1)
    encoder = teacher_encoder((n_features,), [], hidden, n_outputs)
    return TeacherAutoencoder(encoder, teacher_decoder((n_features,), [], hidden, latent), latent, variational)


def test_kl_is_that_of_normal_distributions() -> None:
    generator = torch.Generator().manual_seed(3)
    mean = 3 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    log_variance = 2 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    known = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_to_unit_normal(mean, log_variance), known, rtol=1e-12, atol=0)
    assert kl_to_unit_normal(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0.0


@pytest.mark.parametrize("difference", ["squared", "huber"])
@pytest.mark.parametrize("skips", [False, True])
def test_reconstruction_error_value_by_value(difference: str, skips: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 4, (20, 3, 2, 4)).astype(np.float32)
    restored = rng.normal(0, 3, x.shape).astype(np.float32)
    unit, absent = np.array([0.5, 2.0, 4.0]), np.array([0.0, 1.0, -2.0])
    x[7] = x[8] = absent[:, None, None]
    x[8, 1, 0, 2] = 3.0
    expected = []
    for event, copy in zip(x, restored, strict=True):
        values = []
        for index in np.ndindex(event.shape):
            if skips and event[index] == absent[index[0]]:
                continue
            d = abs(float(copy[index]) - float(event[index])) / unit[index[0]]
            values.append(d**2 if difference == "squared" or d <= 1 else 2 * d - 1)
        expected.append(sum(values) / len(values) if values else 0.0)
    found = reconstruction_error(
        torch.from_numpy(x),
        torch.from_numpy(restored),
        torch.from_numpy(unit),
        torch.from_numpy(absent) if skips else None,
        difference,
    )
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert (expected[7] == 0.0) == skips


def test_the_fit_minimises_error_plus_weighted_kl() -> None:
    """What the history says is, on the means, the weighted mean of the two terms computed one by one."""
    torch.manual_seed(5)
    x, weights = torch.randn(400, 5), torch.rand(400)
    net = autoencoder(5, [6], 2, variational=True)
    teacher = TeacherLoss(net, unit=torch.full((5,), 2.0), absent=None, difference="squared", kl_weight=0.3)
    events = Batches(x, torch.zeros(400, 1), weights)
    settings = FitSettings("teacher", epochs=4, batch_size=64, learning_rate=5e-3, seed=1, task="distil")
    history = fit(teacher, events, events, settings)
    net.eval()
    with torch.no_grad():
        mean, log_variance = net.encoder(x)[:, :2], net.encoder(x)[:, 2:]
        error = ((net.decoder(mean) - x) / 2.0).square().mean(dim=1)
        divergence = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)).sum(dim=1)
        expected = float((weights * (error + 0.3 * divergence)).sum() / weights.sum())
    assert history.best.validation_loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(reconstruction_errors(teacher, x), error.numpy(), rtol=1e-5)


def test_samples_are_drawn_in_training_only() -> None:
    net = autoencoder(5, [6], 2, variational=True)
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(1)).expand(4000, 5)
    net.encoder.eval()
    net.decoder.eval()
    mean, log_variance = net.encode(x)
    assert torch.equal(net.eval()(x), net.decoder(mean))
    drawn: list[torch.Tensor] = []
    net.decoder.register_forward_hook(lambda module, args, output: drawn.append(args[0]))
    net.training = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net(x)
    spread = torch.exp(0.5 * log_variance[0])
    torch.testing.assert_close(
        drawn[0].mean(dim=0), mean[0], rtol=0, atol=5 * float(spread.detach().max()) / math.sqrt(4000)
    )
    torch.testing.assert_close(drawn[0].std(dim=0), spread, rtol=0.06, atol=0)


def test_gradients_are_finite_where_nothing_counts_and_for_events_far_out() -> None:
    net = autoencoder(3, [4], 2, variational=True)
    teacher = TeacherLoss(net, unit=torch.ones(3), absent=torch.zeros(3), difference="huber", kl_weight=0.0)
    plain = TeacherLoss(
        autoencoder(3, [4], 2, False), unit=torch.ones(3), absent=torch.zeros(3), difference="huber", kl_weight=1.0
    )
    x = torch.tensor([[0.0, 0.0, 0.0], [1e6, -1e6, 0.0]])
    for module in (teacher, plain):
        module(x).square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


def test_a_linear_teacher_reaches_what_the_principal_component_leaves() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3)) @ np.array([[2.0, 1.0, 0.5], [0.0, 0.6, 0.3], [0.0, 0.0, 0.4]])
    values = torch.from_numpy((x - x.mean(axis=0)).astype(np.float32))
    weights = torch.ones(len(values))
    unit = feature_units(values, weights, None)
    net = autoencoder(3, [], 1, variational=False)
    teacher = TeacherLoss(net, unit=unit, absent=None, difference="squared", kl_weight=0.0)
    events = Batches(values, torch.zeros(len(values), 1), weights)
    history = fit(
        teacher,
        events,
        events,
        FitSettings("t", epochs=60, batch_size=200, learning_rate=2e-2, seed=1, task="distil", weight_decay=0.0),
    )
    eigenvalues = np.linalg.eigvalsh(np.cov((values / unit).numpy(), rowvar=False, bias=True))
    assert history.best.validation_loss == pytest.approx(eigenvalues[:2].sum() / 3, rel=1e-3)


def test_units_are_weighted_deviations_of_what_counts() -> None:
    rng = np.random.default_rng(4)
    x = np.round(rng.normal(1.0, 3.0, (300, 3, 4)))
    x[:, 2] = 5.0
    weights = rng.uniform(0, 2, 300)
    absent = np.array([0.0, 1.0, 5.0])
    expected = []
    for k in range(2):
        column, w = x[:, k].ravel(), np.repeat(weights, 4)
        kept = column != absent[k]
        mean = np.average(column[kept], weights=w[kept])
        expected.append(math.sqrt(np.average((column[kept] - mean) ** 2, weights=w[kept])))
    found = feature_units(torch.from_numpy(x), torch.from_numpy(weights), torch.from_numpy(absent))
    assert found.tolist() == pytest.approx([*expected, 1.0], rel=1e-6)
    assert feature_units(torch.from_numpy(x), torch.from_numpy(weights), None)[2] == 1.0
    with pytest.raises(DataError, match="no event with a weight"):
        feature_units(torch.from_numpy(x), torch.zeros(300), None)


def test_standardisation_keeps_order_and_is_of_order_one() -> None:
    rng = np.random.default_rng(8)
    values, weights = rng.normal(7.0, 0.02, (5000, 1)), rng.uniform(0, 1, 5000)
    scale = standardisation(values, weights, centre=True)
    found = scale.apply(values).astype(np.float64)
    assert np.average(found[:, 0], weights=weights) == pytest.approx(0.0, abs=1e-6)
    assert 0.5 <= float(np.average(found[:, 0] ** 2, weights=weights)) <= 2.0
    assert math.log2(scale.scale).is_integer()
    assert (
        np.array_equal(np.argsort(found[:, 0]), np.argsort(values[:, 0].astype(np.float32).astype(np.float64)))
        or (np.diff(found[np.argsort(values[:, 0]), 0]) >= 0).all()
    )
    assert standardisation(values, weights, centre=False).offset == 0.0
    with pytest.raises(ModelError, match="nothing to learn"):
        standardisation(np.full((10, 2), 3.0), np.ones(10), centre=True)
    with pytest.raises(ModelError, match="nothing to learn"):
        standardisation(np.zeros((10, 2)), np.ones(10), centre=False)


@pytest.mark.parametrize("n_encoder", [3, 6])
def test_the_student_starts_as_the_scaled_means(n_encoder: int) -> None:
    torch.manual_seed(0)
    encoder, student = Mlp((5,), n_encoder, hidden=[7, 4]), Mlp((5,), 3, hidden=[7, 4])
    x = torch.randn(300, 5)
    encoder(x)  # moves the running statistics of the batch normalisation
    state = split_means(encoder.state_dict(), student, 3, 0.25)
    student.load_state_dict(state)
    encoder.eval()
    student.eval()
    with torch.no_grad():
        torch.testing.assert_close(student(x), 4.0 * encoder(x)[:, :3], rtol=1e-6, atol=1e-6)
    state["head.weight"].add_(1.0)
    assert not torch.equal(state["head.weight"], 4.0 * encoder.state_dict()["head.weight"][:3])
    with torch.no_grad():  # the state is a copy
        torch.testing.assert_close(student(x), 4.0 * encoder(x)[:, :3], rtol=1e-6, atol=1e-6)


def test_only_the_last_linear_may_differ() -> None:
    with pytest.raises(ModelError, match=r"dense1\.weight has shape"):
        split_means(Mlp((5,), 6, hidden=[8]).state_dict(), Mlp((5,), 3, hidden=[7]), 3, 1.0)
    convolution = nn.Sequential(nn.Conv1d(2, 6, 1), nn.Flatten())
    with pytest.raises(ModelError, match=r"end the network in one nn\.Linear"):
        split_means(convolution.state_dict(), nn.Sequential(nn.Conv1d(2, 3, 1), nn.Flatten()), 3, 1.0)


@pytest.mark.parametrize(("shape", "channels"), [((1, 18, 14), [4, 6]), ((2, 7, 5), [3, 4, 5]), ((1, 4, 4), [3])])
def test_a_convolutional_teacher_can_learn_an_image_by_heart(shape: tuple[int, ...], channels: list[int]) -> None:
    torch.manual_seed(1)
    rows, columns = torch.meshgrid(torch.arange(shape[1]), torch.arange(shape[2]), indexing="ij")
    places = [(1, 1), (1, shape[2] - 1), (shape[1] - 1, 1), (shape[1] - 2, shape[2] - 2)]
    x = torch.stack([torch.exp(-((rows - i) ** 2 + (columns - j) ** 2) / 4.0) for i, j in places])
    x = x[:, None].repeat(1, shape[0], 1, 1)
    net = TeacherAutoencoder(
        teacher_encoder(shape, channels, [], 16), teacher_decoder(shape, channels, [], 16), 16, variational=False
    )
    teacher = TeacherLoss(net, unit=torch.ones(shape[0]), absent=None, difference="squared", kl_weight=0.0)
    events = Batches(x, torch.zeros(4, 1), torch.ones(4))
    settings = FitSettings("t", epochs=200, batch_size=4, learning_rate=1e-2, seed=0, task="distil", weight_decay=0.0)
    history = fit(teacher, events, events, settings)
    assert history.best.validation_loss < 0.2 * float(x.var())


def test_channels_need_images() -> None:
    with pytest.raises(ModelError, match="teacher with channels takes events of shape"):
        teacher_encoder((5,), [4], [], 3)
    with pytest.raises(ModelError, match="latent"):
        teacher_decoder((5,), [], [], 0)
