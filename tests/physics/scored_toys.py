"""Scored toy events for the tests of rates and efficiencies."""

import numpy as np

from trigger_prune.physics.scored_events import ScoredEvents

NAMES = ("HH4b", "ttbar")


def toy(seed, n_background=4000, n_signal=1000, total_hz=1e6, step=0.0, reuse=1, shift=2.0, weighted=True):
    """Normal scores, the signals shifted; ``reuse`` rows per collision differ by little; ``step`` makes ties."""
    generator = np.random.default_rng(seed)
    signal = np.concatenate([np.full(n_background, -1), np.zeros(n_signal, int), np.ones(n_signal, int)])
    n = len(signal)
    groups = np.arange(n) // reuse
    common = generator.normal(size=n // reuse + 1)[groups]
    noise = generator.normal(size=n)
    scores = (np.sqrt(0.9) * common + np.sqrt(0.1) * noise if reuse > 1 else noise) + shift * (signal >= 0)
    scores -= 0.5 * (signal == 1)
    if step:
        scores = np.round(scores / step) * step
    weights = generator.exponential(size=n // reuse + 1)[groups] if weighted else np.ones(n)
    weights[signal >= 0] = 0.5
    weights[signal < 0] *= total_hz / weights[signal < 0].sum()
    return ScoredEvents(scores, signal, weights, groups, NAMES)
