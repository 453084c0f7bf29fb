from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trigger_prune.config.load import load_project
from trigger_prune.config.project import InputConfig, PhysicsConfig, ProjectConfig, SplitConfig, TrainConfig
from trigger_prune.data.sample import EventSample
from trigger_prune.data.split import split_sample
from trigger_prune.data.transform import fit_input_transform
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.models.teacher_autoencoder import TeacherAutoencoder, teacher_decoder, teacher_encoder
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.progress import progress_for
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.pipeline.stages.teacher import TEACHER, Teacher
from trigger_prune.pipeline.stages.training import float_model
from trigger_prune.pipeline.view import view_of
from trigger_prune.train.evaluate import evaluate

LATENT = {"target": "latent", "hidden": [6], "latent": 3, "kl_weight": 0.01, "epochs": 3, "skip_zeros": True}
IMAGES = {"target": "error", "channels": [3, 4], "hidden": [], "latent": 5, "epochs": 3}
MODEL = {"name": "mlp", "args": {"hidden": [6]}}


def sample(shape: tuple[int, ...] = (5,), n: int = 1200, seed: int = 0, signal_seed: int = 1) -> EventSample:
    """Two thirds background; the numbers of the background do not depend on ``signal_seed``."""
    rng, other = np.random.default_rng(seed), np.random.default_rng(signal_seed)
    labels = (np.arange(n) % 3 == 2).astype(np.int64)
    x = np.abs(np.round(rng.normal(8.0, 6.0, (n, *shape))))
    x[rng.random(x.shape) < 0.2] = 0.0
    weights = rng.uniform(0.1, 5.0, n)
    signal = labels == 1
    x[signal] = np.round(other.normal(40.0, 9.0, (int(signal.sum()), *shape)))
    weights[signal] = other.uniform(0.1, 90.0, int(signal.sum()))
    names = tuple(f"f{k}" for k in range(shape[0]))
    return EventSample(
        x.astype(np.float32), labels, weights, np.arange(n), names, ("minimum_bias", "HH4b"), "toy", rate_weights=False
    )


def events_of(raw: EventSample, like: Events | None = None) -> Events:
    split = split_sample(raw, SplitConfig())
    transform = like.transform if like else fit_input_transform(split.train, InputConfig(integer_bits=5))
    parts = {
        name: replace(part, features=transform.apply(part.features))
        for name, part in (("train", split.train), ("validation", split.validation), ("test", split.test))
    }
    return Events(**parts, transform=transform, saturated_fraction=())


def context(events: Events, taught: object = None, **keys: Any) -> Any:
    keys = {"task": "distil", "model": MODEL, "train": TrainConfig(classes=["minimum_bias"]), **keys}
    return SimpleNamespace(
        config=ProjectConfig(project="toy", **keys),
        project_dir=Path(),
        progress=progress_for(None),
        result={"load": events, "teacher": taught}.__getitem__,
    )


def teach(events: Events, **keys: Any) -> Teacher:
    """The stage's result, its view of the project limited to the keys it declares."""
    full = context(events, **keys)
    full.config = view_of(full.config, TEACHER.config_keys, "teacher")
    found: Teacher = TEACHER.compute(full)
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


@pytest.mark.parametrize(("shape", "keys"), [((5,), LATENT), ((1, 6, 5), IMAGES)])
def test_the_signal_changes_no_bit_of_the_teacher(shape: tuple[int, ...], keys: dict[str, Any]) -> None:
    events = events_of(sample(shape))
    others = events_of(sample(shape, signal_seed=77), like=events)
    first, second = teach(events, teacher=keys), teach(others, teacher=keys)
    assert same(first.state, second.state)
    assert (first.encoder_state is None) == (keys["target"] == "error")
    if first.encoder_state is not None:
        assert same(first.encoder_state, second.encoder_state)
    assert first.scale == second.scale
    for part, own in events.parts.items():
        background = own.labels == 0
        assert np.array_equal(first.targets[part][background], second.targets[part][background])
        assert not np.array_equal(first.targets[part][~background], second.targets[part][~background])


def test_the_same_seed_gives_the_same_teacher_and_another_one_another() -> None:
    events = events_of(sample())
    found = []
    for seed in (4, 4, 5):
        torch.rand(3)  # torch's global random state must not matter
        found.append(teach(events, teacher=LATENT, seed=seed))
    first, again, other = found
    assert same(first.state, again.state)
    assert np.array_equal(first.scores["test"], again.scores["test"])
    assert not same(first.state, other.state)


@pytest.mark.parametrize("kl_weight", [0.0, 0.01])
def test_a_student_that_starts_as_the_encoder_has_no_loss(kl_weight: float) -> None:
    events = events_of(sample())
    keys = {"teacher": {**LATENT, "kl_weight": kl_weight}, "physics": PhysicsConfig(signal=["HH4b"])}
    found = teach(events, **keys)
    full = context(events, found, **keys)
    student = float_model(full, events)
    student.load_state_dict(found.encoder_state)
    goal = goal_of(full)
    assert goal.score == Score("sum_of_squares")
    for part in ("train", "validation", "test"):
        assert evaluate(student, make_batches(events, part, goal), "distil").loss == 0.0
    # the encoder's own first outputs, but for a power of two
    autoencoder = rebuilt(found, variational=kl_weight > 0)
    with torch.no_grad():
        means = autoencoder.encoder(torch.from_numpy(events.test.features))[:, :3].double().numpy()
    np.testing.assert_allclose(found.targets["test"] * found.scale.scale, means, rtol=1e-4, atol=1e-5)
    squares = np.square(found.targets["test"].astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(found.scores["test"], squares, rtol=1e-12)
    share = events.train.weights * (events.train.labels == 0)
    spread = np.average(np.square(found.targets["train"]).mean(axis=1), weights=share)
    assert 0.5 <= spread <= 2.0


def rebuilt(found: Teacher, variational: bool) -> TeacherAutoencoder:
    from trigger_prune.models.mlp import Mlp

    encoder = Mlp((5,), 6 if variational else 3, hidden=[6])
    autoencoder = TeacherAutoencoder(encoder, teacher_decoder((5,), [], [6], 3), 3, variational)
    prefix = "autoencoder."
    autoencoder.load_state_dict({k.removeprefix(prefix): v for k, v in found.state.items() if k.startswith(prefix)})
    autoencoder.eval()
    return autoencoder


def test_the_target_is_the_logarithm_of_the_reconstruction_error() -> None:
    shape = (1, 6, 5)
    events = events_of(sample(shape))
    found = teach(events, teacher=IMAGES)
    autoencoder = TeacherAutoencoder(
        teacher_encoder(shape, [3, 4], [], 5), teacher_decoder(shape, [3, 4], [], 5), 5, variational=False
    )
    prefix = "autoencoder."
    autoencoder.load_state_dict({k.removeprefix(prefix): v for k, v in found.state.items() if k.startswith(prefix)})
    autoencoder.eval()
    train = events.train.features[events.train.labels == 0]
    weights = events.train.weights[events.train.labels == 0]
    values = train.astype(np.float64).reshape(len(train), -1)
    mean = np.average(values.mean(axis=1), weights=weights)
    variance = np.average(np.square(values - mean).mean(axis=1), weights=weights)
    for part, own in events.parts.items():
        with torch.no_grad():
            restored = autoencoder(torch.from_numpy(own.features)).double().numpy()
        error = np.square(restored - own.features).reshape(len(restored), -1).mean(axis=1) / variance
        expected = np.log(error + events.transform.fixed.lsb**2 / 12 / variance)
        np.testing.assert_allclose(
            found.targets[part][:, 0] * found.scale.scale + found.scale.offset, expected, rtol=0, atol=2e-5
        )
        assert np.array_equal(found.scores[part], found.targets[part][:, 0].astype(np.float64))
    assert np.average(found.targets["train"][events.train.labels == 0, 0], weights=weights) == pytest.approx(
        0, abs=1e-5
    )


def test_an_encoder_of_its_own_leaves_the_student_its_random_start() -> None:
    events = events_of(sample())
    found = teach(events, teacher={**LATENT, "hidden": [9, 7], "start_from_teacher": False})
    assert found.encoder_state is None
    assert found.targets["train"].shape == (events.train.n_events, 3)
    assert found.state["autoencoder.encoder.dense1.weight"].shape == (9, 5)


def test_zeros_of_the_events_are_recognised_behind_the_input_transform() -> None:
    """A feature is 0 before it is centred and scaled; wherever that is, the teacher's error ignores it."""
    events = events_of(sample())
    found = teach(events, teacher=LATENT)
    zeros = events.transform.apply(np.zeros((1, 5), np.float32))[0]
    assert found.state["absent"].tolist() == zeros.tolist()
    assert (zeros != 0).any()
    assert "absent" not in teach(events, teacher={**LATENT, "skip_zeros": False}).state


def test_what_is_stored_is_what_was_found(tmp_path: Path) -> None:
    for keys, shape in ((LATENT, (5,)), (IMAGES, (1, 6, 5))):
        found = teach(events_of(sample(shape)), teacher=keys)
        folder = tmp_path / keys["target"]
        folder.mkdir()
        TEACHER.save(found, folder)
        back = TEACHER.load(folder)
        assert back.scale == found.scale
        assert back.history == found.history
        assert same(back.state, found.state)
        assert (back.encoder_state is None) == (found.encoder_state is None)
        for kind, dtype in (("targets", np.float32), ("scores", np.float64)):
            for part, values in getattr(found, kind).items():
                assert getattr(back, kind)[part].dtype == dtype
                assert np.array_equal(getattr(back, kind)[part], values)


def test_other_tasks_have_no_teacher(tmp_path: Path) -> None:
    assert teach(events_of(sample()), task="binary") == Teacher()
    TEACHER.save(Teacher(), tmp_path)
    assert TEACHER.load(tmp_path) == Teacher()


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (None, "all classes are trained on"),
        (["HH4b"], "HH4b is trained on"),
        (["minimum_bias", "HH4b"], "minimum_bias"),
    ],
)
def test_a_teacher_that_would_see_signal_is_refused(classes: list[str] | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        teach(events_of(sample()), teacher=LATENT, train=TrainConfig(classes=classes))


def test_any_network_that_ends_in_a_linear_can_be_the_encoder() -> None:
    events = events_of(sample((2, 8)))
    keys = {"teacher": LATENT, "model": {"name": "conv1d", "args": {"channels": [3], "hidden": [4]}}}
    found = teach(events, **keys)
    full = context(events, found, **keys)
    student = float_model(full, events)
    student.load_state_dict(found.encoder_state)
    assert evaluate(student, make_batches(events, "test", goal_of(full)), "distil").loss == 0.0
    with pytest.raises(ModelError, match="teacher with channels"):
        teach(events, teacher={**LATENT, "channels": [3], "start_from_teacher": False})


PROJECT = """
project: toy
task: distil
objective: loss
data: {path: events.npz}
physics: {signal: [odd]}
input: {width_bits: 8, integer_bits: 5, offset: none}
model: {name: mlp, args: {hidden: [8]}}
teacher: {target: latent, hidden: [8], latent: 3, kl_weight: 0.01, epochs: 6, skip_zeros: true}
train: {classes: [plain], epochs: 2, learning_rate: 0.0005}
quantize: {epochs: 4}
baseline: {epochs: 3}
sensitivity: {sparsities: [0.5, 0.9], max_events: 500}
prune: {first_sparsity: 0.4, epochs_per_round: 3, final_epochs: 4}
budget: {lut: 900}
cost: {backend: analytic}
"""


def write_project(folder: Path, raw: EventSample) -> None:
    folder.mkdir(exist_ok=True)
    names = np.array(["plain", "odd"])[raw.labels]
    np.savez(folder / "events.npz", x=raw.features, y=names, weight=raw.weights)
    (folder / "project.yaml").write_text(PROJECT)


def test_from_the_event_file_on_no_bit_depends_on_the_signal(tmp_path: Path) -> None:
    """The scale of the inputs, the teacher, and the quantised network's binary points."""
    found = []
    for seed in (1, 2):
        raw = sample(n=1500, signal_seed=seed)
        signal = raw.labels == 1
        raw.features[signal] *= seed**3
        write_project(tmp_path / str(seed), raw)
        project = load_project(tmp_path / str(seed), ["data.class_names=[plain, odd]", "input.offset=mean"])
        found.append(run_pipeline(project, STAGES, tmp_path / str(seed) / "build", until="quantize"))
    first, second = (run.result("load").transform.to_dict() for run in found)
    assert first == second
    assert same(found[0].result("teacher").state, found[1].result("teacher").state)
    assert same(found[0].result("train").state, found[1].result("train").state)
    networks = [torch.load(run.runs["quantize"].folder / "network.pt", weights_only=False) for run in found]
    assert repr(networks[0]) == repr(networks[1])


def test_a_pruned_network_follows_its_teacher(tmp_path: Path) -> None:
    raw = sample(n=3000)
    write_project(tmp_path, raw)
    project = load_project(tmp_path, ["data.class_names=[plain, odd]"])
    run = run_pipeline(project, STAGES, tmp_path / "build", until="prune")
    teacher, events = run.result("teacher"), run.result("load")
    chosen = next(trial for trial in run.result("prune").trials if trial.chosen)
    # a network that ignores its inputs has a loss of about 1, the mean square of the target
    assert chosen.validation_loss < 0.3
    assert chosen.validation_merit == -chosen.validation_loss
    assert run.result("train").history.best.validation_loss < 0.02
    assert teacher.targets["test"].shape == (events.test.n_events, 3)
    again = run_pipeline(project, STAGES, tmp_path / "build", until="prune")
    assert again.computed == ()
    changed = load_project(tmp_path, ["data.class_names=[plain, odd]", "teacher.kl_weight=0.02"])
    assert run_pipeline(changed, STAGES, tmp_path / "build", until="teacher").computed == ("teacher",)
