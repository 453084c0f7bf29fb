"""How far figures of many variants would move with other events of the same kind.

A figure that is a mean, or an AUC, moves by the sum of its events' influences; its error is that of the sums per
generated collision, and its bootstrap is one product of the matrix of counts with those sums, for all variants at once.
The signal efficiency has no such influences (they would need the density of scores at the threshold): it is computed
anew in every resample. Every variant and the unpruned network see the same resamples, so that the spread of a change is
that of paired events.

A resample draws every generated collision a Poisson(1) number of times (physics/bootstrap.py does it one statistic at a
time).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import pdtr
from torch import Tensor

from trigger_prune.errors import DataError
from trigger_prune.physics.clusters import cluster_index, weight_per_index
from trigger_prune.physics.intervals import effective_events
from trigger_prune.sensitivity import rank_figures
from trigger_prune.sensitivity.efficiency_replicas import DrawnEvents, Window, resampled_efficiencies, threshold_window
from trigger_prune.sensitivity.metrics import Columns, Judge, Ranking

REPLICAS = 200
"""Resamples: the standard error is then known to 5 %."""


def _poisson_table() -> NDArray[np.float32]:
    """Counts of 2**16 equally likely draws: Poisson(1) to 1e-5 in probability, ten times quicker than drawing them."""
    quantiles = (np.arange(1 << 16) + 0.5) / (1 << 16)
    return np.searchsorted(pdtr(np.arange(16), 1.0), quantiles).astype(np.float32)


_POISSON = _poisson_table()


class Resampler:
    """Counts of ``replicas`` resamples of ``n_events`` events; with ``groups`` ``(n,)`` rows of one number together.

    The same seed gives the same resamples. Raises DataError for fewer than two of them.
    """

    def __init__(self, n_events: int, groups: NDArray[np.int64] | None, replicas: int = REPLICAS, seed: int = 0):
        if replicas < 2:
            raise DataError(f"{replicas} bootstrap replicas have no spread", hint="use 200 or more")
        if groups is not None and len(groups) != n_events:
            raise DataError(f"{len(groups)} collision numbers for {n_events} events")
        self.cluster: NDArray[np.int64] | None = None
        n_clusters = n_events
        if groups is not None and len(np.unique(groups)) < n_events:
            self.cluster = np.unique(cluster_index(groups), return_inverse=True)[1].astype(np.int64)
            self._clusters_until = (np.maximum.accumulate(self.cluster) + 1).tolist()
            n_clusters = self._clusters_until[-1]
        self.shape, self.seed = (n_clusters, replicas), seed
        self.known: dict[Moving, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        """Of figures that others are compared with: weight and value in every resample."""

    @cached_property
    def counts(self) -> NDArray[np.float32]:
        """How often each collision is drawn in each resample, ``(collisions, R)``."""
        return _POISSON[np.random.default_rng(self.seed).integers(0, len(_POISSON), self.shape, dtype=np.uint16)]

    def sums(self, values: Tensor) -> NDArray[np.float64]:
        """Sums over events of ``values`` ``(n, columns)`` in every resample, ``(columns, R)``.

        ``n`` may be smaller than the number of events: then these are the first ones.
        """
        values = self._per_cluster(values)
        counts = torch.from_numpy(self.counts[: values.shape[0]])
        return torch.mm(values.float().t(), counts).double().numpy()

    def error(self, influence: Tensor) -> NDArray[np.float64]:
        """Standard errors ``(columns,)`` of figures with these influences ``(n, columns)`` of the first n events."""
        summed = self._per_cluster(influence)
        n_clusters = summed.shape[0]
        variance = summed.square().sum(dim=0, dtype=torch.float64).numpy()
        result: NDArray[np.float64] = np.sqrt(variance * (n_clusters / (n_clusters - 1) if n_clusters > 1 else np.inf))
        return result

    def _per_cluster(self, values: Tensor) -> Tensor:
        if self.cluster is None:
            return values
        n, n_columns = values.shape
        grouped = torch.zeros((self._clusters_until[n - 1], n_columns), dtype=values.dtype)
        return grouped.index_add_(0, torch.from_numpy(self.cluster[:n]), values)

    def cluster_effective(self, weights: NDArray[np.float64]) -> float:
        """Effective number of collisions behind events of these weights."""
        if self.cluster is None:
            return effective_events(weights)
        return effective_events(weight_per_index(self.cluster[: len(weights)], weights))


@dataclass(frozen=True, eq=False)
class Moving:
    """One figure of every variant, and how it moves.

    values      ``(V,)``
    influence   ``(n, V)``: the figure moves by this when an event is drawn once more; None for one with ``replicas``
    shares      ``(n,)`` of a mean: of the events in the weight, for a resample divides by the weight it has itself
    replicas    ``(V, R)``: the figure in every resample
    """

    values: NDArray[np.float64]
    influence: Tensor | None = None
    shares: Tensor | None = None
    replicas: NDArray[np.float64] | None = None

    def resampled(self, base: Moving, resampler: Resampler) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The figures, and their changes against ``base`` (one variant), in every resample: twice ``(V, R)``."""
        if self.influence is None or base.influence is None:
            if self.replicas is None or base.replicas is None:
                raise ValueError("a figure needs influences or replicas")
            return self.replicas, self.replicas - base.replicas
        # what differs from the baseline is summed by itself, so that small changes keep their digits
        moved = (self.values - base.values)[:, None]
        if base not in resampler.known:
            weight = np.ones(1) if base.shares is None else resampler.sums(base.shares.unsqueeze(1))
            resampler.known[base] = weight, base.values[:, None] + resampler.sums(base.influence) / weight
        weight, unpruned = resampler.known[base]
        changes = moved + resampler.sums(self.influence - base.influence) / weight
        return changes + unpruned, changes

    def errors(self, base: Moving, resampler: Resampler) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Standard errors of the figures, and of their changes: twice ``(V,)``."""
        if self.influence is None or base.influence is None:
            values, changes = self.resampled(base, resampler)
            return np.std(values, axis=1, ddof=1), np.std(changes, axis=1, ddof=1)
        return resampler.error(self.influence), resampler.error(self.influence - base.influence)


def figures_of(
    block: Columns, judge: Judge, resampler: Resampler, names: tuple[str, ...], fractions: tuple[int | None, ...]
) -> dict[str, Moving]:
    """The figures ``names`` of every variant of ``block``, whose events are the first ones of judge and resampler.

    fractions   grid of the scores of every ranking of the judge, see ``rank_figures.grid_fraction``
    A figure of outputs that are not finite is NaN.
    """
    n = block.loss.shape[0]
    found: dict[str, Moving] = {}
    if "loss" in names or "accuracy" in names:
        weights = torch.from_numpy(judge.weights[:n])
        shares = weights / weights.sum()
        if "loss" in names:
            found["loss"] = _mean(block.loss, shares)
        if "accuracy" in names and block.right is not None:
            found["accuracy"] = _mean(block.right.to(block.loss.dtype), shares)
    if block.scores is not None and ("auc" in names or "efficiency" in names):
        each = [
            _ranked(block.scores[k].t().double().contiguous().numpy(), ranking, judge, resampler, names, fractions[k])
            for k, ranking in enumerate(judge.rankings)
        ]
        for name in each[0]:
            parts = [one[name] for one in each]
            influences = [part.influence for part in parts if part.influence is not None]
            replicas = [part.replicas for part in parts if part.replicas is not None]
            found[name] = Moving(
                np.mean([part.values for part in parts], axis=0),
                torch.stack(influences).mean(dim=0) if influences else None,
                replicas=np.mean(replicas, axis=0) if replicas else None,
            )
    return found


def _mean(values: Tensor, shares: Tensor) -> Moving:
    """Weighted means; ``shares`` of the total weight, float64. Influences need no more digits than the values."""
    means = torch.mv(values.t().double(), shares)
    shares = shares.to(values.dtype)
    return Moving(means.numpy(), (values - means.to(values.dtype)).mul_(shares.unsqueeze(1)), shares)


def _ranked(
    scores: NDArray[np.float64],
    ranking: Ranking,
    judge: Judge,
    resampler: Resampler,
    names: tuple[str, ...],
    fraction: int | None,
) -> dict[str, Moving]:
    """AUC and efficiency by one ranking; ``scores`` ``(V, n)``."""
    n_variants, n = scores.shape
    positive, physical = ranking.positive[:n], judge.physical[:n]
    signal, background = physical * positive, physical * ~positive
    effective = resampler.cluster_effective(background)
    auc, efficiency = np.full(n_variants, np.nan), np.full(n_variants, np.nan)
    influence = np.zeros((n_variants, n), np.float32)
    windows: dict[int, Window] = {}
    for v in range(n_variants):
        if not np.isfinite(scores[v]).all():
            continue
        events = rank_figures.rank_events(scores[v], positive, physical, fraction)
        if "auc" in names:
            auc[v] = rank_figures.area(events)
            influence[v] = rank_figures.area_influence(events, auc[v], physical)
        if "efficiency" in names:
            efficiency[v] = rank_figures.efficiency_at(events, judge.background_fraction)
            windows[v] = threshold_window(events, judge.background_fraction, effective)
    found: dict[str, Moving] = {}
    if "auc" in names:
        found["auc"] = Moving(auc, torch.from_numpy(influence).t())
    if "efficiency" in names:
        replicas = np.full((n_variants, resampler.shape[1]), np.nan)
        if windows:
            replicas[list(windows)] = resampled_efficiencies(
                list(windows.values()),
                DrawnEvents(resampler.counts, resampler.cluster, positive, physical),
                resampler.sums(torch.from_numpy(np.stack([signal, background], axis=1))),
                judge.background_fraction,
            )
        found["efficiency"] = Moving(efficiency, replicas=replicas)
    return found
