"""A small network as an adder graph, and an interpreter that stands in for HGQ2's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.trace import trace_network

INPUT = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")


@dataclass(frozen=True)
class Foreign:
    """What a test of foreign designs needs: the network behind the adder graph, its file, events on the grid."""

    network: fx.GraphModule
    comb: Path
    events: np.ndarray
    interpreter: Callable[..., Path]


@pytest.fixture(scope="session")
def small_network() -> fx.GraphModule:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    x = torch.from_numpy(INPUT.quantize(np.random.default_rng(0).normal(size=(300, 5)))).float()
    return quantize_model(model, x, INPUT, SimpleNamespace(weight_bits=4, activation_bits=5, rounding="AP_TRN"))


@pytest.fixture
def foreign(tmp_path: Path, small_network: fx.GraphModule) -> Foreign:
    comb = tmp_path / "saved.json.gz"
    trace_network(freeze(small_network), INPUT, (5,)).save(comb)

    def interpreter(**behaviour: object) -> Path:
        (tmp_path / "behaviour.json").write_text(json.dumps({"comb": str(comb), **behaviour}))
        script = tmp_path / "python"
        stand_in = Path(__file__).with_name("stand_in_hgq2.py")
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" "{tmp_path}/behaviour.json" "$@"\n')
        script.chmod(0o755)
        return script

    events = INPUT.quantize(np.random.default_rng(7).normal(size=(400, 5)) * 2).astype(np.float32)
    return Foreign(small_network, comb, events, interpreter)
