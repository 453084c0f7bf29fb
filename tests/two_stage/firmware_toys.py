"""A small two-stage design for the tests of the firmware: 8 features, two quantised networks, thresholds of a load."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import fx, nn

from trigger_prune.errors import ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.synthesis.rtl.verilator import find_verilator
from trigger_prune.target import Target
from trigger_prune.two_stage.firmware.cycle_model import FirmwareTiming, IntegerThresholds
from trigger_prune.two_stage.firmware.design import FirmwareDesign, FirmwareModel
from trigger_prune.two_stage.traffic import Engine
from trigger_prune.units import BUNCH_CROSSING_NS

INPUT = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")
FEATURES = 8
LIGHT_INPUTS = (1, 7, 2, 4, 0, 5)
FULL_INPUTS = (7, 0, 3, 2, 6, 5)
TIMING = FirmwareTiming(light_cycles=4, enqueue_cycles=1, full_cycles=25, decide_cycles=1)


def _verilator_installed() -> bool:
    try:
        find_verilator()
    except ToolError:
        return False
    return True


needs_verilator = pytest.mark.skipif(not _verilator_installed(), reason="Verilator is not installed (extra rtlsim)")


def network(inputs: int, hidden: tuple[int, ...], outputs: int, seed: int) -> fx.GraphModule:
    """A dense network with random weights, 6 bits of weights and activations."""
    torch.manual_seed(seed)
    sizes = (inputs, *hidden)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs)).eval()
    calibration = torch.tensor(INPUT.quantize(np.random.default_rng(seed).normal(size=(400, inputs)))).float()
    return quantize_model(
        model, calibration, INPUT, SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    )


def event_pool(n: int = 3000) -> np.ndarray:
    """Feature codes ``(n, 8)`` over the whole range of the input type."""
    return np.random.default_rng(5).integers(INPUT.min_code, INPUT.max_code, (n, FEATURES), endpoint=True)


def small_design(
    engine: Engine,
    *,
    objects: int = 1,
    full_outputs: int = 1,
    accept: float | None = 0.97,
    escalate: float = 0.6,
    full_passes: float | None = 0.5,
    overflow: float | None = 0.75,
) -> FirmwareDesign:
    """6-4-1 before 6-8-4-k; thresholds at quantiles of the scores of the event pool, None for a comparator less."""
    light = FirmwareModel(network(6, (4,), 1, 1), Score("head"), LIGHT_INPUTS)
    score = Score("head") if full_outputs == 1 else Score("difference", (2, 0), tuple({*range(full_outputs)} - {0, 2}))
    full = FirmwareModel(network(6, (8, 4), full_outputs, 2), score, FULL_INPUTS)
    pool = event_pool()

    def quantile(model: FirmwareModel, share: float | None) -> int | None:
        return None if share is None else int(np.quantile(model.integer_scores(pool), share))

    lowest = quantile(light, 1 - escalate)
    assert lowest is not None
    thresholds = IntegerThresholds(
        lowest, quantile(light, accept), quantile(full, full_passes), quantile(light, overflow)
    )
    return FirmwareDesign("toy", light, full, thresholds, engine, TIMING, objects, (FEATURES,))


def targets(engine: Engine, full_reuse: int = 2) -> tuple[Target, Target]:
    """hls4ml layouts of the light and of the full network."""
    light = Target(clock_period_ns=BUNCH_CROSSING_NS / engine.clock_multiple)
    return light, replace(light, strategy="Resource", reuse_factor=full_reuse)
