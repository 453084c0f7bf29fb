"""Luminosity scenarios, and minimum-bias weights that add up to the rate of bunch crossings.

A crossing holds Poisson(mu) collisions. Those with a scatter harder than the overlay's veto (pT-hat 30 GeV) are
generated in bins of pT-hat; with ``lam_b = mu sigma_b / sigma_nd`` expected per crossing in bin b, the bin of the
hardest one is b with probability ``(1 - exp(-lam_b)) prod_{c harder} exp(-lam_c)``, and there is none (the ``soft``
sample) with ``exp(-sum lam)``. These add up to one: every crossing is counted once. Weights ``lam_b`` instead would
count crossings with two hard scatters twice (1 % too many at mu = 50).

The overlay is vetoed above the softest bin, so it adds no scatter that a bin already counts. Two approximations
remain: a generated crossing holds one scatter above the veto, where 1 % of all real ones at mu = 50 hold two or more,
and its overlay is Poisson with the full mu rather than with mu (1 - sum(sigma_b) / sigma_nd), 0.3 % less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr, pdtrc

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import Filling, FillingMask
from trigger_prune.physics.intervals import effective_events

SIGMA_ND_MB = 56.872
"""Non-diffractive cross section of Pythia 8 at 13.6 TeV, for event files that do not state theirs."""

LOW_SHARE = 0.1
"""Re-weighting that leaves less than this share of the effective events is warned about."""

UNSEEN_PROBABILITY = 0.01
"""So is a pile-up whose crossings, with this probability or more, hold a number of collisions that no event has."""


@dataclass(frozen=True)
class LuminosityScenario:
    """Mean collisions per crossing (Poisson) and the filling scheme. Raises ConfigError unless 0 < pileup < 1000."""

    pileup: float
    filling: Filling

    def __post_init__(self) -> None:
        if not 0 < self.pileup < 1000:
            raise ConfigError(f"pileup {self.pileup}: give the mean number of collisions per crossing, above 0")

    @property
    def crossings_hz(self) -> float:
        """Bunch crossings per second: the rate of a trigger that accepts everything."""
        return self.filling.crossings_hz

    @property
    def label(self) -> str:
        """For reports, e.g. ``pile-up 50, 72b (2736 colliding bunches)``."""
        count = f"{self.filling.colliding} colliding bunches"
        if isinstance(self.filling, FillingMask):
            count = f"{self.filling.name} ({count})"
        return f"pile-up {self.pileup:g}, {count}"


def hardest_scatter_probabilities(
    pileup: float, sigma_mb: Sequence[float], sigma_nd_mb: float = SIGMA_ND_MB
) -> NDArray[np.float64]:
    """Probability that a crossing's hardest scatter lies in each bin, float64 ``(1 + bins,)``; entry 0 is "in none".

    ``sigma_mb``: cross sections of the pT-hat bins, softest first. The result adds up to 1 but for rounding.
    Raises DataError unless every cross section is positive.
    """
    sigma = np.asarray(sigma_mb, dtype=np.float64)
    if not (sigma_nd_mb > 0 and np.isfinite(sigma_nd_mb)):
        raise DataError(f"the non-diffractive cross section is {sigma_nd_mb} mb, not positive")
    if sigma.ndim != 1 or not (np.isfinite(sigma).all() and (sigma > 0).all()):
        raise DataError(f"cross sections of the pT-hat bins are {sigma.tolist()} mb, not all positive")
    expected = pileup * sigma / sigma_nd_mb
    total = float(expected.sum())
    in_harder_bins = total - np.cumsum(expected)
    return np.concatenate([[np.exp(-total)], -np.expm1(-expected) * np.exp(-in_harder_bins)])


def stitched_weights(
    strata: NDArray[np.int64], probabilities: NDArray[np.float64], crossings_hz: float
) -> NDArray[np.float64]:
    """Weight in Hz of each minimum-bias row, float64 ``(rows,)``: crossings_hz * probabilities[stratum] / its rows.

    ``strata`` number each row's bin as ``hardest_scatter_probabilities`` does. The sum is ``crossings_hz``. Raises
    DataError when a bin has no rows or a row belongs to none.
    """
    if len(strata) and not 0 <= strata.min() <= strata.max() < len(probabilities):
        raise DataError(f"rows belong to bins {strata.min()} to {strata.max()}; there are {len(probabilities)}")
    rows = np.bincount(strata, minlength=len(probabilities))
    if (rows == 0).any():
        raise DataError(f"pT-hat bin {int(np.argmin(rows))} has no rows; without it the rate is wrong")
    weights: NDArray[np.float64] = (crossings_hz * probabilities / rows)[strata]
    return weights


def strata_totals(weights: NDArray[np.float64], strata: NDArray[np.int64]) -> dict[int, float]:
    """Sum of the weights of every stratum that has rows."""
    numbers, position = np.unique(strata, return_inverse=True)
    sums = np.bincount(position, weights)
    return {int(number): float(total) for number, total in zip(numbers, sums, strict=True)}


def renormalise_strata(
    weights: NDArray[np.float64], strata: NDArray[np.int64], totals: Mapping[int, float]
) -> NDArray[np.float64]:
    """Weights scaled within each stratum so that it adds up to ``totals[stratum]``, float64 ``(rows,)``.

    For a part of a sample (training, validation, test) with the totals of the whole: its background then adds up to
    the full rate of crossings again, and to the right mixture of pT-hat bins, whatever the split did. Raises
    DataError when a stratum of ``totals`` that has weight there has none in this part, or a row has no total.
    """
    numbers, position = np.unique(strata, return_inverse=True)
    sums = np.bincount(position, weights, minlength=len(numbers))
    unknown = sorted(set(numbers.tolist()) - set(totals))
    if unknown:
        raise DataError(f"rows of stratum {unknown[0]} have no total to be normalised to")
    here = {int(number): float(total) for number, total in zip(numbers, sums, strict=True)}
    empty = sorted(number for number, total in totals.items() if total > 0 and not here.get(number, 0.0) > 0)
    if empty:
        raise DataError(
            f"stratum {empty[0]} (one process or pT-hat bin) has no events with weight in this part, "
            f"so the part cannot stand for the full rate ({len(empty)} strata of {len(totals)} are missing)",
            hint="generate more events of that process, or give the part a larger fraction",
        )
    scale = np.array([totals[number] / total if total > 0 else 0.0 for number, total in here.items()])
    scaled: NDArray[np.float64] = weights * scale[position]
    return scaled


@dataclass(frozen=True)
class Reweighted:
    """Weights for another pile-up and what they cost.

    ``kept`` maps each stratum to the share of its effective events, (sum w)^2 / sum w^2, that is left; ``warnings``
    holds a sentence for each loss that makes figures unreliable.
    """

    weights: NDArray[np.float64]
    kept: dict[int, float]
    warnings: tuple[str, ...]


def reweight_pileup(
    weights: NDArray[np.float64],
    strata: NDArray[np.int64],
    npu: NDArray[np.integer],
    *,
    generated: float,
    wanted: float,
    totals: Mapping[int, float],
    names: Mapping[int, str],
) -> Reweighted:
    """Weights of rows with ``npu`` overlaid collisions, generated as Poisson(generated), for Poisson(wanted).

    Each row is weighted by the ratio of the two Poisson probabilities of its ``npu``, and each stratum is normalised
    to ``totals[stratum]``: for minimum bias crossings_hz times the bin's probability *at the wanted pile-up*, as a
    crossing's chance of a hard scatter grows with it. ``names`` name the strata in warnings. With equal weights the
    share of effective events left is exp(-(wanted - generated)^2 / generated) on average: 10 % from 50 to 61.

    Raises DataError when the rows were generated without overlay, and as ``renormalise_strata``.
    """
    if not generated > 0:
        raise DataError(f"events of pile-up {generated:g} hold no overlay that could be re-weighted to {wanted:g}")
    log_ratio = npu * np.log(wanted / generated)
    ratio = np.exp(log_ratio - log_ratio.max())
    new = renormalise_strata(weights * ratio, strata, totals)
    kept: dict[int, float] = {}
    unseen: dict[int, float] = {}
    for stratum in np.unique(strata).tolist():
        rows = strata == stratum
        before = effective_events(weights[rows])
        kept[stratum] = effective_events(new[rows]) / before if before > 0 else 0.0
        seen = npu[rows]
        below = float(pdtr(seen.min() - 1, wanted)) if seen.min() > 0 else 0.0
        unseen[stratum] = below + float(pdtrc(seen.max(), wanted))
    warnings = []
    few = [stratum for stratum in kept if kept[stratum] < LOW_SHARE]
    if few:
        worst = min(few, key=kept.__getitem__)
        warnings.append(
            f"re-weighting from pile-up {generated:g} to {wanted:g} leaves {kept[worst]:.2%} of the effective events "
            f"of {names[worst]}, and less than {LOW_SHARE:.0%} in {len(few)} of {len(kept)} processes"
        )
    blind = [stratum for stratum in unseen if unseen[stratum] > UNSEEN_PROBABILITY]
    if blind:
        worst = max(blind, key=unseen.__getitem__)
        warnings.append(
            f"at pile-up {wanted:g}, {unseen[worst]:.1%} of the crossings of {names[worst]} hold a number of "
            f"collisions that none of its events has; more than {UNSEEN_PROBABILITY:.0%} in {len(blind)} of "
            f"{len(unseen)} processes"
        )
    return Reweighted(new, kept, tuple(warnings))
