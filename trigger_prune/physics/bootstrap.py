"""Bootstrap by generated collision: rows of one collision are drawn, or left out, together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.intervals import LEVEL_68, LEVEL_95, Estimate

REPLICAS = 200
"""Replicas by default: the standard error is then known to 5 %."""

BOOTSTRAP_METHOD = "bootstrap by generated collision, percentiles"


def group_draws(clusters: int, replicas: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """For every replica, how often each of ``clusters`` collisions is drawn: float64 ``(clusters,)``.

    Poisson(1) counts: the number of collisions fluctuates too, as it does in data and as a rate needs it.
    The same seed gives the same draws.
    """
    if replicas < 2:
        raise DataError(f"{replicas} bootstrap replicas have no spread", hint="use 200 or more")
    generator = np.random.default_rng(seed)
    for _ in range(replicas):
        yield generator.poisson(1.0, clusters).astype(np.float64)


def bootstrap(
    statistic: Callable[[NDArray[np.float64]], float],
    groups: NDArray[np.int64],
    replicas: int = REPLICAS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Values of a statistic in replicas of the sample, float64 ``(replicas,)``.

    ``statistic`` receives float64 ``(rows,)`` multipliers (0, 1, 2, ...) that its weights must be multiplied with.
    Raises DataError when there are fewer than two replicas, and names a replica whose statistic is not finite.
    """
    distinct, index = np.unique(groups, return_inverse=True)
    values = np.array([statistic(counts[index]) for counts in group_draws(len(distinct), replicas, seed)], np.float64)
    if not np.isfinite(values).all():
        replica = int(np.argmin(np.isfinite(values)))
        raise DataError(
            f"the statistic of bootstrap replica {replica} is {values[replica]}",
            hint="too few collisions carry it; its error cannot be had by bootstrap",
        )
    return values


def percentile_estimate(
    value: float, replicas: NDArray[np.float64], n_effective: float, method: str = BOOTSTRAP_METHOD
) -> Estimate:
    """Standard error and central intervals of ``value`` from the spread of its replicas."""
    tails68, tails95 = (1 - LEVEL_68) / 2, (1 - LEVEL_95) / 2
    low95, low68, high68, high95 = (
        float(x) for x in np.quantile(replicas, [tails95, tails68, 1 - tails68, 1 - tails95])
    )
    return Estimate(value, float(np.std(replicas, ddof=1)), low68, high68, low95, high95, n_effective, method)
