"""Validation and test events of a toy trigger, and scores of three networks, for the tests of studies and reports."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.sample import EventSample
from trigger_prune.physics.trigger_cuts import MENU_OBSERVABLES

CROSSINGS_HZ = 3e7
STEPS = {"float": 0.0, "dense": 1 / 64, "deployed": 1 / 16}


def part(
    seed: int, signals: tuple[str, ...] = ("HH4b",), rates: bool = True, n: int = 6000, offline: bool = True
) -> EventSample:
    """Background whose rate falls as exp(-hardness), well populated above 50 kHz and badly below; two rows per event.

    The hardness stands in ``features``; the signals are harder. Every class of signal has 500 rows.
    """
    rng = np.random.default_rng(seed)
    common = np.where(rng.random(n) < 0.98, rng.uniform(0, 7.8, n), rng.uniform(7.8, 13, n))
    density = np.where(common < 7.8, 0.98 / 7.8, 0.02 / 5.2)
    hardness = np.concatenate([common, *(rng.normal(7.5 + k, 2, 500).clip(0.1) for k in range(len(signals)))])
    labels = np.concatenate([np.zeros(n, np.int64), *(np.full(500, k + 1) for k in range(len(signals)))])
    weights = np.concatenate([np.exp(-common) / density, np.full(500 * len(signals), 0.7)])
    weights[:n] *= (CROSSINGS_HZ if rates else 17.0) / weights[:n].sum()
    rows = len(labels)
    observables = {
        name: _on_grid(hardness * (2 + k) + rng.exponential(4, rows)) for k, name in enumerate(sorted(MENU_OBSERVABLES))
    }
    observables["ht_gev"] = _on_grid(40 * hardness + rng.exponential(25, rows))
    if offline:
        observables["offline_ht_gev"] = 40 * hardness + rng.normal(0, 5, rows)
        observables["offline_pthat_gev"] = 20 * hardness
    return EventSample(
        hardness[:, None].astype(np.float32),
        labels,
        weights,
        np.arange(rows) // 2,
        ("hardness",),
        ("minimum_bias", *signals),
        "toy",
        observables=observables if rates else {"offline_ht_gev": observables.get("offline_ht_gev", hardness)},
        rate_weights=rates,
    )


def scores(validation: EventSample, test: EventSample) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Of ``float``, ``dense`` and ``deployed``: the hardness with growing noise, on the grid of STEPS."""
    rng = np.random.default_rng(5)
    found = {}
    for k, (name, step) in enumerate(STEPS.items()):
        both = [
            sample.features[:, 0] + 0.2 * (k + 1) * rng.normal(size=sample.n_events) for sample in (validation, test)
        ]
        found[name] = (_rounded(both[0], step), _rounded(both[1], step))
    return found


def _rounded(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    return np.round(values / step) * step if step else values.astype(np.float64)


def _on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(np.maximum(values, 0) * 2) / 2
