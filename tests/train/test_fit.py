import copy
import math

import pytest
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.layers import QuantLinear
from trigger_prune.train import fit as fit_module
from trigger_prune.train.evaluate import Evaluation
from trigger_prune.train.fit import Batches, FitSettings, evaluate, fit


def toy(n: int, seed: int = 0) -> Batches:
    """Three classes by angle in two of four features; separable."""
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    labels = ((torch.atan2(x[:, 0], x[:, 1]) / math.pi + 1) * 1.5).long().clamp(0, 2)
    return Batches(x, labels, torch.ones(n))


def network(seed: int = 5) -> Mlp:
    torch.manual_seed(seed)
    return Mlp((4,), 3, hidden=(32, 16))


def settings(**changes: object) -> FitSettings:
    base = {"phase": "float", "epochs": 2, "batch_size": 64, "learning_rate": 5e-3, "seed": 1}
    return FitSettings(**{**base, **changes})


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class WithDropout(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def test_learns_a_separable_toy() -> None:
    parts = []
    for seed in range(3):  # three sectors of 108 degrees with gaps of 12, and two features that say nothing
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 3, (2000,), generator=generator)
        angle = (labels + 0.05 + 0.9 * torch.rand(2000, generator=generator)) * (2 * math.pi / 3)
        noise = torch.randn(2000, 2, generator=generator)
        parts.append(
            Batches(torch.cat([angle.sin()[:, None], angle.cos()[:, None], noise], 1), labels, torch.ones(2000))
        )
    model = network()
    history = fit(model, parts[0], parts[1], settings(epochs=20, learning_rate=2e-2))
    assert evaluate(model, parts[2], "classify").accuracy >= 0.99
    assert history.best.validation_accuracy == evaluate(model, parts[1], "classify").accuracy


def test_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    torch.manual_seed(0)
    first = WithDropout()
    second, other = copy.deepcopy(first), copy.deepcopy(first)
    histories = []
    for model, seed, outside in ((first, 1, 10), (second, 1, 20), (other, 2, 10)):
        torch.manual_seed(outside)  # the state outside must not matter
        histories.append(fit(model, toy(500), toy(100, 1), settings(seed=seed)))
    assert same(first, second)
    assert [r.train_loss for r in histories[0].epochs] == [r.train_loss for r in histories[1].epochs]
    assert not same(first, other)


def test_the_seed_orders_the_events() -> None:
    models = [network(), network(), network()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        fit(model, toy(500), toy(100, 1), settings(seed=seed))
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_leaves_random_state_and_modes_as_found() -> None:
    model = network()
    model.train()
    model.norm1.eval()
    state = torch.get_rng_state()
    fit(model, toy(100), toy(50, 1), settings())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and model.dense1.training and not model.norm1.training


def script_validation(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    script_merits(monkeypatch, [(loss, -loss) for loss in losses])


def script_merits(monkeypatch: pytest.MonkeyPatch, figures: list[tuple[float, float]]) -> None:
    scripted = iter([Evaluation(loss, None, merit) for loss, merit in figures])
    monkeypatch.setattr(fit_module, "evaluate", lambda *_: next(scripted))


@pytest.mark.parametrize(
    ("changes", "epochs_run", "best"),
    [
        ({"patience_epochs": 2}, 5, 2),  # 1.0 0.9 0.8 | 0.8 0.85 -> stop; an equal loss is no improvement
        ({"patience_epochs": None}, 7, 6),
        ({"select_from_epoch": 4}, 7, 6),
        ({"select_from_epoch": 3, "patience_epochs": 3}, 7, 6),
        ({"select": "last"}, 7, 6),
    ],
)
def test_early_stopping_restores_the_weights_of_the_best_epoch(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], epochs_run: int, best: int
) -> None:
    script_validation(monkeypatch, [1.0, 0.9, 0.8, 0.8, 0.85, 0.9, 0.1])
    model = network()
    states = []
    history = fit(
        model,
        toy(200),
        toy(50, 1),
        settings(epochs=7, **changes),
        progress=lambda record, total: states.append((record, total, copy.deepcopy(model))),
    )
    assert len(history.epochs) == epochs_run
    assert history.best_index == best
    assert [state[0] for state in states] == list(history.epochs)
    assert [same(model, state[2]) for state in states] == [i == best for i in range(epochs_run)]


def test_the_merit_decides_and_the_loss_breaks_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    script_merits(monkeypatch, [(0.1, 0.5), (0.9, 0.7), (0.8, 0.7), (0.85, 0.7), (0.2, 0.6)])
    history = fit(network(), toy(100), toy(50), settings(epochs=5))
    assert history.best_index == 2
    assert [record.validation_merit for record in history.epochs] == [0.5, 0.7, 0.7, 0.7, 0.6]


def test_a_batch_loss_takes_the_place_of_the_task_s_loss() -> None:
    seen = []

    def only_first_weight(outputs: torch.Tensor, part: Batches) -> torch.Tensor:
        seen.append((len(outputs), part.classes, part.physical))
        return outputs.square().mean()

    events = toy(100)
    labelled = Batches(
        events.features, events.targets, events.weights, events.targets, torch.arange(100, dtype=torch.float64)
    )
    model = network()
    before = model(events.features).detach().square().mean()
    fit(model, labelled, toy(50), settings(epochs=20, batch_loss=only_first_weight))
    assert model(events.features).detach().square().mean() < before / 2
    assert all(classes is not None and len(classes) == len(physical) == n for n, classes, physical in seen)
    shuffled = torch.cat([physical for _, _, physical in seen[: len(seen) // 20]])
    assert sorted(shuffled.tolist()) == list(range(100))


def test_an_epoch_before_select_from_epoch_is_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    script_validation(monkeypatch, [0.1, 0.2, 0.9, 0.8, 0.85])
    assert fit(network(), toy(100), toy(50), settings(epochs=5, select_from_epoch=2)).best_index == 3
    script_validation(monkeypatch, [0.9, 0.1])
    with pytest.raises(ModelError, match="select_from_epoch 2 leaves none of 2 epochs"):
        fit(network(), toy(100), toy(50), settings(select_from_epoch=2))


def test_buffers_left_out_of_state_dict_are_restored_too(monkeypatch: pytest.MonkeyPatch) -> None:
    script_validation(monkeypatch, [0.5, 0.1, 0.9])
    model = network()
    model.register_buffer("counter", torch.zeros(()), persistent=False)
    fit(model, toy(64), toy(8), settings(epochs=3), on_step=lambda step, _: model.counter.fill_(step))
    assert float(model.counter) == 1.0


def test_clipping_limits_the_gradient_that_the_optimiser_sees() -> None:
    norms: dict[float | None, list[float]] = {}
    for limit in (None, 0.05):
        model = network()

        def record(_: object, model: nn.Module = model, limit: float | None = limit) -> None:
            squares = sum(float(p.grad.square().sum()) for p in model.parameters())
            norms.setdefault(limit, []).append(squares**0.5)

        fit(model, toy(500), toy(50, 1), settings(gradient_clip_norm=limit), on_after_step=record)
    assert min(norms[None]) > 0.05
    assert max(norms[0.05]) <= 0.05 * (1 + 1e-5)


def reference_fit(model: nn.Module, train: Batches, steps: int, rates: list[float]) -> None:
    """Full-batch AdamW written out (I. Loshchilov and F. Hutter, arXiv:1711.05101), float64."""
    parameters = list(model.parameters())
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    for step in range(steps):
        logits = model(train.features)
        picked = logits.log_softmax(1)[torch.arange(len(logits)), train.targets]
        loss = -(picked * train.weights).sum() / train.weights.sum()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                p.mul_(1 - rates[step] * 0.01)
                p.sub_(rates[step] * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8))


def double(batches: Batches) -> Batches:
    return Batches(batches.features.double(), batches.targets, batches.weights.double())


def test_equals_adamw_written_out_by_hand() -> None:
    train = double(toy(40))
    train = Batches(train.features, train.targets, torch.rand(40, generator=torch.Generator().manual_seed(3)).double())
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    by_hand = copy.deepcopy(model)
    history = fit(
        model,
        train,
        train,
        settings(epochs=12, batch_size=40, weight_decay=0.01, gradient_clip_norm=None, select="last"),
    )
    reference_fit(by_hand, train, 12, [record.learning_rate for record in history.epochs])
    for a, b in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_weight_three_equals_three_copies() -> None:
    events = double(toy(30))
    copies = torch.tensor([1, 3, 2] * 10)
    weighted = Batches(events.features, events.targets, copies.double())
    repeated = events.take(torch.arange(30).repeat_interleave(copies))
    results = []
    for train in (weighted, repeated):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        history = fit(model, train, train, settings(epochs=10, batch_size=100))
        results.append((history.best.validation_loss, history.best.validation_accuracy, model[0].weight))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-12)
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-9, atol=1e-12)


def three(events: Batches) -> tuple[torch.Tensor, ...]:
    return events.features, events.targets, events.weights


def test_events_of_weight_zero_have_no_influence() -> None:
    events = toy(300)
    wild = Batches(torch.full((40, 4), 1e6), torch.zeros(40, dtype=torch.int64), torch.zeros(40))
    mixed = Batches(*(torch.cat(pair) for pair in zip(three(wild), three(events), strict=True)))
    clean, disturbed = network(), network()
    fit(clean, events, events, settings())
    history = fit(disturbed, mixed, mixed, settings())
    assert same(clean, disturbed)
    assert history.best.validation_loss == pytest.approx(evaluate(clean, events, "classify").loss, rel=1e-6)


def test_train_loss_is_the_weighted_mean_over_the_epoch() -> None:
    train = toy(250)
    train = Batches(train.features, train.targets, torch.rand(250, generator=torch.Generator().manual_seed(3)) + 0.1)
    model = nn.Linear(4, 3)
    history = fit(model, train, train, settings(epochs=1, learning_rate=1e-12))
    assert history.best.train_loss == pytest.approx(evaluate(model, train, "classify").loss, rel=1e-5)


def test_frozen_parameters_stay() -> None:
    model = DeepSets((3, 5), 2, phi=(4,), rho=())
    x = torch.randn(64, 3, 5, generator=torch.Generator().manual_seed(0))
    events = Batches(x, (x.sum((1, 2)) > 0).long(), torch.ones(64))
    before = copy.deepcopy(model)
    fit(model, events, events, settings(weight_decay=0.5))
    assert torch.equal(model.mean.weight, before.mean.weight)
    assert not torch.equal(model.phi1.weight, before.phi1.weight)


def test_steps_are_counted_over_all_epochs_and_no_batch_is_tiny() -> None:
    sizes: list[int] = []
    seen: list[tuple[int, int]] = []

    class Watch(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                sizes.append(len(x))
            return super().forward(x)

    fit(Watch(4, 3), toy(65), toy(10), settings(epochs=3), on_step=lambda *step: seen.append(step))
    assert seen == [(step, 6) for step in range(6)]
    assert sorted(sizes) == [32] * 3 + [33] * 3


def test_history_reports_the_sparsity_of_the_masks() -> None:
    fixed = FixedPoint(6, 2)
    model = nn.Sequential(QuantLinear(nn.Linear(4, 8), fixed, fixed), QuantLinear(nn.Linear(8, 3), fixed, fixed))

    def mask(step: int, _: int) -> None:
        model[0].weight_mask.flatten()[: 7 * (step + 1)] = 0

    history = fit(model, toy(64), toy(10), settings(epochs=2, batch_size=64), on_step=mask)
    assert [record.sparsity for record in history.epochs] == [7 / 56, 14 / 56]


def test_a_loss_that_is_not_finite_names_phase_epoch_and_step() -> None:
    def poison(step: int, total: int) -> None:
        if step == 10:
            with torch.no_grad():
                model.head.bias[0] = float("nan")

    model = network()
    with pytest.raises(ModelError, match=r"float, epoch 1, step 2 of 8: the training loss is nan"):
        fit(model, toy(500), toy(50), settings(), on_step=poison)
    bad = toy(50)
    bad.features[3, 0] = float("inf")
    with pytest.raises(ModelError, match=r"epoch 0, after step 7: the validation loss is nan"):
        fit(network(), toy(500), bad, settings())


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ModelError, match="no parameter to train"):
        fit(nn.Linear(4, 3).requires_grad_(False), toy(10), toy(10), settings())
    empty = Batches(toy(10).features, toy(10).targets, torch.zeros(10))
    with pytest.raises(ModelError, match="no training event has a weight"):
        fit(network(), empty, toy(10), settings())
