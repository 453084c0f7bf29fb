"""What every setting of every unit does to the loss, the other units as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.precision.space import Choice, PrecisionSpace, Setting, Unit
from trigger_prune.quantize.ptq.build import half_lsb
from trigger_prune.quantize.ranges import bias_type
from trigger_prune.quantize.wires import require_type, wire_types
from trigger_prune.sensitivity.batch import Batch
from trigger_prune.sensitivity.metrics import Judge, columns_of, make_judge
from trigger_prune.sensitivity.precision import Wiring
from trigger_prune.sensitivity.program import Program
from trigger_prune.sensitivity.variants import LayerState, Variant
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.train.loss import Task

_CHUNK_EVENTS = 2048


@dataclass(frozen=True)
class CandidateLoss:
    """Weighted mean loss with one unit changed, its difference to the unchanged network, and the paired standard
    error of that difference."""

    unit: str
    setting: Setting
    loss: float
    increase: float
    error: float


@dataclass(frozen=True)
class CandidateTable:
    """All candidates around one network, whose loss on the same events is ``loss``."""

    choice: Choice
    loss: float
    rows: tuple[CandidateLoss, ...]

    def increase(self, unit: str, setting: Setting) -> float:
        """Loss increase of one candidate."""
        return self._by_key[unit, setting]

    @property
    def _by_key(self) -> dict[tuple[str, Setting], float]:
        return {(row.unit, row.setting): row.increase for row in self.rows}


def judge_candidates(
    space: PrecisionSpace,
    choice: Choice,
    events: Batches,
    task: Task,
    progress: Callable[[int], None] | None = None,
    network: fx.GraphModule | None = None,
) -> CandidateTable:
    """Every setting of every unit, tried alone in the network of ``choice``.

    events     for the loss, on the CPU, with the weights that it counts with
    progress   called with the number of candidates that were judged since the last call
    network    that of ``choice``, where it is built already
    """
    network = space.build(choice) if network is None else network
    program = Program(network)
    outputs = program.plain(events.features[:1])
    judge = make_judge(events, task, LOSS, int(outputs.shape[1]), figures=("loss",))
    base = _losses(events, judge, lambda part: program.plain(part.features).unsqueeze(1))[:, 0]
    weights = events.weights.double()
    total = weights.sum()
    rows: list[CandidateLoss] = []
    for unit in space.units:
        settings = space.settings(unit)
        variants = _variants(space, network, unit, settings)
        batch = Batch(program, variants, events.features[:3])
        losses = _losses(events, judge, lambda part, batch=batch: batch.run(part.features))  # type: ignore[misc]
        change = losses - base[:, None]
        means = (losses * weights[:, None]).sum(0) / total
        increases = (change * weights[:, None]).sum(0) / total
        spread = ((weights[:, None] * (change - increases)) ** 2).sum(0).sqrt() / total
        rows += [
            CandidateLoss(unit.name, setting, float(means[k]), float(increases[k]), float(spread[k]))
            for k, setting in enumerate(settings)
        ]
        if progress is not None:
            progress(len(settings))
    return CandidateTable(dict(choice), float((base * weights).sum() / total), tuple(rows))


def layer_state(
    space: PrecisionSpace, layer: str, bits: int | None, input_fraction: int, following: FixedPoint | None
) -> LayerState:
    """A layer of the float network with weights of ``bits`` bits, as ``build_network`` would make it."""
    weight, bias = space.values(layer, bits)
    fixed = space.weight_type(layer, bits)
    fraction = input_fraction + fixed.fraction
    with torch.no_grad():
        if bias is None:
            return LayerState(weight, None, fixed, bias_type(None, fraction, at_least=(following or fixed).max_value))
        bias = bias + half_lsb(following, fraction)
        wide = bias_type(bias.double().cpu().numpy(), fraction, at_least=(following or fixed).max_value)
        return LayerState(weight, wide.fake_quantize(bias), fixed, wide)


def _variants(
    space: PrecisionSpace, network: fx.GraphModule, unit: Unit, settings: tuple[Setting, ...]
) -> list[Variant]:
    found = []
    fraction = 0
    if unit.layer is not None:
        node = Wiring(network).nodes[unit.layer]
        fraction = require_type(wire_types(network), node.all_input_nodes[0]).fraction
    for setting in settings:
        fixed = None
        if unit.quantiser is not None and setting.activation_bits is not None:
            fixed = space.wire_type(unit.quantiser, setting.activation_bits)
        layers = {}
        if unit.layer is not None:
            layers = {unit.layer: layer_state(space, unit.layer, setting.weight_bits, fraction, fixed)}
        quantisers = {} if fixed is None or unit.quantiser is None else {unit.quantiser: fixed}
        found.append(Variant(layers, quantisers))
    return found


def _losses(events: Batches, judge: Judge, outputs: Callable[[Batches], torch.Tensor]) -> torch.Tensor:
    """Loss of every event and variant, float64 ``(n, V)``."""
    parts = []
    for start in range(0, len(events), _CHUNK_EVENTS):
        part = events.take(slice(start, start + _CHUNK_EVENTS))
        parts.append(columns_of(outputs(part), part, judge).loss.double())
    return torch.cat(parts)
