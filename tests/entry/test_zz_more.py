"""Random QONNX graphs: the network has the bits that qonnx's own executor computes, for every event."""

from __future__ import annotations

import numpy as np
import pytest
from random_qonnx import BATCH, Graph, random_model, run_by_qonnx

from trigger_prune.entry.events import read_features
from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.verify.representations import accumulator_bits, torch_outputs

SEEDS = range(150, 900)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_graph_gives_the_bits_of_qonnx(seed: int) -> None:
    model, shape = random_model(seed)
    x = (np.random.default_rng(seed).normal(size=(BATCH, *shape)) * 4).astype(np.float32)
    expected = run_by_qonnx(model, x)
    entered = read_qonnx(model)
    assert accumulator_bits(entered.network) <= 24
    events = entered.input_type.quantize(x).astype(np.float32)
    np.testing.assert_array_equal(torch_outputs(entered.network, events, double=True), expected)


def test_the_random_graphs_are_no_constants() -> None:
    """Most of them give every event outputs of its own, or nearly so."""
    distinct = []
    for seed in SEEDS:
        model, shape = random_model(seed)
        network, x = read_qonnx(model), np.random.default_rng(seed).normal(size=(BATCH, *shape)) * 4
        outputs = torch_outputs(network.network, network.input_type.quantize(x).astype(np.float32), double=True)
        distinct.append(len(np.unique(outputs, axis=0)))
    assert np.median(distinct) > BATCH / 4


def test_real_events_give_the_bits_of_qonnx() -> None:
    """The shipped jets through two layers with scales per channel and unquantised biases."""
    g = Graph(np.random.default_rng(11))
    tensor = g.quant("x", 2.0**-3, 10.0, signed=1, narrow=0, mode="ROUND")
    weight = g.quant(
        g.constant(g.rng.normal(size=(16, 12)) / 4),
        np.exp2(-g.rng.integers(3, 7, (1, 12))),
        6.0,
        signed=1,
        narrow=1,
        mode="ROUND",
    )
    tensor = g.node("Add", [g.node("MatMul", [tensor, weight]), g.constant(g.rng.normal(size=12))])
    tensor = g.quant(g.node("Relu", [tensor]), 0.25, 7.0, signed=0, narrow=0, mode="ROUND")
    weight = g.quant(g.constant(g.rng.normal(size=(12, 5))), 0.125, 5.0, signed=1, narrow=1, mode="ROUND")
    x = read_features("builtin:jets16")[::8]
    x = x / x.std(axis=0)
    model = g.model(g.node("MatMul", [tensor, weight]), (16,), (5,), batch=len(x))
    entered = read_qonnx(model)
    events = entered.input_type.quantize(x).astype(np.float32)
    got = torch_outputs(entered.network, events, double=True)
    np.testing.assert_array_equal(got, run_by_qonnx(model, x))
    assert len(x) > 900 and len(np.unique(got, axis=0)) > 0.4 * len(x)
