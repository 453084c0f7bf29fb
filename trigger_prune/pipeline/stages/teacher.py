"""Stage ``teacher``: the network that the project's network follows (task distil); nothing for other tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trigger_prune.config.project import TeacherConfig
from trigger_prune.data.class_choice import signal_classes
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.models.build import build_model
from trigger_prune.models.teacher_autoencoder import TeacherAutoencoder, teacher_decoder, teacher_encoder
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.training import (
    epoch_bar,
    float_model,
    load_history,
    model_files,
    save_history,
)
from trigger_prune.train.device import resolve_device
from trigger_prune.train.evaluate import Batches, predict
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import FitHistory
from trigger_prune.train.teacher import (
    Affine,
    TeacherLoss,
    feature_units,
    reconstruction_errors,
    split_means,
    standardisation,
)

_COMPARED_EVENTS = 256
_STEPS_PER_EPOCH = 20
_SMALLEST_BATCH = 16


@dataclass(frozen=True)
class Teacher:
    """What the teacher says of the events; nothing but Nones for tasks without one.

    targets         float32 ``(events, outputs)`` per part, standardised; the network follows them
    encoder_state   weights that the project's network starts with, or None
    scores          the teacher's own anomaly score per part, float64 ``(events,)``, larger is stranger: what the
                    network's score would be if it followed the teacher exactly
    scale           ``targets = (value - offset) / scale``, value being the teacher's output
    history         of the teacher's training
    """

    targets: Mapping[str, NDArray[np.float32]] | None = None
    encoder_state: dict[str, Tensor] | None = None
    scores: Mapping[str, NDArray[np.float64]] | None = None
    scale: Affine | None = None
    history: FitHistory | None = None
    state: dict[str, Tensor] | None = None


def _compute(context: StageContext) -> Teacher:
    if context.config.task != "distil":
        return Teacher()
    config, events = context.config.teacher, context.result("load")
    classes = _trained_classes(context, events.train)
    train, validation = (_background(events, part, classes, config.weight_power) for part in ("train", "validation"))
    autoencoder = _autoencoder(context, events)
    absent = _absent_values(events) if config.skip_zeros else None
    teacher = TeacherLoss(
        autoencoder,
        unit=feature_units(train.features, train.weights, absent),
        absent=absent,
        difference=config.reconstruction,
        kl_weight=config.kl_weight,
    )
    history = _fit(context, teacher, train, validation)
    if config.target == "latent":
        values, scale, state = _latent(context, events, autoencoder, train)
        score = Score("sum_of_squares")
    else:
        logarithms, scale = _log_errors(events, teacher, train)
        values, state, score = logarithms, None, Score("head")
    return Teacher(
        targets=values,
        encoder_state=state,
        scores={part: score.of(target) for part, target in values.items()},
        scale=scale,
        history=history,
        state=teacher.state_dict(),
    )


def _trained_classes(context: StageContext, sample: EventSample) -> tuple[int, ...]:
    """Classes that the teacher learns; never a signal."""
    config, names = context.config, sample.class_names
    signal = signal_classes(config.physics.signal, sample)
    if config.train.classes is None and not signal:
        return tuple(range(sample.n_classes))
    background = [name for index, name in enumerate(names) if index not in signal]
    wanted = config.train.classes
    if wanted is None or not wanted or not set(wanted) <= set(background):
        given = "all classes are" if wanted is None else f"{', '.join(wanted) or 'no class'} is"
        raise ConfigError(
            f"train.classes: {given} trained on, and a teacher learns background alone ({', '.join(background)})",
            hint=f"train.classes: [{', '.join(background)}]",
        )
    return tuple(names.index(name) for name in wanted)


def _background(events: Events, part: str, classes: tuple[int, ...], weight_power: float) -> Batches:
    """The events of ``classes`` alone; the targets are 0, see TeacherLoss."""
    sample: EventSample = getattr(events, part)
    rows = np.flatnonzero(np.isin(sample.labels, classes))
    weights = sample.weights[rows] ** weight_power
    # float32 weights of any unit: a mean does not change with their scale
    weights = (weights / weights.max()).astype(np.float32)
    return Batches(torch.from_numpy(sample.features[rows]), torch.zeros((len(rows), 1)), torch.from_numpy(weights))


def _autoencoder(context: StageContext, events: Events) -> TeacherAutoencoder:
    """Freshly initialised; the weights follow from the seed alone."""
    config, shape = context.config.teacher, events.train.event_shape
    variational = config.kl_weight > 0
    n_outputs = config.latent * (2 if variational else 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.config.seed)
        if _own_encoder(config):
            encoder: nn.Module = teacher_encoder(shape, config.channels, config.hidden, n_outputs)
        else:
            encoder = build_model(context.config.model, shape, n_outputs, context.project_dir)
        channels = config.channels if _own_encoder(config) else []
        decoder = teacher_decoder(shape, channels, config.hidden, config.latent)
    return TeacherAutoencoder(encoder, decoder, config.latent, variational)


def _own_encoder(config: TeacherConfig) -> bool:
    """Whether the teacher has an encoder of its own, and not the project's network."""
    return config.target == "error" or not config.start_from_teacher


def _absent_values(events: Events) -> Tensor:
    """What the value 0 of every feature is on the input grid, ``(features,)``."""
    zeros = np.zeros((1, *events.train.event_shape), np.float32)
    values = events.transform.apply(zeros)[0]
    return torch.from_numpy(np.ascontiguousarray(values.reshape(len(values), -1)[:, 0]))


def _fit(context: StageContext, teacher: TeacherLoss, train: Batches, validation: Batches) -> FitHistory:
    config = context.config
    settings = FitSettings(
        phase="teacher",
        epochs=config.teacher.epochs,
        batch_size=min(config.train.batch_size, max(_SMALLEST_BATCH, len(train) // _STEPS_PER_EPOCH)),
        learning_rate=config.teacher.learning_rate,
        seed=config.seed,
        task="distil",
        weight_decay=config.train.weight_decay,
        gradient_clip_norm=config.train.gradient_clip_norm,
        device=resolve_device(config.train.device),
    )
    with epoch_bar(context, settings.epochs, "teacher") as advance:
        return fit(teacher, train, validation, settings, progress=advance)


def _latent(
    context: StageContext, events: Events, autoencoder: TeacherAutoencoder, train: Batches
) -> tuple[dict[str, NDArray[np.float32]], Affine, dict[str, Tensor] | None]:
    """Latent means in a common unit (the score, their sum of squares, keeps its order), and the student's start."""
    config = context.config.teacher
    means = predict(_Means(autoencoder), train.features)
    scale = standardisation(means, train.weights.double().numpy(), centre=False)
    if _own_encoder(config):
        targets = {
            part: scale.apply(predict(_Means(autoencoder), torch.from_numpy(sample.features)))
            for part, sample in events.parts.items()
        }
        return targets, scale, None
    student = float_model(context, events)
    state = split_means(autoencoder.encoder.state_dict(), student, config.latent, scale.scale)
    student.load_state_dict(state)
    few = predict(student, train.features[:_COMPARED_EVENTS])
    if not np.allclose(few * scale.scale, means[:_COMPARED_EVENTS], rtol=1e-4, atol=1e-4 * scale.scale):
        raise ModelError(
            "the network with the encoder's weights does not give the encoder's latent means",
            hint="its last Linear must be its output; or set teacher.start_from_teacher to false",
        )
    # what the student itself computes, so that it starts at a loss of exactly 0
    targets = {
        part: predict(student, torch.from_numpy(sample.features)).astype(np.float32)
        for part, sample in events.parts.items()
    }
    return targets, scale, state


class _Means(nn.Module):
    """The latent means alone."""

    def __init__(self, autoencoder: TeacherAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Tensor) -> Tensor:
        means: Tensor = self.autoencoder.encode(x)[0]
        return means


def _log_errors(events: Events, teacher: TeacherLoss, train: Batches) -> tuple[dict[str, NDArray[np.float32]], Affine]:
    """Standardised logarithms of the reconstruction error, ``(events, 1)`` per part."""
    # the rounding of the inputs alone; no reconstruction is known to be better than that
    floor = float((events.transform.fixed.lsb**2 / 12 / teacher.unit.double().square()).mean())

    def logarithms(features: Tensor) -> NDArray[np.float64]:
        return np.log(reconstruction_errors(teacher, features) + floor)[:, np.newaxis]

    scale = standardisation(logarithms(train.features), train.weights.double().numpy(), centre=True)
    targets = {
        part: scale.apply(logarithms(torch.from_numpy(sample.features))) for part, sample in events.parts.items()
    }
    return targets, scale


_ARRAYS = ("targets", "scores")
_STATES = {"encoder_state": "encoder.pt", "state": "teacher.pt"}


def _save(result: Teacher, folder: Path) -> None:
    scale = None if result.scale is None else asdict(result.scale)
    (folder / "teacher.json").write_text(json.dumps({"scale": scale}))
    if result.targets is None or result.scores is None or result.history is None:
        return
    arrays = {f"{kind}_{part}": values for kind in _ARRAYS for part, values in getattr(result, kind).items()}
    np.savez(folder / "teacher.npz", **arrays)
    for name, file in _STATES.items():
        if getattr(result, name) is not None:
            torch.save(getattr(result, name), folder / file)
    save_history(result.history, folder)


def _load(folder: Path) -> Teacher:
    scale = json.loads((folder / "teacher.json").read_text())["scale"]
    if scale is None:
        return Teacher()
    with np.load(folder / "teacher.npz") as stored:
        arrays = {
            kind: {name.removeprefix(f"{kind}_"): stored[name] for name in stored.files if name.startswith(kind)}
            for kind in _ARRAYS
        }
    states = {
        name: torch.load(folder / file, map_location="cpu", weights_only=True) if (folder / file).exists() else None
        for name, file in _STATES.items()
    }
    return Teacher(**arrays, **states, scale=Affine(**scale), history=load_history(folder))


TEACHER: Stage[Any] = Stage(
    name="teacher",
    title="train the teacher on background",
    inputs=("load",),
    config_keys=(
        "task",
        "seed",
        "model",
        "teacher",
        "physics.signal",
        "train.classes",
        "train.batch_size",
        "train.weight_decay",
        "train.gradient_clip_norm",
        "train.device",
    ),
    compute=_compute,
    save=_save,
    load=_load,
    files=model_files,
    tools=("torch",),
    version=2,
)
