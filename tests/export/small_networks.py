"""Small quantised networks for the tests of export and verify, and an integer model of them as independent truth."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import fx, nn

from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure.resize import drop_inputs

INPUT_8 = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")
INPUT_16 = FixedPoint(16, 4, True, "AP_RND", "AP_SAT")


def events(fixed: FixedPoint, n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """``n`` random events on the grid of ``fixed``, then one with every input at its minimum and one at its maximum."""
    codes = np.random.default_rng(seed).integers(fixed.min_code, fixed.max_code, (n, *shape), endpoint=True)
    extreme = np.stack([np.full(shape, fixed.min_code), np.full(shape, fixed.max_code)])
    return (np.concatenate([codes, extreme]) * fixed.lsb).astype(np.float32)


def quantised(
    model: nn.Module,
    shape: tuple[int, ...],
    *,
    fixed: FixedPoint = INPUT_8,
    weight_bits: int = 6,
    activation_bits: int = 6,
    rounding: str = "AP_TRN",
) -> fx.GraphModule:
    """``model`` with BatchNorm statistics of random events, quantised."""
    generator = np.random.default_rng(1)
    x = torch.tensor(fixed.quantize(generator.normal(size=(400, *shape)))).float()
    model.train()
    for _ in range(20):
        model(x)
    precision = SimpleNamespace(weight_bits=weight_bits, activation_bits=activation_bits, rounding=rounding)
    return quantize_model(model.eval(), x, fixed, precision)


def mlp(**options: object) -> fx.GraphModule:
    """6 inputs of which one was dropped, 8 - 4 hidden with a dead neuron in each layer and some masks, 3 outputs."""
    torch.manual_seed(1)
    network = quantised(Mlp((6,), 3, hidden=(8, 4)), (6,), **options)
    drop_inputs(network, [0, 1, 3, 4, 5])
    for layer in weight_layers(network).values():
        layer.weight_mask[1, :] = 0
        layer.weight_mask[0, 2] = 0
    return network


def deep_sets(**options: object) -> fx.GraphModule:
    """4 particles of 3 features, phi 4 - 4, rho 4, 2 outputs."""
    torch.manual_seed(2)
    return quantised(DeepSets((3, 4), 2, phi=(4, 4), rho=(4,)), (3, 4), **options)


def integer_outputs(spec: NetworkSpec, features: np.ndarray) -> np.ndarray:
    """Outputs computed with integers only, for networks of dense layers and unpadded convolutions."""
    return integer_sums(spec, features)[-1].reshape(len(features), -1)


def integer_sums(spec: NetworkSpec, features: np.ndarray) -> list[np.ndarray]:
    """Values of all weight layers' sums, in order; the last ones are the outputs."""
    codes = np.rint(features.astype(np.float64) / spec.input_type.lsb).astype(np.int64)
    found = []
    for layer in spec.layers:
        fraction = layer.input_type.fraction + layer.weight_type.fraction
        assert layer.bias_type.fraction <= fraction or not layer.bias.any()
        shift = max(0, fraction - layer.bias_type.fraction)
        sums = _sums(layer, codes)
        codes = sums + (layer.bias << shift).reshape(1, -1, *[1] * (sums.ndim - 2))
        found.append(codes * 2.0**-fraction)
        if layer.relu:
            codes = np.maximum(codes, 0)
        if layer.output_type is not None:
            codes = _convert(codes, fraction, layer.output_type)
    return found


def with_weight_changed(spec: NetworkSpec, layer: str, index: tuple[int, ...], steps: int = 1) -> NetworkSpec:
    """``spec`` with one weight moved by ``steps`` codes."""
    layers = []
    for item in spec.layers:
        weight = item.weight.copy()
        if item.name == layer:
            weight[index] += steps
        layers.append(replace(item, weight=weight))
    return replace(spec, layers=tuple(layers))


def _sums(layer: WeightLayer, codes: np.ndarray) -> np.ndarray:
    if layer.kind == "dense":
        return codes.reshape(len(codes), -1) @ layer.weight.T
    windows = np.lib.stride_tricks.sliding_window_view(codes, layer.weight.shape[2], axis=2)  # event, channel, out, k
    per_group = layer.weight.shape[1]
    out_per_group = len(layer.weight) // layer.groups
    groups = [
        np.einsum(
            "ecpk,ock->eop",
            windows[:, g * per_group : (g + 1) * per_group],
            layer.weight[g * out_per_group : (g + 1) * out_per_group],
        )
        for g in range(layer.groups)
    ]
    return np.concatenate(groups, axis=1)


def _convert(codes: np.ndarray, fraction: int, fixed: FixedPoint) -> np.ndarray:
    drop = fraction - fixed.fraction
    if drop <= 0:
        shifted = codes << -drop
    else:
        shifted = codes >> drop
        if fixed.rounding is Rounding.AP_RND_CONV:
            rest, half = codes - (shifted << drop), 1 << (drop - 1)
            shifted = shifted + ((rest > half) | ((rest == half) & (shifted % 2 == 1)))
    return np.clip(shifted, fixed.min_code, fixed.max_code)
