"""Layouts of single layers for a network that has become smaller.

A reuse factor that divides a layer's weights need not divide them once neurons or inputs are gone.
"""

from __future__ import annotations

import math
from dataclasses import replace

from trigger_prune.cost.hls.design import HlsLayer, IoType
from trigger_prune.cost.hls.from_spec import design_from_spec
from trigger_prune.cost.hls.reuse_factor import (
    MULTIPLYING_KINDS,
    allowed_reuse_factors,
    effective_strategy,
    multiplication_size,
)
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.target import LayerLayout, Target


def fitting_layouts(spec: NetworkSpec, target: Target) -> Target:
    """``target`` with the reuse factor of every layer that it names moved to the valid one nearest by ratio, of two
    equally near ones the smaller. Raises ConfigError as ``design_from_spec``."""
    plain = tuple(replace(layout, reuse_factor=1) for layout in target.layers)
    design = design_from_spec(spec, replace(target, strategy="Latency", reuse_factor=1, layers=plain))
    built = {layer.name: layer for layer in design.layers if layer.kind in MULTIPLYING_KINDS}
    return replace(
        target, layers=tuple(_fitted(layout, built[layout.layer], design.setting.io_type) for layout in target.layers)
    )


def _fitted(layout: LayerLayout, layer: HlsLayer, io_type: IoType) -> LayerLayout:
    strategy = effective_strategy(layer.strategy, layout.reuse_factor, layer.kind, io_type)
    valid = allowed_reuse_factors(*multiplication_size(layer), strategy)
    if not valid or layout.reuse_factor in valid:
        return layout
    nearest = min(valid, key=lambda factor: (abs(math.log(factor / layout.reuse_factor)), factor))
    return replace(layout, reuse_factor=nearest)
