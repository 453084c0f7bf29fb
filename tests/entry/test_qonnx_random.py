"""Random QONNX graphs: the network has the bits that qonnx's own executor computes, for every event."""

from __future__ import annotations

import numpy as np
import pytest
from random_qonnx import BATCH, random_model, run_by_qonnx

from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.verify.representations import accumulator_bits, torch_outputs

SEEDS = range(150)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_graph_gives_the_bits_of_qonnx(seed: int) -> None:
    model, shape = random_model(seed)
    x = (np.random.default_rng(seed).normal(size=(BATCH, *shape)) * 4).astype(np.float32)
    expected = run_by_qonnx(model, x)
    entered = read_qonnx(model)
    assert accumulator_bits(entered.network) <= 24
    events = entered.input_type.quantize(x).astype(np.float32)
    np.testing.assert_array_equal(torch_outputs(entered.network, events, double=True), expected)
