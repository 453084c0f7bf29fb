"""What every peer is trained with: its scripts, and the settings of each of its trainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HIDDEN = [64, 32, 32]
PEERS = ("hgq2", "magnitude", "torch_pruning", "pquantml", "trigger_prune")
OWN = ("magnitude", "trigger_prune")
"""Run in the project's own environment."""
_COMMON = {"hidden": HIDDEN, "batch_size": 1024}
_SIX_BITS = {"weight_bits": 6, "activation_bits": 6}

_STAGES = [
    (13_000.0, 0.16, 0),
    (7000.0, 0.16, 3),
    (4000.0, 0.25, 6),
    (2300.0, 0.28, 9),
    (1350.0, 0.31, 12),
    (800.0, 0.4, 27),
]
"""Of the toolkit's own recipe: expected adder bits, epochs of the way there (of those of a point), refinement rounds.
Where little is left of a network the way down must be slow, and below the last level refinement alone goes on: a
training that goes further down loses inputs that it cannot win back."""


@dataclass(frozen=True)
class Length:
    """Epochs: of each network that is trained on its own, and of one long ramp that gives a whole front."""

    point: int
    ramp: int


def length_for(n_train: int, factor: float, quick: bool) -> Length:
    """480 and 2 400 epochs on a small sample; a third of that on a large one, where an epoch has more steps.

    The shipped jets (134 105 training events) so get twice the optimiser steps of a sample of 23 000 events.
    """
    if quick:
        return Length(6, 30)
    point = round((480 if n_train < 60_000 else 160) * factor)
    return Length(point, 5 * point)


def trainings(peer: str, length: Length, quick: bool) -> list[dict[str, Any]]:
    """Settings of every training of a peer; each is one job."""
    if peer == "hgq2":
        return [_hgq2(length)]
    if peer == "pquantml":
        return [_pquantml(length, sparsity) for sparsity in ((0.9,) if quick else (0.7, 0.8, 0.9, 0.95))]
    if peer == "torch_pruning":
        return [_torch_pruning(length, ratio) for ratio in ((0.6,) if quick else (0.3, 0.45, 0.6, 0.7, 0.8))]
    if peer == "magnitude":
        sparsities = (0.9,) if quick else (0.6, 0.7, 0.8, 0.87, 0.92, 0.96)
        return [_magnitude(length, sparsity) for sparsity in sparsities]
    if peer == "trigger_prune":
        return [_trigger_prune(length, quick)]
    raise ValueError(peer)


def _trigger_prune(length: Length, quick: bool) -> dict[str, Any]:
    stages = [(2000.0, 1.0, 3)] if quick else _STAGES
    levels, shares, rounds = zip(*stages, strict=True)
    return {
        **_COMMON,
        **_SIX_BITS,
        "float_epochs": max(1, length.point // 12),
        "quantised_epochs": max(1, length.point // 24),
        "epochs": [max(1, round(share * length.point)) for share in shares],
        "anneal_epochs": max(1, length.point // 6),
        "levels": list(levels),
        "learning_rate": 6e-3,
        "refine_rounds": list(rounds),
        "refine_epochs": max(1, length.point // 80),
        "refine_saving": 0.05,
        "refine_every": 3,
    }


def _hgq2(length: Length) -> dict[str, Any]:
    return {
        **_COMMON,
        "epochs": length.ramp,
        "warmup_epochs": length.ramp // 30,
        "beta": [5e-7, 2e-4],
        "learning_rate": 5e-3,
        "cycle_epochs": max(1, length.ramp // 40),
        "bits": 5,
        "bins_per_octave": 2,
        "fewest_ebops": 300,
        "score_every_epochs": 1,
    }


def _pquantml(length: Length, sparsity: float) -> dict[str, Any]:
    pretraining, fine_tuning = length.point // 6, length.point // 3
    return {
        **_COMMON,
        "pretraining_epochs": pretraining,
        "epochs": length.point - pretraining - fine_tuning,
        "fine_tuning_epochs": fine_tuning,
        "sparsity": sparsity,
        "weight_bits": 6,
        "data_bits": 6,
        "data_integer_bits": 2,
        "learning_rate": 4e-3,
    }


def _torch_pruning(length: Length, ratio: float) -> dict[str, Any]:
    steps = 3 if length.point < 20 else 5
    pruning = length.point // (4 * steps) * steps or steps
    floating = length.point // 4
    return {
        **_COMMON,
        **_SIX_BITS,
        "ratio": ratio,
        "float_epochs": floating,
        "pruning_steps": steps,
        "pruning_epochs": pruning,
        "epochs": max(2, length.point - pruning - floating),
        "learning_rate": 4e-3,
    }


def _magnitude(length: Length, sparsity: float) -> dict[str, Any]:
    floating = length.point // 6
    return {
        **_COMMON,
        **_SIX_BITS,
        "float_epochs": floating,
        "epochs": length.point - floating,
        "sparsity": sparsity,
        "learning_rate": 4e-3,
    }
