"""``calibrate``: the free coefficients of every family, fitted to reports, with the errors on projects held out."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np

from trigger_prune.cost.calibration.prediction_interval import COVERAGE, spread_of
from trigger_prune.cost.calibration.predictions import Prediction, by_quantity, errors_of, predict_samples, tool_name
from trigger_prune.cost.calibration.refine import RATIO_FAMILY, RATIO_PRIOR
from trigger_prune.cost.calibration.residuals import PRIOR_COUNT
from trigger_prune.cost.calibration.reuse_ratios import ratio_spread
from trigger_prune.cost.calibration.samples import Origin, Samples, VsynthPair, digest
from trigger_prune.cost.hls import feasibility, network
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import DesignSample, LayerEstimate, LayerSample
from trigger_prune.cost.hls.layers import family_of
from trigger_prune.cost.hls.model import TOOL_VERSION, intervals
from trigger_prune.errors import CostError

FOLDS = 10
Progress = Callable[[str], None]


def fit_families(samples: Samples) -> Calibration:
    """Coefficients of every family that has samples, without errors or intervals. Deterministic."""
    by_family: dict[str, list[LayerSample]] = {}
    for sample in samples.layers:
        by_family.setdefault(family_of(sample.layer), []).append(sample)
    families: dict[str, Mapping[str, float]] = {}
    for name, found in sorted(by_family.items()):
        module = importlib.import_module(f"trigger_prune.cost.hls.{name}")
        families[name] = _plain(module.fit(found, module.DEFAULTS))
    runs = [feasibility.FinishSample(run.layer, run.setting, run.finished, run.project) for run in samples.runs]
    if {run.finished for run in runs} == {True, False}:
        families[feasibility.FAMILY] = _plain(feasibility.fit(runs, feasibility.DEFAULTS))
    if samples.pairs:
        families[RATIO_FAMILY] = fit_ratios(samples.pairs)
    layers_only = Calibration(families=families)
    designs = [sample for sample in samples.designs if _has_estimate(sample, layers_only)]
    if designs:
        families[network.FAMILY] = _plain(network.fit(designs, layers_only))
    return Calibration(families=families)


def _has_estimate(sample: DesignSample, calibration: Calibration) -> bool:
    try:
        network.predict_design(sample.design, calibration)
    except CostError:
        return False
    return True


def calibrate(samples: Samples, date: str, progress: Progress = lambda text: None) -> Calibration:
    """Coefficients, intervals, errors and provenance.

    date   of the calibration, ISO 8601
    The errors are those on networks that were held out of the fit, and on whole projects that were. Their coverage is
    that of intervals made without the network in question; ``coverage_by_other_projects`` of those made without its
    project.
    """
    progress("fitting all samples")
    fitted = fit_families(samples)
    by_network = held_out(samples, network_folds(samples), progress)
    by_project = held_out(samples, project_folds(samples), progress)
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for split, predictions in (("network", by_network), ("project", by_project)):
        for family, found in by_family(with_intervals(predictions, by_network, by_project)).items():
            of_family = {quantity: _measures(chosen) for quantity, chosen in by_quantity(found).items()}
            tables[f"{family}, {split} held out"] = of_family
    for family, found in by_family(with_intervals(by_project, by_network, by_project, "project")).items():
        for quantity, chosen in by_quantity(found).items():
            coverage = errors_of(chosen).coverage
            if coverage == coverage:
                tables[f"{family}, project held out"][quantity]["coverage_by_other_projects"] = round(coverage, 4)
    spread = spreads(by_network, by_project) | ratio_spread(samples, by_project)
    return Calibration(fitted.families, spread, provenance(samples, date), tables)


def spreads(
    by_network: Iterable[Prediction], by_project: Iterable[Prediction], coverage: float = COVERAGE
) -> dict[str, dict[str, tuple[float, float]]]:
    """Factors of ``coverage`` (90 %) by family, for projects to come: found on errors of projects that the fit had not
    seen.

    ``by_network`` is used for what has no estimate at all without its own project.
    """
    unseen = list(by_project)
    known = {(p.fingerprint, p.name, p.quantity) for p in unseen}
    found = [*unseen, *(p for p in by_network if (p.fingerprint, p.name, p.quantity) not in known)]
    return {family: spread_of(chosen, coverage) for family, chosen in by_family(found).items()}


def with_intervals(
    predictions: Iterable[Prediction],
    by_network: Sequence[Prediction],
    by_project: Sequence[Prediction],
    left_out: Literal["network", "project"] = "network",
    coverage: float = COVERAGE,
) -> list[Prediction]:
    """Held-out predictions with the interval that they would have got without the errors of their own network, or of
    their whole project; none where no others are left."""
    chosen = list(predictions)
    sizes = Counter(name.split("/")[0] for name in {p.network for p in chosen})

    def group_of(prediction: Prediction) -> str:
        if left_out == "project":
            return prediction.project
        # In a sweep one layer more or less changes nothing: its intervals are made once, with all layers.
        return "" if sizes[prediction.network.split("/")[0]] > 2 * FOLDS else prediction.network

    def others(errors: Sequence[Prediction], group: str) -> list[Prediction]:
        return [p for p in errors if getattr(p, left_out) != group]

    without = {
        group: spreads(others(by_network, group), others(by_project, group), coverage)
        for group in sorted({group_of(prediction) for prediction in chosen})
    }
    found = []
    for prediction in chosen:
        factors = without[group_of(prediction)].get(prediction.family, {})
        none = dict.fromkeys(f.name for f in fields(LayerEstimate))
        estimate = LayerEstimate(**{**none, prediction.quantity: prediction.predicted})
        found.append(replace(prediction, interval=intervals(estimate, factors).get(prediction.quantity)))
    return found


_DERIVED = ("width", "coverage_low", "coverage_high")
"""Measures a calibration does not store: they follow from the spread, or from coverage and count."""

Belongs = Callable[[str, Origin | None], bool]
Fold = tuple[Belongs, str]
"""Which samples are held out together, and the name of the group."""


def project_folds(samples: Samples) -> tuple[Fold, ...]:
    """One fold per project."""

    def of_project(name: str) -> Belongs:
        def belongs(project: str, origin: Origin | None) -> bool:
            return project == name

        return belongs

    return tuple((of_project(name), name) for name in samples.projects)


def network_folds(samples: Samples) -> tuple[Fold, ...]:
    """One fold per network; the many single layers of a sweep are dealt to ten folds."""
    networks = sorted({origin.network for origin in (*samples.layer_origins, *samples.design_origins)})
    sizes = Counter(name.split("/")[0] for name in networks)
    group = {
        name: f"fold {int(digest(name), 16) % FOLDS}" if sizes[name.split("/")[0]] > 2 * FOLDS else name
        for name in networks
    }

    def in_group(chosen: str) -> Belongs:
        def belongs(project: str, origin: Origin | None) -> bool:
            return origin is not None and group[origin.network] == chosen

        return belongs

    return tuple((in_group(chosen), chosen) for chosen in sorted(set(group.values())))


def held_out(samples: Samples, folds: Iterable[Fold], progress: Progress = lambda text: None) -> list[Prediction]:
    """Predictions of every fold by coefficients fitted to all others; without intervals."""
    found: list[Prediction] = []
    for belongs, name in folds:
        test = samples.where(belongs)
        if not (test.layers or test.designs):
            continue
        progress(f"without {name}")
        train = samples.where(_others(belongs))
        predictions, _ = predict_samples(test, fit_families(train))
        found += [replace(prediction, interval=None) for prediction in predictions]
    return found


def _others(belongs: Belongs) -> Belongs:
    def others(project: str, origin: Origin | None) -> bool:
        return not belongs(project, origin)

    return others


def by_family(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    """Predictions of each family, sorted by its name."""
    grouped: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        grouped.setdefault(prediction.family, []).append(prediction)
    return dict(sorted(grouped.items()))


def fit_ratios(pairs: Iterable[VsynthPair]) -> dict[str, float]:
    """vsynth / csynth: median and 90 % range, every project counting the same, drawn to RATIO_PRIOR when few."""
    found = list(pairs)
    result = {}
    for quantity, (median, low, high) in RATIO_PRIOR.items():
        ratios: list[float] = []
        weights: list[float] = []
        for pair in found:
            before, after = getattr(pair.csynth, quantity), getattr(pair.vsynth, quantity)
            if before and after:
                ratios.append(after / before)
                weights.append(1 / sum(other.project == pair.project for other in found))
        values = np.quantile(ratios, (0.5, 0.05, 0.95), weights=weights, method="inverted_cdf") if ratios else ()
        share = len(ratios) / (len(ratios) + PRIOR_COUNT)
        for name, prior, value in zip(("median", "low", "high"), (median, low, high), values, strict=False):
            result[f"{quantity}_{name}"] = float(np.exp(share * np.log(value) + (1 - share) * np.log(prior)))
    return result


def provenance(samples: Samples, date: str) -> dict[str, Any]:
    """Where the samples came from; ``reports`` are the fingerprints of every report that was seen."""
    tools = sorted(
        {tool_name(s.setting) for s in samples.layers} | {tool_name(s.design.setting) for s in samples.designs}
    )
    return {
        "date": date,
        "formulas": TOOL_VERSION,
        "projects": list(samples.projects),
        "tools": tools,
        "layers": len(samples.layers),
        "designs": len(samples.designs),
        "runs": len(samples.runs),
        "vsynth_pairs": len(samples.pairs),
        "reports": list(samples.fingerprints()),
    }


def _plain(coefficients: Mapping[str, float]) -> dict[str, float]:
    # Six digits: more would only say which machine did the fit.
    return {name: float(f"{float(value):.6g}") for name, value in sorted(coefficients.items())}


def _measures(predictions: list[Prediction]) -> dict[str, float]:
    figures = errors_of(predictions).to_dict()
    return {name: round(value, 4) for name, value in figures.items() if value is not None and name not in _DERIVED}
