"""From layers to the whole design.

``io_parallel`` without strategy resource is one pipelined function that calls the layers in turn:

* DSP and BRAM add up; the II is the largest of all layers (exact in 46 of 46 reports);
* a layer of latency L takes L + 1 cycles of the schedule. A combinational one takes its own cycle, unless it is short
  (a plain ReLU, a concatenation), or a batch normalisation whose activation follows. With an II of 1, compilers from
  2020 register the outputs of a dense layer of two cycles or more once again;
* registers: the outputs that vary, between the layers; those that a short layer takes over at once need half.

Every other design is a dataflow of processes with FIFOs between them (``fifo.py``). Their intervals are those of the
slowest. Layers that stream positions overlap; a layer that needs its whole input (dense, global pooling) starts after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import DesignSample, HlsDesign, HlsLayer, HlsSetting, LayerEstimate
from trigger_prune.cost.hls.features import WeightFeatures
from trigger_prune.cost.hls.fifo import predict_fifo
from trigger_prune.cost.hls.layers import predict_layer
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import Overflow, Rounding

FAMILY = "network"
DEFAULTS: Mapping[str, float] = {
    "border_ff": 0.95,
    "short_border_ff": 0.5,
    "control_lut": 18.0,
    "control_lut_per_ii": 5.1,
}
RESOURCE_FAMILY = "network_resource"
"""Of the errors of dense layers in io_parallel of which some have another strategy than latency. The public reports
hold no such network: then those of its layers count, and those of ``network`` for what lies between."""
OTHER_FAMILY = "network_other"
"""Of the errors of all other designs, as networks with convolutions: reported apart."""
_ACTIVATIONS = ("relu", "linear", "sigmoid", "tanh", "softmax", "batchnorm")
_DENSE_NETWORK = ("dense", *_ACTIVATIONS)
_ELEMENTWISE = ("relu", "linear", "sigmoid", "tanh", "batchnorm")
_WHOLE_INPUT = ("dense", "global_pool", "softmax")
_QUANTITIES = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")


def predict_design(design: HlsDesign, calibration: Calibration) -> tuple[LayerEstimate, tuple[LayerEstimate, ...]]:
    """Cost of the design, and of each of its layers. Raises CostError for a design without layers, or a layer
    without formulas."""
    if not design.layers:
        raise CostError("the design has no layers")
    parameters = calibration.parameters(FAMILY, DEFAULTS)
    alive = alive_outputs(design)
    layers = tuple(
        predict_layer(_trimmed(layer, count), design.setting, calibration)
        for layer, count in zip(design.layers, alive, strict=True)
    )
    compose = _dataflow if is_dataflow(design) else _pipeline
    return compose(design, layers, alive, parameters), layers


def is_dataflow(design: HlsDesign) -> bool:
    """Whether hls4ml makes the top function a dataflow: io_stream, or any layer of strategy resource."""
    if design.setting.io_type == "io_stream":
        return True
    return any(layer.strategy == "resource" and layer.n_weights for layer in design.layers)


def error_family(design: HlsDesign) -> str:
    """Whose errors an estimate of ``design`` has: ``network`` for dense layers of strategy latency and activations in
    io_parallel, which nearly all reports are of; ``network_resource`` for other strategies; ``network_other`` for the
    rest."""
    if design.setting.io_type != "io_parallel" or any(layer.kind not in _DENSE_NETWORK for layer in design.layers):
        return OTHER_FAMILY
    latency = all(layer.strategy == "latency" for layer in design.layers if layer.kind == "dense")
    return FAMILY if latency else RESOURCE_FAMILY


def alive_outputs(design: HlsDesign) -> tuple[int, ...]:
    """Outputs of every layer that depend on its input. An output without weights is a constant, and so is what an
    activation makes of it."""
    counts: list[int] = []
    for layer in design.layers:
        size = layer.n_out
        if layer.n_weights:
            if layer.weight is not None:
                size = int(np.any(layer.weight.reshape(layer.weight.shape[0], -1), axis=1).sum())
            elif isinstance(layer.features, WeightFeatures) and layer.features.alive_outputs:
                size = min(layer.features.alive_outputs, layer.n_out)
        elif layer.kind in _ELEMENTWISE and counts and design.layers[len(counts) - 1].n_out == layer.n_out:
            size = counts[-1]
        counts.append(size)
    return tuple(counts)


def _trimmed(layer: HlsLayer, alive: int) -> HlsLayer:
    """An elementwise layer with as many elements as vary."""
    if layer.kind not in _ELEMENTWISE or alive == layer.n_out or layer.weight is not None or layer.features:
        return layer
    return replace(layer, n_in=alive, n_out=alive)


def _total(layers: tuple[LayerEstimate, ...], name: str) -> float | None:
    values = [getattr(layer, name) for layer in layers]
    return None if any(value is None for value in values) else float(sum(values))


def _positions(layer: HlsLayer) -> int:
    return math.prod(layer.output_size) if layer.output_size else 1


def _is_short(layer: HlsLayer, estimate: LayerEstimate) -> bool:
    """A combinational layer that needs no cycle of its own."""
    if (estimate.latency_cycles or 0) > 0 or layer.kind not in ("relu", "linear", "concatenate"):
        return False
    kind = layer.output_type
    plain = kind.overflow is Overflow.AP_WRAP and kind.rounding in (Rounding.AP_TRN, Rounding.AP_TRN_ZERO)
    return layer.kind == "concatenate" or plain


def _pipeline(
    design: HlsDesign,
    layers: tuple[LayerEstimate, ...],
    alive: tuple[int, ...],
    parameters: Mapping[str, float],
) -> LayerEstimate:
    early = design.setting.release < (2020, 2)
    intervals = [layer.ii or 1.0 for layer in layers]
    ii = max(intervals)
    cycles, bits = 0.0, 0.0
    known_latency = all(estimate.latency_cycles is not None for estimate in layers)
    for index, (layer, estimate) in enumerate(zip(design.layers, layers, strict=True)):
        latency = estimate.latency_cycles or 0.0
        following = design.layers[index + 1] if index + 1 < len(layers) else None
        short = _is_short(layer, estimate)
        merged = layer.kind == "batchnorm" and following is not None and following.kind in _ELEMENTWISE
        if latency > 0:
            cycles += latency + 1
        elif not short and not merged:
            cycles += 1
        if ii == 1 and not early and layer.kind == "dense" and latency >= 2:
            cycles += 1
        if following is None:
            continue
        width = layer.output_type.width * alive[index] * (_positions(layer) if layer.n_weights else 1)
        taken = _is_short(following, layers[index + 1])
        bits += width * (parameters["short_border_ff"] if taken else parameters["border_ff"])
    latency_cycles = max(cycles - 1, 0.0)
    control = parameters["control_lut"] + parameters["control_lut_per_ii"] * ii if ii > 1 else 2.0
    lut, ff = _total(layers, "lut"), _total(layers, "ff")
    return LayerEstimate(
        lut=None if lut is None else lut + control,
        ff=None if ff is None else ff + bits + latency_cycles,
        dsp=_total(layers, "dsp"),
        bram18=_total(layers, "bram18"),
        latency_cycles=latency_cycles if known_latency else None,
        ii=ii,
    )


def _dataflow(
    design: HlsDesign,
    layers: tuple[LayerEstimate, ...],
    alive: tuple[int, ...],
    parameters: Mapping[str, float],
) -> LayerEstimate:
    lut, ff, bram = _total(layers, "lut"), _total(layers, "ff"), _total(layers, "bram18")
    for layer, count in zip(design.layers[:-1], alive[:-1], strict=True):
        fifo_lut, fifo_ff, fifo_bram = _fifos(layer, count, design.setting)
        lut = None if lut is None else lut + fifo_lut
        ff = None if ff is None else ff + fifo_ff
        bram = None if bram is None else bram + fifo_bram
    intervals = [layer.ii for layer in layers]
    known = all(layer.latency_cycles is not None and layer.ii is not None for layer in layers)
    return LayerEstimate(
        lut=lut,
        ff=ff,
        dsp=_total(layers, "dsp"),
        bram18=bram,
        latency_cycles=_dataflow_latency(design, layers) if known else None,
        ii=max((value for value in intervals if value is not None), default=None),
    )


def _fifos(layer: HlsLayer, alive: int, setting: HlsSetting) -> tuple[float, float, float]:
    """FIFOs behind a layer: one a channel, as deep as there are positions; two deep for single values."""
    positions = _positions(layer) if setting.io_type == "io_stream" else 1
    lut, ff, bram = predict_fifo(max(positions, 2), layer.output_type.width, setting)
    channels = alive * (_positions(layer) if setting.io_type == "io_parallel" and layer.n_weights else 1)
    return lut * channels, ff * channels, bram * channels


def _dataflow_latency(design: HlsDesign, layers: tuple[LayerEstimate, ...]) -> float:
    """Longest streaming layer plus what the others add to it, one after the other where a whole input is needed."""
    total = longest = 0.0
    for layer, estimate in zip(design.layers, layers, strict=True):
        latency, ii = estimate.latency_cycles or 0.0, estimate.ii or 1.0
        if design.setting.io_type == "io_parallel" or (layer.kind in _WHOLE_INPUT and _positions(layer) == 1):
            total += longest + latency + (1 if latency > 0 else 0)
            longest = 0.0
        else:
            total += max(latency - ii, 0.0)
            longest = max(longest, min(latency, ii))
    return total + longest


def fit(samples: Sequence[DesignSample], calibration: Calibration) -> dict[str, float]:
    """The registers between layers, from pipelined designs that can be estimated and whose report states every layer;
    the rest is kept.

    Median over the designs of each project, then over projects.
    """
    parameters = calibration.parameters(FAMILY, DEFAULTS)
    ratios: dict[str, list[float]] = {}
    for sample in samples:
        report, design = sample.measured, sample.design
        stated = [layer.ff for layer in report.layers if layer.ff is not None]
        if report.ff is None or is_dataflow(design) or len(stated) < len(design.layers):
            continue
        between = report.ff - sum(stated)
        try:
            total, layers = predict_design(design, calibration)
        except CostError:
            continue  # a layer without formula, or of unknown weights
        own = _total(layers, "ff")
        if total.ff is None or own is None or total.latency_cycles is None or between <= 0:
            continue
        bits = total.ff - own - total.latency_cycles
        if bits > 0:
            ratios.setdefault(sample.project, []).append((between - total.latency_cycles) / bits)
    if ratios:
        factor = float(np.clip(np.median([np.median(values) for values in ratios.values()]), 0.25, 2.0))
        parameters["border_ff"] *= factor
        parameters["short_border_ff"] *= factor
    return parameters
