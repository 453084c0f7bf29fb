"""Reuse factors of single layers after a network has become smaller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.hls.fitting_layouts import fitting_layouts
from trigger_prune.cost.hls.from_spec import design_from_spec
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.target import LayerLayout, Target

SIGNED = FixedPoint(8, 3)


def dense(name: str, n_in: int, n_out: int) -> WeightLayer:
    return WeightLayer(
        name=name,
        kind="dense",
        weight=np.ones((n_out, n_in), dtype=np.int64),
        bias=np.ones(n_out, dtype=np.int64),
        weight_type=SIGNED,
        bias_type=SIGNED,
        input_type=SIGNED,
        output_type=SIGNED,
        relu=True,
        positions=1,
    )


SPEC = NetworkSpec(layers=(dense("a", 23, 16), dense("b", 16, 30)), input_type=SIGNED, input_shape=(23,), n_outputs=30)


@pytest.mark.parametrize(
    ("layer", "strategy", "wanted", "found"),
    [
        ("a", "Resource", 12, 23),  # of 1, 23, 46, 92, 184, 368 the nearest by ratio, not by difference
        ("a", "Resource", 4, 1),
        ("a", "Resource", 46, 46),
        ("a", "Resource", 5000, 368),
        ("a", "Latency", 12, 12),
        ("a", "distributed_arithmetic", 12, 1),
        ("b", "Resource", 16, 16),
    ],
)
def test_nearest_by_ratio(layer: str, strategy: str, wanted: int, found: int) -> None:
    other = LayerLayout("b" if layer == "a" else "a", "Latency", 3)
    target = Target(strategy="Latency", layers=(LayerLayout(layer, strategy, wanted), other))
    fitted = fitting_layouts(SPEC, target)
    assert fitted == replace(target, layers=(LayerLayout(layer, strategy, found), other))
    built = {one.name: one.reuse_factor for one in design_from_spec(SPEC, fitted).layers}
    assert built[layer] == found


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        fitting_layouts(SPEC, Target(layers=(LayerLayout("nowhere", "Resource", 2),)))
