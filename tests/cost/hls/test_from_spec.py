"""Designs against the project that hls4ml writes for the same network."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import fx, nn

from trigger_prune.cost.hls.from_spec import design_from_spec, inferred_type
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.errors import ConfigError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.synthesis.calibration.describe import describe_project
from trigger_prune.synthesis.store.network_file import network_from_json, network_to_json
from trigger_prune.target import Target

TARGET = Target(part="xcvu9p-flga2104-2L-e", clock_period_ns=2.5)
INPUT = FixedPoint.parse("ap_fixed<9,3,AP_RND,AP_SAT>")


def quantised(model: torch.nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    x = torch.tensor(INPUT.quantize(np.random.default_rng(0).normal(size=(300, *shape)))).float()
    model.train()
    model(x)
    precision = SimpleNamespace(weight_bits=6, activation_bits=7, rounding="AP_TRN")
    network = quantize_model(model.eval(), x, INPUT, precision)
    for layer in weight_layers(network).values():
        layer.weight_mask.view(-1)[::3] = 0
    return network


def networks() -> dict[str, fx.GraphModule]:
    torch.manual_seed(3)
    return {
        "mlp": quantised(Mlp((11,), 3, hidden=(9, 6)), (11,)),
        "deep_sets": quantised(DeepSets((3, 4), 2, phi=(5, 4), rho=(6,)), (3, 4)),
    }


@pytest.fixture(scope="module", params=["mlp", "deep_sets"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[NetworkSpec, Path]:
    network = networks()[request.param]
    folder = tmp_path_factory.mktemp("hls") / request.param
    return describe_network(network), write_hls4ml_project(network, folder, TARGET, "tagger")


def _types(project: Path) -> dict[str, FixedPoint]:
    text = (project / "firmware" / "defines.h").read_text()
    return {name: FixedPoint.parse(kind) for kind, name in re.findall(r"typedef (ap_u?fixed<[^>]*>) (\w+);", text)}


def _blocks(project: Path) -> list[dict[str, str]]:
    text = (project / "firmware" / "parameters.h").read_text()
    blocks = re.findall(r"struct (\w+) : nnet::(\w+) \{(.*?)\n\};", text, re.S)
    return [
        {"kind": kind, **dict(re.findall(r"(\w+) = (?:nnet::)?(\w+);", body)), **_typedefs(body)}
        for name, kind, body in blocks
        if not name.endswith("_mult")  # the matrix product inside of a convolution
    ]


def _typedefs(body: str) -> dict[str, str]:
    return {name: kind for kind, name in re.findall(r"typedef (\w+) (\w+);", body)}


def test_types_sizes_and_zeros_are_those_of_the_generated_project(built: tuple[NetworkSpec, Path]) -> None:
    spec, project = built
    design = design_from_spec(spec, TARGET)
    types = _types(project)
    compute = [layer for layer in design.layers if layer.n_weights]
    blocks = [block for block in _blocks(project) if "weight_t" in block and "accum_t" in block]
    assert len(blocks) == len(compute) == len(spec.layers)
    for layer, block in zip(compute, blocks, strict=True):
        assert types[block["accum_t"]] == layer.accum_type, layer.name
        assert types[block["weight_t"]] == layer.weight_type
        assert int(block["reuse_factor"]) == layer.reuse_factor
        if block["kind"] == "dense_config":
            assert (int(block["n_in"]), int(block["n_out"])) == (layer.n_in, layer.n_out)
            assert block["strategy"] == layer.strategy
        if layer.name != "mean":
            assert int(block["n_zeros"]) == layer.n_zeros
    activations = [block for block in _blocks(project) if block["kind"] == "activ_config"]
    built_activations = [layer for layer in design.layers if layer.kind == "relu"]
    assert [int(block["n_in"]) for block in activations] == [layer.n_out for layer in built_activations]
    results = [fixed for name, fixed in types.items() if re.fullmatch(r"layer\d+_t", name)]
    quantised_types = [layer.output_type for layer in spec.layers if layer.output_type is not None]
    assert results == quantised_types
    assert [layer.output_type for layer in built_activations] == [
        layer.output_type for layer in spec.layers if layer.relu
    ]


def test_the_setting_is_that_of_the_target(built: tuple[NetworkSpec, Path]) -> None:
    spec, project = built
    design = design_from_spec(spec, TARGET)
    tcl = (project / "project.tcl").read_text()
    assert f'set part "{design.setting.part}"' in tcl
    assert f"set clock_period {design.setting.clock_period_ns}" in tcl
    assert (design.setting.tool, design.setting.family) == ("vitis_hls", "virtexuplus")
    stated = re.search(r"set clock_uncertainty (\d+)%", tcl)
    from trigger_prune.cost.hls.operators import uncertainty_ns

    assert stated is not None
    assert uncertainty_ns(design.setting) == pytest.approx(int(stated[1]) / 100 * TARGET.clock_period_ns)


def _conv(shape: tuple[int, ...], positions: int) -> WeightLayer:
    return WeightLayer(
        name="c",
        kind="conv2d" if len(shape) == 4 else "conv1d",
        weight=np.ones(shape, dtype=np.int64),
        weight_type=FixedPoint(6, 2),
        bias=np.ones(shape[0], dtype=np.int64),
        bias_type=FixedPoint(10, 3),
        input_type=FixedPoint(8, 3),
        output_type=FixedPoint(7, 2, False),
        relu=True,
        positions=positions,
    )


def test_positions_become_sizes_in_the_input_s_proportions() -> None:
    spec = NetworkSpec((_conv((4, 2, 3, 3), 12 * 36), _conv((6, 4, 3, 3), 6 * 18)), FixedPoint(8, 3), (2, 12, 36), 3)
    layers = design_from_spec(spec, TARGET).layers
    assert [layer.output_size for layer in layers if layer.kind == "conv2d"] == [(12, 36), (6, 18)]
    assert [layer.n_out for layer in layers if layer.kind == "relu"] == [4 * 12 * 36, 6 * 6 * 18]
    stream = design_from_spec(spec, Target(io_type="io_stream")).layers
    assert [(layer.n_out, layer.output_size) for layer in stream if layer.kind == "relu"] == [
        (4, (12, 36)),
        (6, (6, 18)),
    ]


@pytest.mark.parametrize("bias", [FixedPoint(10, 3), FixedPoint(12, 12), FixedPoint(6, 1, False)])
@pytest.mark.parametrize("inputs", [FixedPoint(8, 3), FixedPoint(7, 2, False)])
def test_the_inferred_accumulator_holds_every_sum(bias: FixedPoint, inputs: FixedPoint) -> None:
    layer = _conv((3, 5, 2), 4)
    layer = WeightLayer(**{**vars(layer), "bias_type": bias, "input_type": inputs})
    fixed = inferred_type(layer)
    terms = 5 * 2
    largest = terms * max(abs(inputs.min_value), inputs.max_value) * abs(layer.weight_type.min_value) + max(
        abs(bias.min_value), bias.max_value
    )
    assert fixed.max_value >= largest
    assert fixed.fraction >= max(inputs.fraction + layer.weight_type.fraction, bias.fraction)
    assert fixed.integer <= math.ceil(math.log2(largest)) + 4


def test_targets_that_hls4ml_would_change() -> None:
    spec = NetworkSpec((_conv((4, 2, 3), 9),), FixedPoint(8, 3), (2, 9), 3)
    with pytest.raises(ConfigError, match="strategy 'Fast' is unknown"):
        design_from_spec(spec, Target(strategy="Fast"))
    with pytest.raises(ConfigError, match="io_type 'io_serial' is unknown"):
        design_from_spec(spec, Target(io_type="io_serial"))
    with pytest.raises(ConfigError, match="reuse factor 5 is not possible"):
        design_from_spec(spec, Target(strategy="Resource", reuse_factor=5))


@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_convolution_padding_and_pooling_as_in_the_generated_project(io_type: str, tmp_path: Path) -> None:
    """Two ways to the same design: from the network's integers, and read back from the files hls4ml wrote."""
    torch.manual_seed(4)
    layers = (
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)),
    )
    network = quantised(nn.Sequential(*layers), (2, 8, 12))
    target = Target(part=TARGET.part, clock_period_ns=2.5, io_type=io_type)
    spec = describe_network(network)
    ours = design_from_spec(spec, target).layers
    theirs = describe_project(write_hls4ml_project(network, tmp_path / "project", target, "tagger")).layers
    assert [layer.kind for layer in ours] == [layer.kind for layer in theirs]
    assert {"max_pool", "conv2d"} <= {layer.kind for layer in ours}
    assert ("zero_padding" in {layer.kind for layer in ours}) is (io_type == "io_stream")
    for mine, written in zip(ours, theirs, strict=True):
        for name in ("n_in", "n_out", "kernel", "stride", "input_size"):
            assert getattr(mine, name) == getattr(written, name), (mine.name, name)
        for name in ("input_type", "output_type"):
            # the input port is a plain type: its values were rounded before
            mine_type, written_type = getattr(mine, name), getattr(written, name)
            assert vars(mine_type) == {**vars(written_type), **_modes(mine_type)}, (mine.name, name)
        assert math.prod(mine.output_size) == math.prod(written.output_size), mine.name
    assert network_from_json(network_to_json(spec)).pools == spec.pools
    assert network_from_json(network_to_json(spec)).layers[0].output_size == (8, 12)
    without = replace(spec, pools=())
    assert without.content_hash() != spec.content_hash(), "another network without its pooling"


def _modes(fixed: FixedPoint) -> dict[str, object]:
    return {"rounding": fixed.rounding, "overflow": fixed.overflow}
