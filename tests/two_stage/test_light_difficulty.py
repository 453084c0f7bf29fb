"""Learned difficulty: the threshold, the targets and their weights, and what it buys."""

import numpy as np
import pytest
import torch
from light_toys import Linear, gaussians, light_inputs, linear_full, trained_full
from scipy.optimize import minimize
from torch.nn import functional

from trigger_prune.config.two_stage_section import LightConfig
from trigger_prune.errors import ConfigError
from trigger_prune.physics.scores import Score
from trigger_prune.two_stage.models.difficulty import difficulty_batches, soft_accept
from trigger_prune.two_stage.models.light_inputs import FullModel, full_scores
from trigger_prune.two_stage.models.make import make_light_models
from trigger_prune.two_stage.models.pruned import put_decision_head
from trigger_prune.two_stage.models.tiny import MixedLoss, logit_of
from trigger_prune.verify.representations import torch_outputs


def scores_of(light, batches):
    return full_scores(FullModel(light.network, light.kept_inputs, light.score), batches.features)


def escalated_for(light_score, full_score, background, fraction, retained):
    """Share of the background that goes to the full model when this share of the accepted signal does."""
    threshold = np.sort(full_score[background])[-round(fraction * background.sum())]
    wanted = light_score[~background & (full_score >= threshold)]
    t_reject = np.sort(wanted)[round((1 - retained) * len(wanted))]
    return float((light_score[background] >= t_reject).mean())


@pytest.mark.parametrize("kind", ["tiny", "inputs"])
def test_learned_escalates_fewer_events_where_labels_and_decision_differ(kind):
    # x0 tells signal from background best, but the full model decides by x1 alone
    inputs = light_inputs(lambda seed: gaussians(seed, [2.0, 1.5, 0.0], rows=8000), fraction=0.01)
    full = linear_full([0.0, 2.0, 0.0])
    lights = make_light_models(
        [
            LightConfig(kind=kind, inputs=3, hidden=[4], distil=0.0, epochs=4),
            LightConfig(kind=kind, inputs=3, hidden=[4], difficulty="learned", epochs=4),
        ],
        full,
        inputs,
    )
    background = (inputs.validation.classes == 0).numpy()
    full_score = full_scores(full, inputs.validation.features)
    plain, learned = (
        escalated_for(scores_of(light, inputs.validation), full_score, background, 0.01, 0.99) for light in lights
    )
    assert learned < 0.03 < 0.06 < plain
    assert [light.difficulty for light in lights] == ["score", "learned"]
    assert all(light.score == Score("head") for light in lights)


def test_the_pruned_network_learns_the_decision_too():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.2, 1.0, 0.0, 0.0], rows=6000), "classify", 0.02)
    full = trained_full(inputs, n_outputs=2)
    lights = make_light_models([LightConfig(kind="pruned", sparsity=0.8, difficulty="learned", epochs=6)], full, inputs)
    assert lights[0].score == Score("head")
    assert torch_outputs(
        lights[0].network, inputs.validation.features[:5, list(lights[0].kept_inputs)].numpy(), double=True
    ).shape == (5, 1)
    background = (inputs.validation.classes == 0).numpy()
    full_score = full_scores(full, inputs.validation.features)
    share = escalated_for(scores_of(lights[0], inputs.validation), full_score, background, 0.02, 0.99)
    assert share < 0.06


def test_threshold_is_the_full_models_at_the_target_rate():
    generator = np.random.default_rng(1)
    scores, physical = generator.normal(size=500).round(1), generator.exponential(size=500)
    background = generator.random(500) < 0.7
    rule = soft_accept(scores, background, physical, 0.05)
    values = np.unique(scores[background])
    total = physical[background].sum()

    def lowest(share):
        return min(v for v in values if physical[background & (scores >= v)].sum() <= share * total)

    assert rule.threshold == lowest(0.05)
    assert rule.scale == pytest.approx(lowest(0.05) - lowest(0.10))
    targets = rule.targets(np.array([rule.threshold, rule.threshold + rule.scale, -1e9, 1e9]))
    assert targets == pytest.approx([0.5, 1 / (1 + np.exp(-1)), 0, 1], abs=1e-9)


def test_a_score_without_steps_between_gives_hard_targets():
    scores = np.repeat([0.0, 1.0], [90, 10])
    rule = soft_accept(scores, np.ones(100, bool), np.ones(100), 0.1)
    assert (rule.threshold, rule.scale) == (1.0, 0.0)
    assert rule.targets(np.array([0.99, 1.0])).tolist() == [0.0, 1.0]
    with pytest.raises(ConfigError, match=r"accepts 0\.1 of the background"):
        soft_accept(scores, np.ones(100, bool), np.ones(100), 0.05)


def test_accepted_and_rejected_events_weigh_the_same():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.0, 1.0]), fraction=0.01)
    inputs.train.weights[:] = torch.rand(len(inputs.train), generator=torch.Generator().manual_seed(0))
    full = linear_full([1.0, 1.0])
    scores = [full_scores(full, part.features) for part in (inputs.train, inputs.validation)]
    train, validation, rule = difficulty_batches(inputs, *scores)
    answers, weights = train.targets.double().numpy(), train.weights.double().numpy()
    assert answers == pytest.approx(rule.targets(scores[0]), abs=1e-6)
    factors = weights / inputs.train.weights.double().numpy()
    assert np.allclose(factors, 1 + (factors.max() - 1) * answers / answers.max(), rtol=1e-4)
    sure = answers > 0.999
    rejected = inputs.train.weights.double().numpy() @ (1 - answers)
    accepted = inputs.train.weights.double().numpy() @ answers
    assert factors[sure] == pytest.approx(rejected / accepted, rel=2e-3)
    # the threshold is that of the training events, also for validation
    assert validation.targets.double().numpy() == pytest.approx(rule.targets(scores[1]), abs=1e-6)


def test_nothing_to_learn_is_refused():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.0]), fraction=0.01)
    full = linear_full([1.0])
    scores = [full_scores(full, part.features) for part in (inputs.train, inputs.validation)]
    inputs.train.weights[scores[0] > scores[0].mean()] = 0.0
    rule = soft_accept(scores[0], (inputs.train.classes == 0).numpy(), np.ones(len(scores[0])), 0.01)
    hard = np.where(scores[0] >= rule.threshold, 5.0, -5.0)
    with pytest.raises(ConfigError, match="rejects every event"):
        difficulty_batches(inputs, hard, scores[1])


def test_the_decision_head_starts_as_the_full_decision():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.5]))
    full = trained_full(inputs)
    scores = full_scores(full, inputs.train.features)
    rule = soft_accept(scores, (inputs.train.classes == 0).numpy(), np.ones(len(scores)), 0.02)
    put_decision_head(full.network, full.score, rule, "x")
    head = full.network.get_submodule("head")
    with torch.no_grad():
        hidden = []
        handle = head.register_forward_pre_hook(lambda _m, args: hidden.append(args[0]))
        full.network(inputs.train.features)
        handle.remove()
        start = hidden[0] @ head.weight.T + head.bias
    wanted = (scores - rule.threshold) / rule.scale
    # the full head's weights were rounded to 8 bits, these are not yet
    assert np.abs(start[:, 0].numpy() - wanted).max() < 0.05 * np.abs(wanted).max()


def test_pruned_cannot_learn_to_decide_by_a_sum_of_squares():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.0, 1.0]))
    full = trained_full(inputs)
    squares = FullModel(full.network, full.kept_inputs, Score("sum_of_squares"))
    with pytest.raises(ConfigError, match=r"pruned-95-learned.*sum_of_squares"):
        make_light_models([LightConfig(kind="pruned", difficulty="learned")], squares, inputs)


@pytest.mark.parametrize("separated", [False, True])
def test_logit_of_a_score_is_the_logistic_regression(separated):
    generator = np.random.default_rng(2)
    labels = (np.arange(400) % 2).astype(float)
    scores = 7.0 + 30.0 * generator.normal(size=400) + 40.0 * labels
    if separated:
        scores = 100.0 * labels + generator.normal(size=400)
    weights = generator.exponential(size=400)
    line = logit_of(scores, labels, weights)
    z = line.slope * scores + line.offset
    if separated:
        assert line.slope > 0 and np.isfinite(line.offset) and ((z > 0) == (labels > 0)).all()
        return

    def loss(p):
        z = p[0] * (scores - 7.0) / 30.0 + p[1]
        return weights @ (np.logaddexp(0, z) - labels * z) / weights.sum()

    best = minimize(loss, [1.0, 0.0], tol=1e-12).x
    assert line.slope == pytest.approx(best[0] / 30.0, rel=1e-3)
    assert line.offset == pytest.approx(best[1] - 7.0 * best[0] / 30.0, abs=2e-3)


def test_the_mixed_loss_is_the_sum_of_its_parts():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.0], rows=40))
    logits = torch.linspace(-3, 3, 40)[:, None]
    part = inputs.train.__class__(
        inputs.train.features, logits, torch.arange(40.0), inputs.train.classes, inputs.train.physical
    )
    outputs = Linear([0.7])(inputs.train.features).detach()
    weights = torch.arange(40.0)
    bce = functional.binary_cross_entropy_with_logits(
        outputs[:, 0], (inputs.train.classes == 1).float(), weight=weights, reduction="sum"
    )
    mse = (weights * (outputs - logits)[:, 0] ** 2).sum() / 2.5
    expected = (0.75 * bce + 0.25 * mse) / weights.sum()
    assert float(MixedLoss((1,), 0.25, 2.5)(outputs, part)) == pytest.approx(float(expected), rel=1e-5)
