"""Small samples and full models whose score is a known function of the features."""

import copy

import numpy as np
import torch
from torch import nn

from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.models.mlp import Mlp
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.two_stage.models.light_inputs import FullModel, LightInputs

GRID = FixedPoint(10, 4, True, Rounding.AP_RND, Overflow.AP_SAT)


class Linear(nn.Module):
    """Full model with the outputs ``x @ weights``; ``weights`` holds one column per output."""

    def __init__(self, *columns):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(columns, dtype=torch.float32).T)

    def forward(self, x):
        return x.flatten(1) @ self.weights


class Bits:
    """Bit widths as ``quantize_model`` reads them."""

    def __init__(self, weight_bits=8, activation_bits=8, rounding="AP_TRN"):
        self.weight_bits, self.activation_bits, self.rounding = weight_bits, activation_bits, rounding


def events(features, labels, task, physical=None):
    """Batches of a project with ``task``; all weights of the loss are 1."""
    features = torch.from_numpy(GRID.quantize(features).astype(np.float32))
    classes = torch.from_numpy(labels.astype(np.int64))
    targets = {
        "classify": classes,
        "binary": (classes > 0).float(),
        "autoencoder": features,
        "distil": torch.zeros(len(labels), 1),
    }[task]
    physical = np.ones(len(labels)) if physical is None else physical
    return Batches(features, targets, torch.ones(len(labels)), classes, torch.from_numpy(physical))


def gaussians(seed, shifts, rows=4000, shape=None):
    """Half background (class 0) and half signal (class 1), whose features are shifted by ``shifts``."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    features = generator.normal(size=(rows, len(shifts))) + labels[:, None] * np.asarray(shifts)
    return features if shape is None else features.reshape(rows, *shape), labels


def light_inputs(make, task="binary", fraction=0.02, seed=3, **more):
    """``make(seed) -> (features, labels)`` gives the training and the validation events."""
    train, validation = (events(*make(part), task) for part in (1, 2))
    settings = FitSettings("light", 1, 256, 4e-3, seed, task)
    names = tuple(f"x{index}" for index in range(train.features.shape[1]))
    return LightInputs(train, validation, settings, more.pop("signal", (1,)), fraction, GRID, names, **more)


def linear_full(*columns, score=None, kept=None):
    """A full model of known score; reads every feature."""
    kept = tuple(range(len(columns[0]))) if kept is None else kept
    return FullModel(Linear(*columns), kept, score or Score("head"))


def trained_full(inputs, n_outputs=1, hidden=(16, 8), epochs=3):
    """A quantised network trained for the inputs' own task."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Mlp(tuple(inputs.train.features.shape[1:]), n_outputs, hidden)
    settings = copy.copy(inputs.settings)
    object.__setattr__(settings, "epochs", epochs)
    fit(model, inputs.train, inputs.validation, settings)
    network = quantize_model(model, inputs.train.features[:2000], GRID, Bits())
    score = Score("head") if n_outputs == 1 else Score("difference", (1,), (0, *range(2, n_outputs)))
    return FullModel(network, tuple(range(inputs.train.features.shape[1])), score)
