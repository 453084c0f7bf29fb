"""Projects that this toolkit exports are read back as the very network that was exported."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import fx, nn

from trigger_prune.cost.hls.design import HlsLayer
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.errors import ReportFormatError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.synthesis.calibration.describe import describe_project
from trigger_prune.synthesis.calibration.headers import drafts_from_headers
from trigger_prune.synthesis.validate.build import build_design
from trigger_prune.synthesis.validate.designs import DESIGNS, ValidationDesign
from trigger_prune.target import Target


def quantised(model: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    fixed = FixedPoint(8, 3, True, "AP_RND", "AP_SAT")  # type: ignore[arg-type]
    x = torch.tensor(fixed.quantize(np.random.default_rng(1).normal(size=(200, *shape)))).float()
    model.train()
    for _ in range(10):
        model(x)
    return quantize_model(model.eval(), x, fixed, SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN"))


@pytest.fixture(scope="module")
def mlp() -> fx.GraphModule:
    torch.manual_seed(1)
    return quantised(Mlp((6,), 3, hidden=(8, 4)), (6,))


def assert_same_weights(project: Path, spec: NetworkSpec) -> None:
    layers = [draft.layer for draft in drafts_from_headers(project, "tagger") if draft.layer.weight is not None]
    assert len(layers) == len(spec.layers)
    for layer, true in zip(layers, spec.layers, strict=True):
        assert layer.weight is not None and layer.weight_type is not None and layer.bias is not None
        np.testing.assert_array_equal(layer.weight * layer.weight_type.lsb, true.weight * true.weight_type.lsb)
        np.testing.assert_array_equal(layer.bias * layer.bias_type.lsb, true.bias * true.bias_type.lsb)  # type: ignore[union-attr]
        assert layer.n_zeros == (true.weight == 0).sum()


@pytest.mark.parametrize(("strategy", "reuse"), [("Latency", 1), ("Latency", 4), ("Resource", 2)])
def test_weights_of_an_exported_project(mlp: fx.GraphModule, tmp_path: Path, strategy: str, reuse: int) -> None:
    target = Target(strategy=strategy, reuse_factor=reuse)
    project = write_hls4ml_project(mlp, tmp_path / "p", target, "tagger")
    assert_same_weights(project, describe_network(mlp))


def test_design_of_an_exported_project(mlp: fx.GraphModule, tmp_path: Path) -> None:
    spec = describe_network(mlp)
    target = Target(part="xcvu9p-flga2104-2L-e", clock_period_ns=2.5, reuse_factor=2)
    design = describe_project(write_hls4ml_project(mlp, tmp_path / "p", target, "tagger"))
    assert [layer.kind for layer in design.layers] == ["dense", "relu", "dense", "relu", "dense"]
    assert design.layers[0].name == "Dense_MatMul_0"
    assert [(layer.n_in, layer.n_out) for layer in design.layers[::2]] == [(6, 8), (8, 4), (4, 3)]
    assert {layer.reuse_factor for layer in design.layers[::2]} == {2}
    assert {layer.strategy for layer in design.layers[::2]} == {"latency"}
    first = design.layers[0].input_type
    assert (first.width, first.integer, first.signed) == (8, 3, True)
    assert [str(layer.output_type) for layer in design.layers[1:4:2]] == [
        str(layer.output_type) for layer in spec.layers[:-1]
    ]
    setting = design.setting
    assert (setting.tool, setting.part, setting.family) == ("vitis_hls", "xcvu9p-flga2104-2L-e", "virtexuplus")
    assert (setting.clock_period_ns, setting.io_type) == (2.5, "io_parallel")


def test_convolution_windows_and_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = quantised(Conv1dNet((3, 8), 2, channels=(4,), kernel=3, pool=1, hidden=(4,)), (3, 8))
    project = write_hls4ml_project(network, tmp_path / "p", Target(), "tagger")
    conv = next(d.layer for d in drafts_from_headers(project, "tagger") if d.layer.kind == "conv1d")
    true = describe_network(network).layers[0]
    assert (conv.n_in, conv.n_out, conv.kernel, conv.input_size) == (3, 4, (3,), (8,))
    assert conv.weight is not None
    np.testing.assert_array_equal(conv.weight, true.weight)


def test_damaged_headers_name_the_file(mlp: fx.GraphModule, tmp_path: Path) -> None:
    project = write_hls4ml_project(mlp, tmp_path / "p", Target(), "tagger")
    parameters = project / "firmware" / "parameters.h"
    whole = parameters.read_text()
    parameters.write_text(whole.replace("struct config", "struct lost_config", 1))
    with pytest.raises(ReportFormatError, match=r"parameters\.h does not define config"):
        drafts_from_headers(project, "tagger")
    parameters.write_text(whole)
    weights = sorted((project / "firmware" / "weights").glob("w*.h"))[0]
    weights.write_text(weights.read_text().replace("{", "{nothing, ", 1))
    with pytest.raises(ReportFormatError, match=weights.name):
        drafts_from_headers(project, "tagger")


@pytest.mark.parametrize("design", [d for d in DESIGNS if d.needs is None], ids=lambda design: design.name)
def test_headers_say_what_hls4mls_own_graph_says(design: ValidationDesign, tmp_path: Path) -> None:
    """Weights (which some strategies store outputs first), types, sizes of one position: layer by layer, all fields."""
    built = build_design(design, "Vitis", "xcvu9p-flga2104-2L-e", 5.0, out_dir=tmp_path / "p")
    built.graph.write()
    found = describe_project(tmp_path / "p").layers
    assert [layer.name for layer in found] == [layer.name for layer in built.hls.layers]
    for ours, theirs in zip(found, built.hls.layers, strict=True):
        for field in fields(HlsLayer):
            one, other = getattr(ours, field.name), getattr(theirs, field.name)
            assert np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other, (
                ours.name,
                field.name,
            )


def test_a_stream_is_counted_by_positions(tmp_path: Path) -> None:
    design = next(d for d in DESIGNS if d.io_type == "io_stream")
    build_design(design, "Vitis", "xcvu9p-flga2104-2L-e", 5.0, out_dir=tmp_path / "p").graph.write()
    layers = {layer.name: layer for layer in describe_project(tmp_path / "p").layers}
    activation = next(layer for layer in layers.values() if layer.kind == "relu")
    assert (activation.n_in, activation.n_out, activation.output_size) == (6, 6, (12,))
    first_dense = next(layer for layer in layers.values() if layer.kind == "dense")
    assert (first_dense.n_in, first_dense.input_size) == (72, (12,))


def test_parallelisation_of_a_convolution(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = quantised(Conv1dNet((3, 8), 2, channels=(4,), kernel=3, pool=1, hidden=(4,)), (3, 8))
    project = write_hls4ml_project(network, tmp_path / "p", Target(), "tagger")
    parameters = project / "firmware" / "parameters.h"
    text = parameters.read_text()
    assert "n_partitions = 8;" in text
    for partitions, factor in ((8, 1), (2, 4)):
        parameters.write_text(text.replace("n_partitions = 8;", f"n_partitions = {partitions};"))
        conv = next(d.layer for d in drafts_from_headers(project, "tagger") if d.layer.kind == "conv1d")
        assert conv.parallelization_factor == factor
