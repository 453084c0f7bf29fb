"""Estimates beside what was measured: the pairs that error tables and prediction intervals are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trigger_prune.cost.calibration.metrics import QUANTITIES, Errors, errors
from trigger_prune.cost.calibration.samples import Origin, Samples
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import DesignSample, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.layers import family_of, predict_layer, spread_of_layer
from trigger_prune.cost.hls.model import HlsAnalyticCost, intervals
from trigger_prune.cost.hls.network import error_family
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import CostError


@dataclass(frozen=True)
class Prediction:
    """One quantity of one layer or design. ``family`` is that of the formulas; of whole designs it is ``network`` or
    ``network_other``."""

    family: str
    quantity: str
    name: str
    project: str
    network: str
    tool: str
    fingerprint: str
    predicted: float
    true: float
    interval: tuple[float, float] | None = None


def predict_samples(
    samples: Samples, calibration: Calibration
) -> tuple[tuple[Prediction, ...], tuple[tuple[str, str], ...]]:
    """Estimates of every layer and design, and (path, reason) of those without one."""
    found: list[Prediction] = []
    failed: list[tuple[str, str]] = []
    for layer, origin in zip(samples.layers, samples.layer_origins, strict=True):
        try:
            found += layer_predictions(layer, origin, calibration)
        except CostError as error:
            failed.append((origin.path, error.message))
    model = HlsAnalyticCost(calibration)
    for design, origin in zip(samples.designs, samples.design_origins, strict=True):
        try:
            report = model.estimate_design(design.design)
        except CostError as error:
            failed.append((origin.path, error.message))
            continue
        found += design_predictions(design, report, origin)
    return tuple(found), tuple(failed)


def layer_predictions(sample: LayerSample, origin: Origin, calibration: Calibration) -> list[Prediction]:
    """Every quantity of a layer that is both estimated and measured. Raises CostError for one without formulas."""
    family = family_of(sample.layer)
    estimate = predict_layer(sample.layer, sample.setting, calibration)
    ranges = intervals(estimate, spread_of_layer(sample.layer, sample.setting, calibration))
    return [
        Prediction(
            family,
            quantity,
            sample.layer.name,
            sample.project,
            origin.network,
            tool_name(sample.setting),
            origin.fingerprint,
            predicted,
            true,
            ranges.get(quantity),
        )
        for quantity, predicted, true in _pairs(estimate, sample.measured)
    ]


def design_predictions(sample: DesignSample, estimate: HardwareReport, origin: Origin) -> list[Prediction]:
    """Every quantity of a design that is both estimated and measured."""
    return [
        Prediction(
            error_family(sample.design),
            quantity,
            sample.name,
            sample.project,
            origin.network,
            tool_name(sample.design.setting),
            origin.fingerprint,
            predicted,
            true,
            estimate.interval_90.get(quantity),
        )
        for quantity, predicted, true in _pairs(estimate, sample.measured)
    ]


def _pairs(
    estimate: LayerEstimate | HardwareReport, measured: LayerEstimate | HardwareReport
) -> list[tuple[str, float, float]]:
    pairs = ((quantity, getattr(estimate, quantity), getattr(measured, quantity)) for quantity in QUANTITIES)
    return [(name, float(p), float(t)) for name, p, t in pairs if p is not None and t is not None]


def tool_name(setting: HlsSetting) -> str:
    """Compiler and release, ``vitis_hls 2024.1``."""
    return f"{setting.tool} {setting.version}"


def errors_of(predictions: Iterable[Prediction]) -> Errors:
    """Error measures of some predictions, all of one quantity."""
    chosen = list(predictions)
    return errors([p.predicted for p in chosen], [p.true for p in chosen], [p.interval for p in chosen])


def by_quantity(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    """Predictions of each quantity, in the order of QUANTITIES."""
    grouped: dict[str, list[Prediction]] = {quantity: [] for quantity in QUANTITIES}
    for prediction in predictions:
        grouped[prediction.quantity].append(prediction)
    return {quantity: found for quantity, found in grouped.items() if found}
