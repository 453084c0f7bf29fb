"""Which family of formulas predicts which layer."""

from __future__ import annotations

import importlib

from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate
from trigger_prune.errors import CostError

_BY_KIND = {
    "conv1d": "conv",
    "conv2d": "conv",
    "batchnorm": "batch_norm",
    "relu": "activation",
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


def family_of(layer: HlsLayer) -> str:
    """Name of the module that predicts ``layer``. Raises CostError for a kind without formulas."""
    family = _DENSE[layer.strategy] if layer.kind == "dense" else _BY_KIND.get(layer.kind)
    if family is None:
        raise CostError(f"layer {layer.name!r}: no cost formula for a layer of kind {layer.kind!r}")
    return family


def predict_layer(layer: HlsLayer, setting: HlsSetting, calibration: Calibration) -> LayerEstimate:
    """Cost of one layer. Raises CostError for a layer without formulas."""
    family = family_of(layer)
    module = importlib.import_module(f"trigger_prune.cost.hls.{family}")
    estimate: LayerEstimate = module.predict(layer, setting, calibration.parameters(module.FAMILY, module.DEFAULTS))
    return estimate
