"""The three-condition test: is it the ticket, its mask alone, or any mask of that sparsity?

J. Frankle and M. Carbin, arXiv:1803.03635, with the layer-wise random control that J. Frankle et al.,
arXiv:2009.08576, ask for. Three networks of equal sparsity are trained for the same number of steps: the ticket, its
mask on weights drawn anew, and a random mask that keeps as many weights of every layer. Differences are taken seed by
seed, and a t interval is put around their mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from trigger_prune.errors import ConfigError, DataError

LEAST_SEEDS = 5
"""Fewer seeds give no verdict."""

LATEST_REWIND = 0.25
"""Largest part of the training that a ticket may be rewound to. In the papers it is some per cent; later weights are
those of a trained network, and that a mask made for them suits them is no news."""

Outcome = Literal["winning", "below_dense", "mask", "weights", "no_difference", "worse", "too_few_seeds", "late_rewind"]


@dataclass(frozen=True)
class PairedDifference:
    """Mean of ``first - second`` over seeds, with its t interval; ``low`` and ``high`` are NaN for one seed."""

    first: str
    second: str
    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    confidence: float

    @property
    def sign(self) -> int:
        """1 or -1 when the interval lies above or below zero, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def paired_difference(
    first: Sequence[float], second: Sequence[float], names: tuple[str, str], confidence: float = 0.95
) -> PairedDifference:
    """Student's t interval of the mean of paired differences: ``mean +- t(1/2 + confidence/2; n - 1) s / sqrt(n)``.

    Equal differences of several seeds have an interval of no width. Raises DataError for sequences of different or no
    length and values that are not finite, ConfigError for a confidence outside 0..1.
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence {confidence} is outside 0..1")
    if len(first) != len(second) or len(first) == 0:
        raise DataError(f"{names[0]} has {len(first)} seeds, {names[1]} {len(second)}: they are compared in pairs")
    values = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{names[0]} or {names[1]} has a figure that is not finite", hint="lower train.learning_rate")
    mean, n = float(values.mean()), len(values)
    half = math.nan
    if n > 1:
        half = float(stats.t.ppf(0.5 + confidence / 2.0, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return PairedDifference(*names, mean, mean - half, mean + half, tuple(values.tolist()), confidence)


@dataclass(frozen=True)
class Verdict:
    """``outcome`` in one word and ``text`` in words; the differences it rests on."""

    outcome: Outcome
    text: str
    against_redrawn: PairedDifference
    against_random: PairedDifference
    against_dense: PairedDifference


def three_condition_verdict(
    ticket: Sequence[float],
    redrawn: Sequence[float],
    random: Sequence[float],
    dense: Sequence[float],
    confidence: float = 0.95,
    rewound_to: float = 0.0,
) -> Verdict:
    """What the merits (one per seed, larger is better) of the three conditions and of the dense network say.

    rewound_to   step k as a fraction of the training; beyond ``LATEST_REWIND`` the outcome is ``late_rewind``

    A claim that needs both controls to be beaten needs both intervals above zero, so no correction for two looks is
    due. A winning ticket also may not fall short of the dense network. With fewer than ``LEAST_SEEDS`` seeds the
    outcome is ``too_few_seeds``. Raises what ``paired_difference`` does.
    """
    against_redrawn = paired_difference(ticket, redrawn, ("ticket", "redrawn"), confidence)
    against_random = paired_difference(ticket, random, ("ticket", "random"), confidence)
    against_dense = paired_difference(ticket, dense, ("ticket", "dense"), confidence)
    outcome = _outcome(len(ticket), against_redrawn.sign, against_random.sign, against_dense.sign)
    if outcome != "too_few_seeds" and rewound_to > LATEST_REWIND:
        outcome = "late_rewind"
    text = _TEXTS[outcome].format(n=len(ticket), least=LEAST_SEEDS, part=100 * rewound_to)
    if outcome not in ("too_few_seeds", "late_rewind"):
        text += f" {_DENSE[against_dense.sign]} ({against_dense.low:+.4f} .. {against_dense.high:+.4f})."
    return Verdict(outcome, text, against_redrawn, against_random, against_dense)


def _outcome(n: int, redrawn: int, random: int, dense: int) -> Outcome:
    if n < LEAST_SEEDS:
        return "too_few_seeds"
    if redrawn < 0 or random < 0:
        return "worse"
    if redrawn > 0 and random > 0:
        return "winning" if dense >= 0 else "below_dense"
    if random > 0:
        return "mask"
    return "weights" if redrawn > 0 else "no_difference"


_TEXTS: dict[Outcome, str] = {
    "winning": "Winning ticket: over {n} seeds it is better than its mask on re-drawn weights and better than a random "
    "mask, so both its mask and its early weights matter.",
    "below_dense": "Mask and early weights both matter, but this is no winning ticket: over {n} seeds it is better "
    "than its mask on re-drawn weights and than a random mask, and yet worse than the dense network.",
    "mask": "The mask matters, the early weights are not shown to: over {n} seeds the ticket is better than a random "
    "mask, but not than its mask on re-drawn weights.",
    "weights": "The early weights matter, the mask is not shown to: over {n} seeds the ticket is better than its mask "
    "on re-drawn weights, but not than a random mask.",
    "no_difference": "No lottery ticket is shown: over {n} seeds it is better neither than its mask on re-drawn "
    "weights nor than a random mask.",
    "worse": "No lottery ticket: over {n} seeds a control is better than it.",
    "too_few_seeds": "Not a verdict: {n} of at least {least} seeds; set lottery.seeds.",
    "late_rewind": "Not a verdict: the ticket is rewound to {part:.0f} % of the training, where its weights are no "
    "longer early ones; choose a smaller lottery.rewind_step, or more epochs.",
}
_DENSE = {
    1: "It is better than the dense network",
    0: "No difference to the dense network is shown",
    -1: "It falls short of the dense network",
}
