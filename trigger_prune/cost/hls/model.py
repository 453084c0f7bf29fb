"""``HlsAnalyticCost``: what csynth would report of the hls4ml project of a network, in milliseconds, by formula.

The weights are read as integers, so sparsity and bits count. The coefficients come from a ``Calibration``; the
prediction intervals are its spreads, found on projects that were left out of the fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from trigger_prune.cost.hls import dense_latency
from trigger_prune.cost.hls.calibration import Calibration, shipped_calibration
from trigger_prune.cost.hls.design import HlsDesign, LayerEstimate
from trigger_prune.cost.hls.features import weight_features
from trigger_prune.cost.hls.from_spec import HLS_VERSION, design_from_spec
from trigger_prune.cost.hls.layers import family_of, spread_of_layer
from trigger_prune.cost.hls.network import FAMILY, error_family, predict_design
from trigger_prune.cost.hls.operators import uncertainty_ns
from trigger_prune.cost.hls.products import products
from trigger_prune.cost.hls.shared_error import SHARED_ERROR, shared_errors
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import Available, CostStage, HardwareReport, LayerCost
from trigger_prune.parts import find_part
from trigger_prune.target import Target

if TYPE_CHECKING:
    from torch import nn

TOOL_VERSION = "4"
"""Changes with every change of the formulas, so that stored reports are not mixed."""

QUANTITIES = tuple(f.name for f in fields(LayerEstimate))
_EXACT_WHEN_ZERO = ("dsp", "bram18")
"""Quantities whose estimate of 0 is a rule of the compiler, not a small number."""


class HlsAnalyticCost:
    """Cost model of the HLS flow: stage ``analytic``, predicts ``csynth``.

    calibration   coefficients; None = those shipped
    hls_version   release of Vitis HLS whose report is predicted
    """

    name = "analytic_hls"
    stage = CostStage.ANALYTIC

    def __init__(self, calibration: Calibration | None = None, hls_version: str = HLS_VERSION) -> None:
        self.calibration = calibration if calibration is not None else shipped_calibration()
        self.hls_version = hls_version

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Estimate for a quantised network. Raises ModelError for one that is not quantised, else as ``estimate``."""
        from trigger_prune.quantize.describe import describe_network

        return self.estimate(describe_network(network), target)

    def estimate(self, spec: NetworkSpec, target: Target) -> HardwareReport:
        """Estimate for a network given as integers.

        Raises ConfigError for a target that hls4ml would not build as it is, CostError for what has no formula.
        """
        design = design_from_spec(spec, target, self.hls_version)
        return self._report(design, spec.content_hash())

    def estimate_design(self, design: HlsDesign) -> HardwareReport:
        """Estimate for an hls4ml design. Raises CostError for what has no formula."""
        return self._report(design, design_hash(design))

    def _report(self, design: HlsDesign, content_hash: str) -> HardwareReport:
        total, layers = predict_design(design, self.calibration)
        setting = design.setting
        part = find_part(setting.part)
        return HardwareReport(
            stage=self.stage,
            tool="trigger_prune",
            tool_version=TOOL_VERSION,
            part=setting.part,
            clock_period_ns=setting.clock_period_ns,
            content_hash=content_hash,
            layers=tuple(
                LayerCost(
                    layer.name,
                    lut=_rounded(estimate.lut),
                    ff=_rounded(estimate.ff),
                    dsp=_rounded(estimate.dsp),
                    bram18=_rounded(estimate.bram18),
                    latency_cycles=_rounded(estimate.latency_cycles),
                    ii=_rounded(estimate.ii),
                    interval_90=intervals(estimate, spread_of_layer(layer, setting, self.calibration)),
                )
                for layer, estimate in zip(design.layers, layers, strict=True)
            ),
            details={
                **_reuse_details(design),
                **_product_details(design, self.calibration),
                **_shared_error_details(design, layers, total, self.calibration),
                "note": "estimate of the csynth report by formula; no tool was run",
                "hls_tool": setting.tool,
                "hls_version": setting.version,
                "io_type": setting.io_type,
            },
            predicts=CostStage.CSYNTH,
            available=Available(part.lut, part.ff, part.dsp, part.bram18, part.uram) if part else None,
            clock_uncertainty_ns=uncertainty_ns(setting),
            interval_90=design_intervals(design, total, layers, self.calibration),
            lut=_rounded(total.lut),
            ff=_rounded(total.ff),
            dsp=_rounded(total.dsp),
            bram18=_rounded(total.bram18),
            latency_cycles=_rounded(total.latency_cycles),
            ii=_rounded(total.ii),
        )


def _reuse_details(design: HlsDesign) -> dict[str, Any]:
    """Why each layer of constant weights has its II at a reuse factor above 1: what a solver must know of it."""
    effects = {}
    for layer in design.layers:
        if layer.reuse_factor > 1 and layer.kind == "dense" and family_of(layer) == dense_latency.FAMILY:
            found = dense_latency.reuse_effects(weight_features(layer), layer, design.setting, layer.reuse_factor)
            effects[layer.name] = {**vars(found), "shared": found.shared}
    return {"reuse": effects} if effects else {}


def _product_details(design: HlsDesign, calibration: Calibration) -> dict[str, Any]:
    """Which products each layer makes in DSPs, and which in LUTs."""
    found = {layer.name: products(layer, design.setting, calibration) for layer in design.layers}
    stated = {name: vars(each) for name, each in found.items() if each is not None and each.dsp + each.lut}
    return {"products": stated} if stated else {}


def _shared_error_details(
    design: HlsDesign, layers: Sequence[LayerEstimate], total: LayerEstimate, calibration: Calibration
) -> dict[str, Any]:
    """What of the interval cancels against another estimate of the network: for whoever compares two designs."""
    found = shared_errors(design, layers, total, calibration)
    return {SHARED_ERROR: found} if found else {}


def intervals(estimate: LayerEstimate, spread: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """90 % prediction intervals of an estimate by the factors ``spread``; none for a quantity without a factor."""
    result = {}
    for name in QUANTITIES:
        value = getattr(estimate, name)
        if value is None or name not in spread:
            continue
        if value == 0 and name in _EXACT_WHEN_ZERO:
            result[name] = (0.0, 0.0)
            continue
        low, high = spread[name]
        # Spreads below one unit are those of value + 1 (calibration.prediction_interval.ratio).
        shift = 1.0 if value < 1 else 0.0
        result[name] = (max((value + shift) * low - shift, 0.0), (value + shift) * high - shift)
    return result


def design_intervals(
    design: HlsDesign, total: LayerEstimate, layers: Sequence[LayerEstimate], calibration: Calibration
) -> dict[str, tuple[float, float]]:
    """90 % prediction intervals of a whole design.

    Of a design unlike those the network's spread was found with, the wider of two: the spread of such other designs
    (where there is none, that of ``network``), and the intervals of the layers put together: their ends added, for the
    interval and the latency of layers that overlap the largest.
    """
    spread = calibration.spread.get(FAMILY, {})
    if error_family(design) == FAMILY:
        return intervals(total, spread)
    result = intervals(total, {**spread, **calibration.spread.get(error_family(design), {})})
    parts = [
        intervals(estimate, spread_of_layer(layer, design.setting, calibration))
        for layer, estimate in zip(design.layers, layers, strict=True)
    ]
    for name, (low, high) in result.items():
        value = getattr(total, name)
        own = [getattr(estimate, name) or 0.0 for estimate in layers]
        ends = [part.get(name, (each, each)) for part, each in zip(parts, own, strict=True)]
        combined = max if name == "ii" or (name == "latency_cycles" and value < sum(own)) else sum
        # What lies between the layers is as uncertain as the whole.
        between = value - combined(own)
        least = combined([end[0] for end in ends]) + between * (low / value if value else 1.0)
        most = combined([end[1] for end in ends]) + between * (high / value if value else 1.0)
        result[name] = (max(min(low, least), 0.0), max(high, most))
    return result


def design_hash(design: HlsDesign) -> str:
    """SHA-256 (hex) of everything that defines the design."""
    digest = hashlib.sha256(repr(design.setting).encode())
    for layer in design.layers:
        for field in fields(layer):
            value: Any = getattr(layer, field.name)
            if isinstance(value, np.ndarray):
                digest.update(repr(value.shape).encode())
                digest.update(np.ascontiguousarray(value, dtype="<i8").tobytes())
            else:
                digest.update(repr(value).encode())
    return digest.hexdigest()


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
