"""Outputs lie on the stated grid, which is that of the last accumulator."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "export"))
import small_networks

from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.output_step import output_fraction_bits
from trigger_prune.verify.representations import torch_outputs


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (small_networks.mlp(), (5,)),
        (small_networks.mlp(weight_bits=3, activation_bits=4), (5,)),
        (small_networks.deep_sets(), (3, 4)),
        (small_networks.quantised(Conv1dNet((3, 8), 2), (3, 8)), (3, 8)),
    ],
    ids=["mlp", "mlp with few bits", "deep sets", "conv1d"],
)
def test_every_output_is_a_whole_number_of_steps(network: object, shape: tuple[int, ...]) -> None:
    outputs = torch_outputs(network, small_networks.events(small_networks.INPUT_8, 300, *shape), double=True)
    codes = np.ldexp(outputs, output_fraction_bits(network))
    assert (codes == np.round(codes)).all()
    last = describe_network(network).layers[-1]
    assert output_fraction_bits(network) == last.accumulator_fraction
