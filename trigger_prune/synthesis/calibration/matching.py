"""Layers of a project and the modules that were synthesised from them, one to one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from trigger_prune.cost.calibration.module_names import FunctionName, kind_of, parse_module
from trigger_prune.cost.calibration.table_layers import INNER_FUNCTIONS
from trigger_prune.cost.hls.design import HlsLayer
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration.drafts import Draft, config_number
from trigger_prune.synthesis.calibration.hls_log import HlsLog
from trigger_prune.synthesis.calibration.module_reports import ModuleReport
from trigger_prune.synthesis.calibration.weight_check import contradiction, used_inputs

_NAMED_REUSE = re.compile(r"(?:^|[_\-.])(?:reuse|rf)[_\-]?(\d+)$", re.IGNORECASE)
_WEIGHTED = ("dense", "conv1d", "conv2d")


@dataclass(frozen=True)
class Matched:
    """A layer, the module that computes it (None = it has none of its own), and the C++ configuration."""

    layer: HlsLayer
    module: ModuleReport | None
    config: str


def match_modules(
    drafts: tuple[Draft, ...],
    modules: dict[str, ModuleReport],
    top: ModuleReport,
    log: HlsLog,
    folder_name: str,
    notes: list[str],
) -> list[Matched]:
    """Layers in order of computation with their modules, as they were synthesised; ``notes`` is added to.

    All weights are taken out when the modules contradict those of one layer.
    """
    matched = [_with_reuse_factor(item, log, folder_name, notes) for item in _match(drafts, modules, top, log)]
    # From the last layer on: which outputs are used is known by the weights behind, if those are sound.
    checked = list(matched)
    for i in reversed(range(len(checked))):
        checked[i] = _with_sound_weights(checked[i], checked[i + 1 :], notes)
    if all(after.layer.weight is before.layer.weight for before, after in zip(matched, checked, strict=True)):
        return matched
    # A model that differs in one layer was trained anew: the other layers have the right sizes, not the right weights.
    return [replace(item, layer=replace(item.layer, weight=None, bias=None)) for item in checked]


def _match(
    drafts: tuple[Draft, ...], modules: dict[str, ModuleReport], top: ModuleReport, log: HlsLog
) -> list[Matched]:
    """Layers in order of computation with their modules."""
    ordered = [name for name in log.modules if name in modules] + sorted(set(modules) - set(log.modules))
    pending = {draft.number: draft for draft in drafts}
    scales = {draft.layer.name: draft.scale for draft in drafts if draft.scale is not None}
    found: list[tuple[ModuleReport, FunctionName]] = []
    for name in ordered:
        function = parse_module(name)
        if name == top.name or function.function.startswith((*INNER_FUNCTIONS, top.name)):
            continue
        # Loops and helpers of a layer become modules too; only a function with a configuration is a layer.
        if function.config is not None or kind_of(function.function) != "other":
            found.append((modules[name], function))
    named = {config_number(function.config) for _, function in found if function.config}
    matched: list[Matched] = []
    for module, function in found:
        config = function.config
        if config is None:
            # Vivado HLS shortens names until the configuration is gone; modules are built in order of computation.
            same = [d for d in pending.values() if d.layer.kind == kind_of(function.function) and d.number not in named]
            config = same[0].config if same else function.function
        stated = log.functions.get(config, function)
        draft = pending.pop(config_number(config), None)
        before = matched[-1].layer.output_type if matched else None
        layer = _layer(draft, function, stated, before, module)
        if draft is None and matched and matched[-1].layer.name in scales:
            layer = _scaling(layer, matched[-1].layer.name, scales)
        matched.append(Matched(layer, module, config))
    for draft in pending.values():
        at = next((i for i, item in enumerate(matched) if config_number(item.config) > draft.number), len(matched))
        matched.insert(at, Matched(draft.layer, None, draft.config))
    return matched


def _layer(
    draft: Draft | None, function: FunctionName, stated: FunctionName, before: FixedPoint | None, module: ModuleReport
) -> HlsLayer:
    """The layer as it was synthesised: types of the C++ where a name tells them; ``before`` is what reaches it."""
    input_type = function.input_type or stated.input_type or before
    output_type = function.output_type or stated.output_type
    if draft is not None:
        layer = draft.layer
        output_type = output_type or layer.output_type
        accum_type = layer.accum_type
        if accum_type == layer.output_type != output_type:
            # Types were edited by hand in the C++, which is not there: accumulators follow results.
            accum_type = output_type
        return replace(layer, input_type=input_type or layer.input_type, output_type=output_type, accum_type=accum_type)
    # hls4ml adds layers of its own: scales of quantised weights, say. Their size is that of their ports.
    fallback = input_type or output_type or FixedPoint(16, 6)
    size = max(module.output_bits // (output_type or fallback).width, 1)
    name = function.config or function.function
    return HlsLayer(name, kind_of(function.function), size, size, fallback, output_type or fallback)


def _scaling(layer: HlsLayer, before: str, scales: Mapping[str, float]) -> HlsLayer:
    """hls4ml's own layer behind quantised weights: one scale for all outputs, no shift."""
    codes = layer.output_type.to_code(np.full(layer.n_out, scales[before]))
    return replace(
        layer, name=f"{before}_alpha", weight=codes, weight_type=layer.output_type, bias=np.zeros_like(codes)
    )


def _with_reuse_factor(item: Matched, log: HlsLog, folder_name: str, notes: list[str]) -> Matched:
    """The reuse factor that was synthesised: by the log, else by the folder's name, else by the configuration."""
    layer = item.layer
    target = log.target_ii.get(item.module.name) if item.module else None
    if target is not None and layer.kind in _WEIGHTED and layer.strategy == "latency":
        factor, source = target, "the log"
    elif (match := _NAMED_REUSE.search(folder_name)) and layer.kind in _WEIGHTED:
        factor, source = int(match.group(1)), "the folder's name"
    else:
        return item
    if factor != layer.reuse_factor:
        notes.append(
            f"layer {layer.name}: reuse factor {factor} by {source}, {layer.reuse_factor} by the configuration"
        )
    return replace(item, layer=replace(layer, reuse_factor=factor))


def _with_sound_weights(item: Matched, behind: list[Matched], notes: list[str]) -> Matched:
    """Without its weights when the module contradicts them."""
    if item.module is None or item.layer.weight is None:
        return item
    following = next((other.layer for other in behind if other.layer.kind in _WEIGHTED), None)
    used_next = item.layer.n_out if following is None else None
    if following is not None and following.weight is not None and following.weight.ndim == 2:
        used_next = used_inputs(following.weight)
    problem = contradiction(item.layer, item.module, used_next)
    if problem is None:
        return item
    notes.append(f"layer {item.layer.name}: the weights in the folder are not the synthesised ones: {problem}")
    return replace(item, layer=replace(item.layer, weight=None, bias=None))


def unusable(layer: HlsLayer) -> str | None:
    """Why no estimate of a layer is possible, or None."""
    if layer.kind == "other":
        return f"no formulas for {layer.name}"
    if layer.kind in _WEIGHTED and layer.strategy == "latency" and layer.weight is None:
        return "the weights are unknown or not those that were synthesised"
    return None
