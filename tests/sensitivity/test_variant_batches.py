"""Variants in one batch against the network itself, one variant after the other."""

import copy

import pytest
import torch
from scan_networks import SHAPES, Sized, events, network, snapshot, traced, with_masks
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.sensitivity import batch as batch_module
from trigger_prune.sensitivity.batch import Batch, input_outputs
from trigger_prune.sensitivity.program import Program
from trigger_prune.sensitivity.variants import Variant, state_of
from trigger_prune.structure.masks import prunable_layers

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def random_mask(layer: nn.Module, generator: torch.Generator) -> Tensor:
    return (torch.rand(layer.weight.shape, generator=generator) > 0.5).to(layer.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(SHAPES))
def test_every_layer_with_random_masks_computes_what_the_masked_network_computes(kind, dtype, monkeypatch):
    monkeypatch.setattr(batch_module, "CACHE_VALUES", 9000)  # several chunks, the last one smaller
    generator = torch.Generator().manual_seed(5)
    for seed in range(2):
        model, x = network(kind, seed, dtype), events(kind, 130, seed, dtype).features
        program = Program(model)
        assert torch.allclose(program.plain(x), copy.deepcopy(model).eval()(x), rtol=0, atol=TOLERANCE[dtype])
        for name, layer in prunable_layers(model).items():
            masks = [random_mask(layer, generator) for _ in range(4)]
            batch = Batch(program, [Variant({name: state_of(layer, mask)}) for mask in masks], x)
            assert batch.shareable
            found = batch.run(x)
            assert found.shape == (130, 4, 3)
            for number, mask in enumerate(masks):
                truth = with_masks(model, {name: mask})(x)
                assert (found[:, number] - truth).abs().max() <= TOLERANCE[dtype]
            assert (found[:, 0] - found[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["mlp", "conv2d", "grouped", "deep_sets"])
def test_groups_that_reach_over_several_layers(kind):
    model, x = network(kind, 3, torch.float64), events(kind, 60, 3, torch.float64).features
    generator = torch.Generator().manual_seed(1)
    layers = prunable_layers(model)
    masks = [{name: random_mask(layer, generator) for name, layer in layers.items()} for _ in range(3)]
    variants = [Variant({name: state_of(layers[name], mask) for name, mask in one.items()}) for one in masks]
    found = Batch(Program(model), variants, x).run(x)
    for number, one in enumerate(masks):
        assert (found[:, number] - with_masks(model, one)(x)).abs().max() <= 1e-12


@pytest.mark.parametrize("rounding", ["AP_TRN", "AP_RND", "AP_RND_CONV"])
@pytest.mark.parametrize("kind", ["mlp", "residual", "conv2d"])
def test_quantisers_of_other_types_alone_and_with_the_layer_before_them(kind, rounding):
    model, x = network(kind, 1, torch.float64), events(kind, 80, 1, torch.float64).features
    names = [name for name, module in model.named_modules() if isinstance(module, FixedQuantizer)]
    layer_name, layer = next(iter(prunable_layers(model).items()))
    generator = torch.Generator().manual_seed(2)
    mask = random_mask(layer, generator)
    types = [
        FixedPoint(4, 2, signed=False, rounding=rounding, overflow="AP_SAT"),
        FixedPoint(3, 1, signed=False, rounding=rounding, overflow="AP_SAT"),
        FixedPoint(5, 1, signed=True, rounding=rounding, overflow="AP_WRAP"),
    ]
    for name in names:
        for masked in (False, True):
            layers = {layer_name: state_of(layer, mask)} if masked else {}
            found = Batch(Program(model), [Variant(layers, {name: fixed}) for fixed in types], x).run(x)
            for number, fixed in enumerate(types):
                other = with_masks(model, {layer_name: mask} if masked else {})
                other.get_submodule(name).fixed = fixed
                assert (found[:, number] - other(x)).abs().max() <= 1e-12


@pytest.mark.parametrize("rounding", ["AP_RND", "AP_TRN"])
def test_a_graph_that_computes_with_the_number_of_events_is_run_variant_by_variant(rounding, monkeypatch):
    monkeypatch.setattr(batch_module, "CACHE_VALUES", 200)
    torch.manual_seed(3)
    model = traced(Sized(rounding)).double()
    x = torch.randn(37, 3, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    for name in ("embed", "mix", "head"):
        layer = model.get_submodule(name)
        masks = [random_mask(layer, generator) for _ in range(3)]
        batch = Batch(Program(model), [Variant({name: state_of(layer, mask)}) for mask in masks], x)
        assert batch.shareable == (name == "head")
        for number, mask in enumerate(masks):
            truth = with_masks(model, {name: mask})(x)
            assert (batch.run(x)[:, number] - truth).abs().max() <= 1e-12


@pytest.mark.parametrize("kind", ["mlp", "conv2d", "deep_sets"])
def test_one_input_at_a_time_is_replaced(kind, monkeypatch):
    monkeypatch.setattr(batch_module, "CACHE_VALUES", 9000)
    model, x = network(kind, 0, torch.float64), events(kind, 50, 0, torch.float64).features
    other = events(kind, 50, 9, torch.float64).features
    found = input_outputs(Program(model), x, other)
    plain = copy.deepcopy(model).eval()
    for index in range(x.shape[1]):
        replaced = x.clone()
        replaced[:, index] = other[:, index]
        assert (found[:, index] - plain(replaced)).abs().max() <= 1e-12


def test_neither_building_nor_running_a_program_touches_the_network():
    model = network("conv2d")
    model.train()
    before = snapshot(model)
    layer = model.get_submodule("head")
    variants = [Variant({"head": state_of(layer, torch.zeros_like(layer.weight))})]
    x = events("conv2d", 20).features
    Batch(Program(model), variants, x).run(x)
    assert snapshot(model) == before


def test_layers_that_are_never_called_are_named():
    model = network("mlp")
    with pytest.raises(ModelError, match="layer 'ghost' is never called"):
        Batch(Program(model), [Variant({"ghost": state_of(model.get_submodule("head"))})], events("mlp", 5).features)
