"""How many outputs a network of a task has."""

from __future__ import annotations

import math

from trigger_prune.config.project import TeacherConfig
from trigger_prune.data.sample import EventSample
from trigger_prune.train.loss import Task


def output_count(sample: EventSample, task: Task, teacher: TeacherConfig) -> int:
    """One per class, one for a binary task, the values of an event for an autoencoder, or what a teacher gives."""
    if task == "classify":
        return sample.n_classes
    if task == "autoencoder":
        return math.prod(sample.event_shape)
    return teacher.latent if task == "distil" and teacher.target == "latent" else 1
