"""Ranges of a quantised network's weights and wires against their types, with overflow and underflow rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from trigger_prune.fixed_point import FixedPoint, bits_for_range, round_to_integers
from trigger_prune.physics.intervals import clopper_pearson
from trigger_prune.quantize.accumulators import accumulator_type
from trigger_prune.quantize.convert import input_type_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer, QuantWeightLayer
from trigger_prune.train.evaluate import evaluation_mode

_CHUNK_EVENTS = 1024
_PER_OCTAVE = 16
_LOWEST, _HIGHEST = -64, 64
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
"""Whiskers, box and median of the plots: quantiles of log2 of the magnitudes that are not zero."""


@dataclass(frozen=True)
class RangeProfile:
    """One tensor of a network and the type it is converted to.

    kind            ``input``, ``weight``, ``bias``, ``sum`` (in front of a quantiser) or ``output`` (accumulators)
    type            the fixed-point type, as text; of an output the accumulator's exact range has no type of its own
    n_values        values looked at; ``zeros`` of them are 0 before the conversion
    low, high       smallest and largest value
    log2_quantiles  of log2 |value| without zeros, at ``QUANTILES``, to a 16th of an octave; None without such values
    overflows       values that do not fit the type after rounding; ``overflow_rate`` of all values
    underflows      values other than 0 that become 0; ``underflow_rate`` of the values other than 0
    event_overflows, event_rate, event_upper
                    events with any overflow, their fraction, and its upper limit (95 % one-sided Clopper-Pearson); None
                    for weights
    integer_needed  integer bits that hold every value that was seen (sign included where the type has one)
    """

    name: str
    kind: str
    type: str
    width: int
    integer: int
    fraction: int
    n_values: int
    zeros: int
    low: float
    high: float
    log2_quantiles: tuple[float, ...] | None
    log2_max: float | None
    overflows: int
    overflow_rate: float
    underflows: int
    underflow_rate: float
    n_events: int | None
    event_overflows: int | None
    event_rate: float | None
    event_upper: float | None
    integer_needed: int

    @property
    def log2_range(self) -> tuple[float, float]:
        """log2 of the LSB and of the largest magnitude that the type holds."""
        fixed = FixedPoint.parse(self.type)
        return float(-fixed.fraction), float(np.log2(max(fixed.max_value, -fixed.min_value)))

    @property
    def spare_bits(self) -> int:
        """Integer bits that no value used; negative where values overflow."""
        return self.integer - self.integer_needed


class _Counter:
    """Running figures of one tensor."""

    def __init__(self, fixed: FixedPoint) -> None:
        self.fixed = fixed
        self.histogram = np.zeros((_HIGHEST - _LOWEST) * _PER_OCTAVE, dtype=np.int64)
        self.n_values = self.zeros = self.overflows = self.underflows = self.n_events = self.event_overflows = 0
        self.low, self.high, self.largest = np.inf, -np.inf, 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Values ``(events, anything)``."""
        fixed = self.fixed
        codes = round_to_integers(np.ldexp(values, fixed.fraction), fixed.rounding, np)
        outside = (codes < fixed.min_code) | (codes > fixed.max_code)
        size = np.abs(values)
        used = size > 0
        self.n_values += values.size
        self.zeros += int((~used).sum())
        self.overflows += int(outside.sum())
        self.underflows += int((used & (codes == 0)).sum())
        self.n_events += len(values)
        self.event_overflows += int(outside.reshape(len(values), -1).any(axis=1).sum())
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.largest = max(self.largest, float(size.max()))
        bins = np.floor(np.log2(size[used]) * _PER_OCTAVE).astype(np.int64) - _LOWEST * _PER_OCTAVE
        self.histogram += np.bincount(np.clip(bins, 0, len(self.histogram) - 1), minlength=len(self.histogram))

    def profile(self, name: str, kind: str, *, events: bool, confidence: float) -> RangeProfile:
        fixed, used = self.fixed, self.n_values - self.zeros
        quantiles = None
        if used:
            cumulative = np.cumsum(self.histogram)
            positions = np.searchsorted(cumulative, [q * used for q in QUANTILES], side="left")
            quantiles = tuple(float((p + 0.5) / _PER_OCTAVE + _LOWEST) for p in positions)
        needed = bits_for_range(self.low, self.high)[0] + int(fixed.signed and self.low >= 0)
        limit = clopper_pearson(self.event_overflows, self.n_events, 2 * confidence - 1)[1] if events else None
        return RangeProfile(
            name=name,
            kind=kind,
            type=str(fixed),
            width=fixed.width,
            integer=fixed.integer,
            fraction=fixed.fraction,
            n_values=self.n_values,
            zeros=self.zeros,
            low=self.low,
            high=self.high,
            log2_quantiles=quantiles,
            log2_max=float(np.log2(self.largest)) if used else None,
            overflows=self.overflows,
            overflow_rate=self.overflows / self.n_values,
            underflows=self.underflows,
            underflow_rate=self.underflows / used if used else 0.0,
            n_events=self.n_events if events else None,
            event_overflows=self.event_overflows if events else None,
            event_rate=self.event_overflows / self.n_events if events else None,
            event_upper=limit,
            integer_needed=needed if used else 0,
        )


def profile_network(network: fx.GraphModule, features: Tensor, confidence: float = 0.95) -> tuple[RangeProfile, ...]:
    """Inputs, weights, biases, sums and outputs of a quantised network on events, in order of computation.

    features   ``(n, *input_shape)`` on the input's grid; one event or more. The network is left as it was
    Weights are judged as the float values behind them, without those that a mask took away.
    """
    layers = {layer.name: layer for layer in describe_network(network).layers}
    counters: dict[fx.Node, tuple[str, str, _Counter]] = {}
    (output,) = [node for node in network.graph.nodes if node.op == "output"]
    for node in network.graph.nodes:
        module = module_of(network, node)
        if node.op == "placeholder":
            counters[node] = ("input", "input", _Counter(input_type_of(network)))
        elif isinstance(module, FixedQuantizer):
            counters[node] = (str(node.target), "sum", _Counter(module.fixed))
        elif isinstance(module, WEIGHT_LAYERS) and output in node.users:
            counters[node] = (str(node.target), "output", _Counter(accumulator_type(layers[str(node.target)])))
    watcher = _Watcher(network, {node: counter for node, (_, _, counter) in counters.items()})
    like = next(network.parameters(), features)
    with evaluation_mode(network):
        for start in range(0, len(features), _CHUNK_EVENTS):
            watcher.run(features[start : start + _CHUNK_EVENTS].to(like))
    found: list[RangeProfile] = []
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, WEIGHT_LAYERS):
            found += _of_weights(str(node.target), module, confidence)
        if node in counters:
            name, kind, counter = counters[node]
            found.append(counter.profile(name, kind, events=True, confidence=confidence))
    return tuple(found)


def _of_weights(name: str, layer: QuantWeightLayer, confidence: float) -> list[RangeProfile]:
    found = []
    kept = layer.weight_mask.bool()
    if bool(kept.any()):
        counter = _Counter(layer.weight_type)
        counter.add(layer.weight.detach()[kept].double().cpu().numpy().reshape(1, -1))
        found.append(counter.profile(name, "weight", events=False, confidence=confidence))
    if layer.bias is not None:
        counter = _Counter(layer.bias_type)
        counter.add(layer.bias.detach().double().cpu().numpy().reshape(1, -1))
        found.append(counter.profile(name, "bias", events=False, confidence=confidence))
    return found


class _Watcher(fx.Interpreter):
    """Counts what quantisers read, and what inputs and outputs are."""

    def __init__(self, network: fx.GraphModule, counters: dict[fx.Node, _Counter]) -> None:
        super().__init__(network)
        self.network, self.counters = network, counters

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        counter = self.counters.get(n)
        if counter is not None:
            quantiser = isinstance(module_of(self.network, n), FixedQuantizer)
            seen: Tensor = self.env[n.all_input_nodes[0]] if quantiser else result
            counter.add(torch.flatten(seen.detach(), 1).double().cpu().numpy())
        return result
