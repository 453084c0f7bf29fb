"""From judged candidates to the solver's problem: losses of units, costs of layers given the bits they read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import fx

from trigger_prune.cost.network import WeightLayer
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.precision.candidates import CandidateTable, layer_state
from trigger_prune.precision.space import Choice, PrecisionSpace, Setting, Unit
from trigger_prune.prune.budget.estimators import LayerEstimator
from trigger_prune.prune.budget.options import RESOURCES, CostVector, EdgeCost, LayerMenu, Option, Problem
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.quantize.wires import require_type, wire_types
from trigger_prune.sensitivity.precision import Wiring
from trigger_prune.target import Target

_ON_EDGES = tuple(name for name in RESOURCES if name != "ii")


class LayerCosts:
    """Costs of single layers at any bits of their own and of what they read; each is computed once."""

    def __init__(self, space: PrecisionSpace, estimator: LayerEstimator, target: Target) -> None:
        self.space, self.estimator, self.target = space, estimator, target
        probe = copy.deepcopy(space.build(space.widest()))
        self._probe: fx.GraphModule = probe
        self._nodes = Wiring(probe).nodes
        self._layers = {layer.name: layer for layer in describe_network(probe).layers}
        self._known: dict[tuple[str, int | None, FixedPoint | None, FixedPoint], CostVector] = {}

    def of(self, unit: Unit, setting: Setting, sources: Choice) -> CostVector:
        """Cost of a unit; ``sources`` has the settings of what it reads. A unit without layer costs nothing."""
        if unit.layer is None:
            return CostVector()
        read = self.input_type(unit, sources)
        output = None
        if unit.quantiser is not None and setting.activation_bits is not None:
            output = self.space.wire_type(unit.quantiser, setting.activation_bits)
        key = (unit.layer, setting.weight_bits, output, read)
        if key not in self._known:
            layer = self.layer(unit.layer, setting.weight_bits, output, read)
            self._known[key] = self.estimator.layer_cost(layer, self.target.layout(unit.layer), self.target)
        return self._known[key]

    def input_type(self, unit: Unit, sources: Choice) -> FixedPoint:
        """Type of what a layer reads."""
        by_name = {source.name: source for source in self.space.units}
        for name in unit.sources:
            quantiser, bits = by_name[name].quantiser, sources[name].activation_bits
            module = self._probe.get_submodule(str(quantiser))
            assert isinstance(module, FixedQuantizer) and bits is not None
            module.fixed = self.space.wire_type(str(quantiser), bits)
        return require_type(wire_types(self._probe), self._nodes[str(unit.layer)].all_input_nodes[0])

    def layer(self, name: str, bits: int | None, output: FixedPoint | None, read: FixedPoint) -> WeightLayer:
        """The layer as integers."""
        state = layer_state(self.space, name, bits, read.fraction, output)
        weight = state.weight_type.to_code(state.weight.detach().double().cpu().numpy())
        bias = np.zeros(len(weight), dtype=np.int64)
        if state.bias is not None:
            bias = state.bias_type.to_code(state.bias.detach().double().cpu().numpy())
        return replace(
            self._layers[name],
            weight=weight,
            weight_type=state.weight_type,
            bias=bias,
            bias_type=state.bias_type,
            input_type=read,
            output_type=output,
        )


def build_problem(
    space: PrecisionSpace, table: CandidateTable, costs: LayerCosts, scale: Mapping[str, float] | None = None
) -> Problem:
    """The choice of bits as menus: a loss increase per setting, and costs that depend on neighbours on the edges.

    scale   measured / expected by resource, multiplied into all costs

    What a layer costs depends on the bits it reads: with one source the table on the edge states it exactly. With
    several sources the changes relative to the table's own choice add, an approximation.
    """
    scale = scale or {}
    menus, edges = [], []
    by_name = {unit.name: unit for unit in space.units}
    for unit in space.units:
        settings = space.settings(unit)
        own = [costs.of(unit, setting, table.choice) for setting in settings]
        least = {name: np.array([getattr(cost, name) for cost in own]) for name in _ON_EDGES}
        ii = np.array([cost.ii for cost in own])
        for source in unit.sources:
            offered = space.settings(by_name[source])
            lines = {
                bits: [costs.of(unit, s, {**table.choice, source: Setting(None, bits)}) for s in settings]
                for bits in {setting.activation_bits for setting in offered}
            }
            tables = {}
            for name in _ON_EDGES:
                full = np.array([[getattr(c, name) for c in lines[p.activation_bits]] for p in offered])
                added = full - np.array([getattr(cost, name) for cost in own])
                lowest = added.min(axis=0)
                least[name] = least[name] + lowest
                if np.ptp(added, axis=0).any():
                    tables[name] = (added - lowest) * scale.get(name, 1.0)
            ii = np.maximum(ii, np.max([[c.ii for c in line] for line in lines.values()], axis=0))
            edges.append(EdgeCost(source, unit.name, tables))
        options = []
        for k, setting in enumerate(settings):
            values = {name: max(float(least[name][k]), 0.0) * scale.get(name, 1.0) for name in _ON_EDGES}
            options.append(
                Option(
                    label=f"{setting.weight_bits or '-'}/{setting.activation_bits or '-'} bits",
                    loss_increase=table.increase(unit.name, setting),
                    cost=CostVector(**values, ii=float(ii[k])),
                    weight_bits=setting.weight_bits,
                    output_bits=setting.activation_bits,
                    payload={"setting": setting},
                )
            )
        menus.append(LayerMenu(unit.name, tuple(options)))
    return Problem(tuple(menus), tuple(edges))


def choice_of(options: Mapping[str, Option]) -> dict[str, Setting]:
    """The settings that a plan chose."""
    return {name: option.payload["setting"] for name, option in options.items()}


def choice_cost(space: PrecisionSpace, costs: LayerCosts, choice: Choice) -> CostVector:
    """Sum of all layers' costs at a choice, every layer with what it really reads; the largest II."""
    each = [costs.of(unit, choice[unit.name], choice) for unit in space.units]
    values = {name: float(sum(getattr(cost, name) for cost in each)) for name in _ON_EDGES}
    return CostVector(**values, ii=max(cost.ii for cost in each))
