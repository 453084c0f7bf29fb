"""Many variants of one network in one pass: what they share is computed once, the rest as one batch.

Up to the first layer that differs all variants compute the same, so those wires are computed once per event. The layer
itself computes all variants in one product (its weights are stacked), and from there on a variant is one more row of
the batch: rows are ordered by event, then by variant. Events go through in chunks small enough for the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.errors import ModelError
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer, QuantLinear
from trigger_prune.sensitivity.program import Env, Plan, Program, apply_layer
from trigger_prune.sensitivity.variants import Variant

CACHE_VALUES = 512 * 1024
"""Values of the widest wire in a chunk: 2 MB in single precision, about the second-level cache of one core."""

_DEVICE_VALUES = 64 * 1024 * 1024
_FEWEST_EVENTS = 16
_PREFIX_EVENTS = 2048
_PREFIX_VALUES = 4 * 1024 * 1024


class Batch:
    """Variants that change the same modules, ready to run on any events.

    sample     a few of the events
    shareable  whether variants can share a batch; None: it is tried with the sample
    Raises ModelError for a module that the graph never calls, or for variants that do not belong together.
    """

    def __init__(
        self, program: Program, variants: Sequence[Variant], sample: Tensor, shareable: bool | None = None
    ) -> None:
        changed = variants[0].changed
        if any(variant.changed != changed for variant in variants):
            raise ModelError("variants of one batch change different layers")
        self.program, self.variants = program, list(variants)
        self.plan = Plan(program, changed)
        self.dependents = dependents_of(program, changed)
        self.steps = [node for node in program.nodes if node in self.dependents - program.idle]
        self.fixed = [node for node in program.nodes if node not in self.dependents]
        self.border = {source for node in self.steps for source in program.reads[node]} - self.dependents
        self.widest = program.widest(sample)
        self.shareable = shareable if shareable is not None or len(variants) == 1 else self._agree(sample[:3])

    def run(self, features: Tensor) -> Tensor:
        """Outputs ``(events, variants, ...)``."""
        values = values_at_once(features)
        together = min(len(self.variants), max(1, values // (_FEWEST_EVENTS * self.widest))) if self.shareable else 1
        passes = [_Pass(self, self.variants[i : i + together]) for i in range(0, len(self.variants), together)]
        step = max(1, values // (together * self.widest))
        prefix = max(step, min(_PREFIX_EVENTS, _PREFIX_VALUES // self.widest) // step * step)
        found: Tensor | None = None
        row, n_events = 0, len(features)
        with torch.inference_mode():
            for start in range(0, n_events, prefix):
                for shared, n in self._shared(features[start : start + prefix], step):
                    for number, one in enumerate(passes):
                        part = one.outputs(shared, n)
                        if found is None:
                            # output by output: as a narrow last layer leaves them, and as the losses want them
                            room = part.new_empty((*part.shape[2:], n_events, len(self.variants)))
                            found = room.movedim((-2, -1), (0, 1))
                        found[row : row + n, number * together : (number + 1) * together] = part
                    row += n
        if found is None:
            raise ModelError("there are no events to evaluate")
        return found

    def _shared(self, features: Tensor, step: int) -> Iterator[tuple[Env, int]]:
        """Values of the wires at the border of what changes, in chunks of ``step`` events, and their numbers."""
        env: Env = {}
        self.plan.run(self.fixed, env, features)
        kept = {node: env[node] for node in self.border}
        n_events = len(features)
        if n_events <= step:
            yield kept, n_events
        elif self._sizes_on(kept):
            for start in range(0, n_events, step):
                yield from self._shared(features[start : start + step], step)
        else:
            of_events = self.program.of_events
            for start in range(0, n_events, step):
                rows = slice(start, start + step)
                part = {node: value[rows] if node in of_events else value for node, value in kept.items()}
                yield part, min(step, n_events - start)

    def _sizes_on(self, values: Env) -> bool:
        """Whether numbers that depend on the events themselves (their number, say) cross the border."""
        return any(node in self.program.of_events and not isinstance(value, Tensor) for node, value in values.items())

    def _agree(self, features: Tensor) -> bool:
        """Whether two variants at once give what each gives alone: not so where the graph computes with the number of
        events, or keeps them on another axis than the first."""
        two = self.variants[:2]
        with torch.no_grad():
            ((values, n),) = self._shared(features, len(features))
            if self._sizes_on(values):
                return False
            alone = torch.cat([_Pass(self, [variant]).outputs(values, n) for variant in two], dim=1)
            try:
                together = _Pass(self, two).outputs(values, n)
            except RuntimeError:
                return False  # shapes that do not fit
        return together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-4, atol=1e-6, equal_nan=True)


class _Pass:
    """The part of a graph that depends on the variants, run for all of them on a few events."""

    def __init__(self, batch: Batch, variants: Sequence[Variant]) -> None:
        self.batch, self.program, self.plan, self.variants = batch, batch.program, batch.plan, variants
        self.stacked: dict[str, tuple[Tensor, Tensor | None]] = {}
        for name in variants[0].layers:
            states = [variant.layers[name] for variant in variants]
            biases = [state.bias for state in states if state.bias is not None]
            bias = torch.stack(biases) if len(biases) == len(states) else None
            self.stacked[name] = self.plan.scaled(name, torch.stack([state.weight for state in states]), bias)

    def outputs(self, values: Env, n_events: int) -> Tensor:
        """``(events, variants, ...)`` of one chunk; ``values`` of the wires at the border."""
        env: Env = dict(values)
        expanded: set[fx.Node] = set()
        for node in self.batch.steps:
            env[node] = self._value(node, env, expanded)
            expanded.add(node)
        result: Tensor = env[self.program.nodes[-1]]
        return result.reshape(n_events, len(self.variants), *result.shape[1:])

    def _value(self, node: fx.Node, env: Env, expanded: set[fx.Node]) -> Any:
        module, name = self.program.modules[node], str(node.target)
        if name in self.stacked and isinstance(module, WEIGHT_LAYERS):
            source = node.all_input_nodes[0]
            apply = apply_each if source in expanded else apply_stacked
            return apply(module, env[source], *self.stacked[name])
        if isinstance(module, FixedQuantizer) and name in self.variants[0].quantisers:
            (source,) = self.program.reads[node]
            n, x = len(self.variants), env[source]
            if source is not node.all_input_nodes[0]:
                x = functional.relu(x)  # left out for the quantiser's own type, and another one may need it
            parts = x.reshape(-1, n, *x.shape[1:]).unbind(1) if source in expanded else [x] * n
            types = [variant.quantisers[name] for variant in self.variants]
            each = [self.plan.quantised(node, fixed, part) for fixed, part in zip(types, parts, strict=True)]
            return torch.stack(each, dim=1).flatten(0, 1)
        if isinstance(module, (*WEIGHT_LAYERS, FixedQuantizer)):
            return self.plan.value(node, env)

        def wide(source: fx.Node) -> Any:
            if len(self.variants) == 1 or source in expanded or source not in self.program.of_events:
                return env[source]
            return env[source].repeat_interleave(len(self.variants), dim=0)

        return self.program.call(node, wide)


def dependents_of(program: Program, changed: frozenset[str]) -> set[fx.Node]:
    """Nodes that compute something else when the modules ``changed`` do. Raises ModelError for one never called."""
    found: set[fx.Node] = set()
    called = {str(node.target) for node in program.nodes if node.op == "call_module"}
    for name in sorted(changed - called):
        raise ModelError(f"layer {name!r} is never called by the network's graph")
    for node in program.nodes:
        own = node.op == "call_module" and str(node.target) in changed
        if own or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def apply_stacked(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One product for all variants: ``x`` ``(n, ...)``, weight ``(V, out, ...)``; result ``(n * V, out, ...)``."""
    n_variants, n_out = weight.shape[:2]
    if isinstance(layer, QuantLinear):
        y = functional.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
        if y.ndim == 2:
            return y.reshape(-1, n_out)
        return y.reshape(*y.shape[:-1], n_variants, n_out).movedim(-2, 1).flatten(0, 1)
    if layer.groups == 1:
        y = apply_layer(layer, x, weight.flatten(0, 1), None if bias is None else bias.flatten())
        return y.reshape(-1, n_out, *y.shape[2:])
    biases = [None] * n_variants if bias is None else list(bias)
    results = [apply_layer(layer, x, w, b) for w, b in zip(weight, biases, strict=True)]
    return torch.stack(results, dim=1).flatten(0, 1)


def apply_each(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Every variant its own input: ``x`` ``(n * V, ...)``, weight ``(V, out, ...)``; result ``(n * V, out, ...)``."""
    n_variants = len(weight)
    parts = x.reshape(-1, n_variants, *x.shape[1:])
    if isinstance(layer, QuantLinear) and x.ndim == 2:
        y = torch.bmm(parts.transpose(0, 1), weight.transpose(1, 2))
        return (y if bias is None else y + bias.unsqueeze(1)).transpose(0, 1).flatten(0, 1)
    biases = [None] * n_variants if bias is None else list(bias)
    each = zip(parts.unbind(1), weight, biases, strict=True)
    return torch.stack([apply_layer(layer, part, w, b) for part, w, b in each], dim=1).flatten(0, 1)


def input_outputs(program: Program, features: Tensor, replaced: Tensor) -> Tensor:
    """Outputs ``(events, inputs, ...)`` of the unchanged network where column i has feature i of ``replaced``.

    ``replaced`` is shaped like ``features``; a feature is axis 1.
    """
    n_inputs = features.shape[1]
    results = []
    step = max(1, values_at_once(features) // (n_inputs * program.widest(features)))
    for start in range(0, len(features), step):
        part = features[start : start + step]
        rows = part.unsqueeze(1).repeat(1, n_inputs, *[1] * (part.ndim - 1))
        for index in range(n_inputs):
            rows[:, index, index] = replaced[start : start + step, index]
        found = program.plain(rows.flatten(0, 1))
        results.append(found.reshape(len(part), n_inputs, *found.shape[1:]))
    return torch.cat(results)


def values_at_once(features: Tensor) -> int:
    """Values of the widest wire in a chunk of events."""
    if features.device.type != "cpu":
        return _DEVICE_VALUES
    return CACHE_VALUES * 4 // features.element_size()
