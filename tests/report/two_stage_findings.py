"""Two-stage findings made by the library itself: invented scores, real filling schemes, estimated hardware."""

from functools import cache

import numpy as np

from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.filling import named_filling
from trigger_prune.physics.scores import Score
from trigger_prune.target import Target
from trigger_prune.two_stage.buffer import BufferShape, buffer_cost
from trigger_prune.two_stage.hardware import full_options, light_cost
from trigger_prune.two_stage.options import LightOption
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.search import Requirements
from trigger_prune.two_stage.study import LightCandidate, StudyInputs, run_study
from trigger_prune.two_stage.table import AloneModel, MenuDecisions
from trigger_prune.two_stage.traffic import BeamStructure

GRID = 1 / 64
TARGET = Target()
CLOCK_MULTIPLE = 9
LIGHTS = (("pruned 95 %", 0.35, (16, 12, 5)), ("tiny 8", 0.9, (16, 8, 1)))


def network(sizes, bits):
    """Random weights of a dense network; products with 16-bit values need DSPs."""
    generator = np.random.default_rng(sum(sizes))
    weights, values = FixedPoint(bits, 2), FixedPoint(16, 6)
    layers = []
    for index in range(len(sizes) - 1):
        n_in, n_out = sizes[index : index + 2]
        last = index == len(sizes) - 2
        codes = generator.integers(weights.min_code, weights.max_code, (n_out, n_in), endpoint=True)
        bias = np.zeros(n_out, np.int64)
        layers.append(
            WeightLayer(
                f"fc{index}", "dense", codes, weights, bias, weights, values, None if last else values, not last, 1
            )
        )
    return NetworkSpec(tuple(layers), values, (sizes[0],), sizes[-1])


def samples(noise, rates, seed):
    """Background that falls exponentially with the full score, and one signal; the light score is a blurred one."""
    generator = np.random.default_rng(seed)
    rows = 12_000
    signal = np.where(generator.random(rows) < 0.85, -1, 0)
    full = generator.normal(np.where(signal < 0, 0.0, 3.0))
    weights = np.where(signal < 0, np.exp(-full), 1.0)
    weights[signal < 0] *= (3e7 if rates else 1.0) / weights[signal < 0].sum()
    light = full + noise * np.random.default_rng(seed + 50).normal(size=rows)
    light, full = (np.round(scores / GRID) * GRID for scores in (light, full))
    groups = np.arange(rows) // 2
    multiplicity = None if rates else (0.2, 0.4, 0.3, 0.1)
    return TwoStageSample(light, full, np.arange(rows), signal, weights, groups, ("HH4b",), multiplicity)


@cache
def findings(rates=True, budget_ns=1000.0, beam="72b", strategy="Resource"):
    """A study of two light models; with ``budget_ns`` far too small nothing is a solution."""
    full = network((16, 64, 32, 32, 5), 8)
    factors = (1, 8, 32, 64) if strategy == "Resource" else None
    fulls = full_options("dense", full, TARGET, strategy, factors, (CLOCK_MULTIPLE,))
    grid = FirmwareScore(Score("head"), "the network's output", GRID, 1 / 1024)
    lights = []
    for name, noise, sizes in LIGHTS:
        cost = light_cost(network(sizes, 6), TARGET, CLOCK_MULTIPLE)
        option = LightOption(name, samples(noise, rates, 1), samples(noise, rates, 2), cost, CLOCK_MULTIPLE)
        lights.append(LightCandidate((option,), grid, ()))
    validation, test = lights[0].validation, lights[0].test
    pruned = network((16, 24, 12, 5), 6)
    shape = BufferShape(
        16 * 16,
        20,
        24,
        1 if rates else 3,
        max(light.options[0].cost.latency_cycles for light in lights),
        40,
        TARGET.part,
    )
    requirements = Requirements(
        1e5 if rates else 0.01, "HH4b", budget_ns, 2, 1 if rates else 3, max_overflow=1e-3, resource="dsp"
    )
    blurred = [
        sample.full + 0.3 * np.random.default_rng(3).normal(size=len(sample.full)) for sample in (validation, test)
    ]
    return run_study(
        StudyInputs(
            full=AloneModel("full", "dense", validation.full, test.full, fulls),
            pruned=AloneModel(
                "pruned",
                "deployed",
                *(np.round(scores / GRID) * GRID for scores in blurred),
                full_options("deployed", pruned, TARGET, strategy, factors, (CLOCK_MULTIPLE,)),
            ),
            fulls=fulls,
            full_firmware=grid,
            lights=tuple(lights),
            menu=MenuDecisions("cut-based menu", test.full + np.random.default_rng(4).normal(size=len(test.full)) > 4.5)
            if rates
            else None,
            beam=BeamStructure.from_filling(named_filling(beam)),
            requirements=requirements,
            strategy=strategy,
            escalated=(0.02, 0.05, 0.1),
            fifo_depths=(0, 1, 3, 4),
            max_loss=0.03,
            rate_weights=rates,
            buffer_cost=buffer_cost(shape),
            remarks=("a remark of the project",),
        )
    ).findings
