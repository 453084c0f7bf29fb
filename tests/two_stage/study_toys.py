"""A small two-stage study: toy samples, invented costs."""

import numpy as np
from two_stage_toys import report, toy_sample

from trigger_prune.cost.report import CostStage, LayerCost
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.scores import Score
from trigger_prune.two_stage.options import FullOption, LightOption
from trigger_prune.two_stage.search import Requirements
from trigger_prune.two_stage.study_inputs import LightCandidate, StudyInputs
from trigger_prune.two_stage.table import AloneModel, MenuDecisions
from trigger_prune.two_stage.traffic import BeamStructure

STEP = 0.0625
BEAM = BeamStructure("train", np.array([True] * 72 + [False] * 31))
GRID = FirmwareScore(Score("head"), "the network's output", STEP, 0.25)


def engine(reuse_factor, dsp, latency, **more):
    cost = report(f"full {reuse_factor}", dsp=dsp, latency=latency, ii=reuse_factor, lut=20_000, **more)
    return FullOption("full", "Resource", reuse_factor, cost, 9)


ENGINES = (engine(1, 7200, 20), engine(9, 800, 30), engine(18, 400, 50), engine(36, 200, 80), engine(72, 100, 110))


def requirements(**changes):
    values = {"target_hz": 1e6, "signal_name": "HH4b", "latency_budget_ns": 500.0, "control_cycles": 3}
    return Requirements(**(values | changes))


def light(name, noise, seed=1, rows=4000, dsp=5, **cost):
    """A light model whose score is the full one's with ``noise``; test events are another draw."""
    options = {"step": STEP, "noise": noise, "rows": rows}
    validation, test = toy_sample(seed, **options), toy_sample(seed + 100, **options)
    price = report(name, dsp=dsp, latency=4, lut=900, **cost)
    return LightCandidate((LightOption(name, validation, test, price, 9),), GRID, (f"{name} is a toy.",))


def buffer(engine):
    """FIFO and control of a stage of their own."""
    fifo = LayerCost("FIFO", lut=10 * engine.fifo_depth, ff=4, dsp=0, bram18=0)
    control = LayerCost("control", lut=30, ff=6, dsp=0, bram18=0)
    cost = {"dsp": 0, "lut": 30 + 10 * engine.fifo_depth, "latency": None, "ii": None, "layers": (fifo, control)}
    return report("buffer", stage=CostStage.ANALYTIC, **cost)


def study_inputs(lights=None, pruned_noise=0.2, pruned_dsp=300, menu=True, **changes):
    """A study of two light models; ``pruned`` is the full score with a little noise."""
    lights = lights or (light("poor", 1.0), light("good", 0.2, dsp=20))
    first = lights[0]
    generator = np.random.default_rng(5)

    def noisy(scores):
        return np.round((scores + pruned_noise * generator.normal(size=len(scores))) / STEP) * STEP

    pruned_cost = FullOption("pruned", "Latency", 1, report("pruned", dsp=pruned_dsp, latency=12, lut=5000), 9)
    pruned = AloneModel("pruned", "pruned", noisy(first.validation.full), noisy(first.test.full), (pruned_cost,))
    values = {
        "full": AloneModel("full", "full", first.validation.full, first.test.full, ENGINES),
        "pruned": pruned,
        "fulls": ENGINES,
        "full_firmware": GRID,
        "lights": lights,
        "menu": MenuDecisions("menu", first.test.light > 3.0) if menu else None,
        "beam": BEAM,
        "requirements": requirements(),
        "strategy": "Resource",
        "escalated": (0.02, 0.05, 0.1, 0.2),
        "fifo_depths": (0, 1, 2, 4),
        "max_loss": 0.05,
        "rate_weights": True,
        "buffer_cost": buffer,
    }
    return StudyInputs(**(values | changes))
