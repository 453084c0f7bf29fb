"""The designs are what they claim to be, and are described as hls4ml builds them."""

import numpy as np
import pytest

from trigger_prune.cost.hls.from_spec import design_from_spec
from trigger_prune.quantize.describe import describe_network
from trigger_prune.synthesis.validate import build
from trigger_prune.synthesis.validate.build import build_design, missing_packages
from trigger_prune.synthesis.validate.designs import DESIGNS, quantised_network

PART = "xcvu13p-flga2577-2-e"
BUILDABLE = [design for design in DESIGNS if design.needs is None]


def test_the_designs_span_the_model():
    assert len(BUILDABLE) == 10
    assert {design.bits for design in DESIGNS} >= {4, 6, 8, 16}
    sparsities = {design.sparsity for design in DESIGNS}
    assert min(sparsities) == 0.0 and max(sparsities) == 0.9
    assert {design.strategy for design in DESIGNS} == {
        *("Latency", "Resource", "Resource_Unrolled", "distributed_arithmetic"),
    }
    assert {design.io_type for design in DESIGNS} == {"io_parallel", "io_stream"}
    assert {1, 2, 4, 8, 16} <= {design.reuse_factor for design in DESIGNS}
    assert any(design.softmax for design in DESIGNS)
    assert {design.kind for design in DESIGNS} >= {"mlp", "conv1d"}


@pytest.mark.parametrize("design", BUILDABLE, ids=lambda design: design.name)
def test_hls4ml_gets_the_integers_of_the_network(design):
    built = build_design(design, "Vitis", PART, 5.0)
    spec = describe_network(built.network)
    weighted = [layer for layer in built.hls.layers if layer.weight is not None]
    assert len(weighted) == len(spec.layers) == len(design.widths)
    for layer, truth in zip(weighted, spec.layers, strict=True):
        assert (layer.kind, layer.strategy, layer.reuse_factor) == (
            truth.kind,
            design.strategy.lower(),
            design.reuse_factor,
        )
        assert (layer.weight_type.width, layer.weight_type.integer) == (design.bits, truth.weight_type.integer)
        expected = truth.weight
        if design.kind != "mlp" and truth.kind == "dense":
            # hls4ml flattens positions before channels.
            channels = design.widths[0]
            expected = expected.reshape(len(expected), channels, -1).transpose(0, 2, 1).reshape(len(expected), -1)
        np.testing.assert_array_equal(layer.weight, expected)
        np.testing.assert_array_equal(layer.bias, truth.bias)
        assert layer.n_zeros == np.count_nonzero(truth.weight == 0)
        # Rounding adds zeros, never takes one away.
        assert layer.n_zeros >= round(design.sparsity * truth.weight.size) - 1
    assert (built.hls.layers[-1].kind == "softmax") is design.softmax
    assert built.hls.setting.io_type == design.io_type
    assert built.hls.setting.family == "virtexuplus"


def test_a_convolution_in_a_stream_is_described_position_by_position():
    design = next(design for design in DESIGNS if design.kind == "conv1d")
    layers = {layer.kind: layer for layer in build_design(design, "Vitis", PART, 5.0).hls.layers}
    conv = layers["conv1d"]
    assert (conv.n_in, conv.n_out, conv.kernel, conv.stride) == (3, 6, (3,), (1,))
    assert (conv.input_size, conv.output_size) == ((14,), (12,))
    assert (layers["relu"].n_in, layers["relu"].output_size) == (6, (12,))
    padding = layers["zero_padding"]
    assert (padding.n_in, padding.input_size, padding.output_size) == (3, (12,), (14,))


@pytest.mark.parametrize(
    "design", [design for design in BUILDABLE if design.kind == "mlp"], ids=lambda design: design.name
)
def test_two_ways_to_describe_a_design_agree(design):
    """From hls4ml's own graph, and from the network's integers by the rules of hls4ml."""
    built = build_design(design, "Vitis", PART, 5.0)
    derived = design_from_spec(describe_network(built.network), built.target)
    graph = [layer for layer in built.hls.layers if layer.kind != "softmax"]
    assert len(graph) == len(derived.layers)
    for mine, other in zip(graph, derived.layers, strict=True):
        for name in ("kind", "n_in", "n_out", "accum_type", "weight_type", "bias_type", "n_zeros", "output_type"):
            assert getattr(mine, name) == getattr(other, name), (mine.name, name)
        assert (mine.input_type.width, mine.input_type.integer) == (other.input_type.width, other.input_type.integer)


def test_every_machine_builds_the_same_network():
    first, second = (describe_network(quantised_network(DESIGNS[1])) for _ in range(2))
    assert first.content_hash() == second.content_hash()
    hashes = [describe_network(quantised_network(design)).content_hash() for design in BUILDABLE]
    assert len(set(hashes)) == len(hashes)


def test_what_is_not_installed_is_named(monkeypatch):
    design = next(design for design in DESIGNS if design.needs)
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    assert "trigger_prune[da]" in missing_packages(design)
    monkeypatch.setattr(build, "find_spec", lambda name: object())
    assert missing_packages(design) is None
