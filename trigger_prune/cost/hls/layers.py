"""Which family of formulas predicts which layer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate
from trigger_prune.errors import CostError

_BY_KIND = {
    "conv1d": "conv",
    "conv2d": "conv",
    "batchnorm": "batch_norm",
    "relu": "activation",
    "leaky_relu": "activation",
    "softmax": "activation",
    "sigmoid": "activation",
    "tanh": "activation",
    "linear": "activation",
    "max_pool": "pooling",
    "average_pool": "pooling",
    "global_pool": "pooling",
    "add": "elementwise",
    "concatenate": "elementwise",
    "zero_padding": "elementwise",
}
_DENSE = {
    "latency": "dense_latency",
    "resource": "dense_resource",
    "resource_unrolled": "dense_resource",
    "distributed_arithmetic": "distributed_arithmetic",
}


UNKNOWN = (0.33, 3.0)
"""Factors on an estimate where no report exists at all: three either way, declared, not measured."""
_VARYING = ("lut", "ff", "latency_cycles")


def family_of(layer: HlsLayer) -> str:
    """Name of the module that predicts ``layer``. Raises CostError for a kind without formulas.

    At a reuse factor of 1 the compiler sees constants in every strategy.
    """
    in_memory = layer.strategy in ("resource", "resource_unrolled")
    if layer.kind == "dense":
        family: str | None = "dense_latency" if in_memory and layer.reuse_factor == 1 else _DENSE[layer.strategy]
    else:
        family = _BY_KIND.get(layer.kind)
    if family is None:
        raise CostError(f"layer {layer.name!r}: no cost formula for a layer of kind {layer.kind!r}")
    return family


def predict_layer(layer: HlsLayer, setting: HlsSetting, calibration: Calibration) -> LayerEstimate:
    """Cost of one layer. Raises CostError for a layer without formulas."""
    family = family_of(layer)
    module = importlib.import_module(f"trigger_prune.cost.hls.{family}")
    parameters = calibration.parameters(module.FAMILY, module.DEFAULTS)
    if family == "conv":
        from trigger_prune.cost.hls import conv, dense_latency

        constants = calibration.parameters(dense_latency.FAMILY, dense_latency.DEFAULTS)
        return conv.predict(layer, setting, parameters, constants)
    estimate: LayerEstimate = module.predict(layer, setting, parameters)
    return estimate


def spread_of_layer(layer: HlsLayer, setting: HlsSetting, calibration: Calibration) -> dict[str, tuple[float, float]]:
    """Factors by quantity that enclose 90 % of the truth.

    Those of convolutions were found on weights in memory: of constant ones the wider of theirs and those of dense
    layers with constant weights. Where no report exists they are declared, by the family's module or as ``UNKNOWN``.
    """
    family = family_of(layer)
    spread = dict(calibration.spread.get(family, {}))
    if not spread:
        module = importlib.import_module(f"trigger_prune.cost.hls.{family}")
        return dict(getattr(module, "DECLARED_SPREAD", dict.fromkeys(_VARYING, UNKNOWN)))
    if layer.strategy == "resource_unrolled" and layer.n_weights:
        # Costed by the formulas of strategy resource, of which alone there are reports.
        spread = _wider(spread, dict.fromkeys(_VARYING, UNKNOWN))
    from trigger_prune.cost.hls import conv, dense_latency, dense_resource

    constant = family == conv.FAMILY and conv.has_constant_weights(layer)
    if constant:
        spread = _wider(spread, calibration.spread.get(dense_latency.FAMILY, {}))
    elif family in (conv.FAMILY, dense_resource.FAMILY) and layer.reuse_factor > 1:
        spread = _wider(spread, dense_resource.declared_spread(layer, setting))
    return spread


def _wider(
    first: Mapping[str, tuple[float, float]], second: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    both = {**second, **first}
    for quantity in first.keys() & second.keys():
        low, high = second[quantity]
        both[quantity] = (min(low, both[quantity][0]), max(high, both[quantity][1]))
    return both
