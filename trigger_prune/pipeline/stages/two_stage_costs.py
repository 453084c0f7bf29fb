"""Hardware of the parts of a two-stage trigger, as stage ``two_stage`` needs it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import fx

from trigger_prune.config.project import ProjectConfig, make_target
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.report import HardwareReport
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.stage import StageContext
from trigger_prune.pipeline.stages.two_stage_setup import clock_multiples, multiplicity
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import Target
from trigger_prune.two_stage.buffer import BufferShape, buffer_cost
from trigger_prune.two_stage.firmware.cycle_model import FirmwareTiming
from trigger_prune.two_stage.full_reports import MeasuredOptions, measured_options, with_measured
from trigger_prune.two_stage.hardware import engine_cost_model, full_options, light_cost, score_bits, word_bits
from trigger_prune.two_stage.models.light_model import LightModel
from trigger_prune.two_stage.options import BufferCost, FullOption, judging_every_object
from trigger_prune.units import BUNCH_CROSSING_NS

ENQUEUE_CYCLES = 1
"""Comparators of the light score and the input register of the FIFO."""

DECIDE_CYCLES = 1
"""Last comparator and output register."""

CONTROL_CYCLES = ENQUEUE_CYCLES + DECIDE_CYCLES

ALONE = "Latency"
"""Strategy of a network that judges every object by itself beside that of the engine: zero weights cost nothing."""


@dataclass(frozen=True, eq=False)
class Costs:
    """Everything at the same part and by the same cost model; ``multiples`` are clock cycles per crossing."""

    config: ProjectConfig
    target: Target
    model: CostModel
    multiples: tuple[int, ...]
    objects: int

    @classmethod
    def of(cls, context: StageContext) -> Costs:
        """For a project. Raises as ``engine_cost_model`` and ``clock_multiples``."""
        config = context.config
        listed = multiplicity(config)
        return cls(
            config,
            make_target(config.target),
            engine_cost_model(config.cost, context.project_dir),
            clock_multiples(config),
            1 if listed is None else len(listed) - 1,
        )

    def engines(self, name: str, network: fx.GraphModule, without: Collection[int] = ()) -> tuple[FullOption, ...]:
        """A network in the engine's strategy at every reuse factor, but for listed ones of ``without``, and clock."""
        section = self.config.two_stage
        listed = section.reuse_factors
        factors = None if listed is None else [factor for factor in listed if factor not in without]
        return full_options(name, network, self.target, section.strategy, factors, self.multiples, self.model)

    def full(self, name: str, network: fx.GraphModule, paths: Mapping[int, Path]) -> MeasuredOptions:
        """The full model: measured where ``paths`` (reuse factor -> report) says so. Raises as ``measured_options``."""
        spec, strategy = describe_network(network), self.config.two_stage.strategy
        measured = measured_options(name, spec, self.target, strategy, paths, self.multiples)
        known = {(option.reuse_factor, option.clock_multiple) for option in measured.options}
        # a synthesis may stand behind an estimate that nobody will look at
        done = [factor for factor in paths if all((factor, multiple) in known for multiple in self.multiples)]
        return replace(measured, options=with_measured(self.engines(name, network, done), measured.options))

    def alone(self, name: str, network: fx.GraphModule) -> tuple[FullOption, ...]:
        """Ways to build a pruned network by itself: as an engine, or fully parallel where zero weights are gone."""
        parallel = tuple(FullOption(name, ALONE, 1, cost, multiple) for multiple, cost in self.light(network).items())
        if self.config.two_stage.strategy == ALONE:
            return self.engines(name, network)
        return (*parallel, *self.engines(name, network))

    def light(self, network: fx.GraphModule) -> dict[int, HardwareReport]:
        """One copy of a light model, by clock multiple."""
        return {multiple: light_cost(network, self.target, multiple, self.model) for multiple in self.multiples}

    def buffer(
        self,
        full: fx.GraphModule,
        full_score: Score,
        lights: Sequence[LightModel],
        costs: Mapping[str, Mapping[int, HardwareReport]],
        budget_ns: float,
    ) -> BufferCost:
        """FIFO, delay lines and control, for the slowest light model and the longest latency that the budget allows."""
        cycles = max(
            judging_every_object(cost, multiple, self.objects).latency_cycles
            for by_clock in costs.values()
            for multiple, cost in by_clock.items()
        )
        crossings = max(1, math.floor(budget_ns / BUNCH_CROSSING_NS))
        shape = BufferShape(
            word_bits=word_bits(full),
            light_score_bits=max(_score_bits(light.network, light.score) for light in lights),
            full_score_bits=_score_bits(full, full_score),
            objects_per_crossing=self.objects,
            light_cycles=cycles,
            output_crossings=crossings,
            part=self.target.part,
        )
        return buffer_cost(shape)


def firmware_timing(light_cycles: int, full_cycles: int) -> FirmwareTiming:
    """Cycles of every part of the firmware; control as the search counts it."""
    return FirmwareTiming(light_cycles, ENQUEUE_CYCLES, full_cycles, DECIDE_CYCLES)


def _score_bits(network: fx.GraphModule, score: Score) -> int:
    """Squares have twice the bits of what is squared; their sum needs some more, which no comparator notices."""
    squares = score.kind in ("sum_of_squares", "reconstruction")
    return score_bits(network, difference=score.kind == "difference") * (2 if squares else 1)
