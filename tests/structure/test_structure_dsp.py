"""DSP and BRAM patterns against hls4ml's own C++ loop, its generated code and its resource formulas."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
from pathlib import Path

import hls4ml
import numpy as np
import pytest
import torch
from hls4ml.backends.vivado.passes.unrolled_codegen import GenerateUnrolledDenseResource
from torch import nn

from trigger_prune.cost.hls.reuse_factor import valid_reuse_factors
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.layers import QuantConv1d, QuantConv2d, QuantLinear, QuantWeightLayer
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.bram import patterns_per_word
from trigger_prune.structure.group_masks import mask_groups, remove_groups, removed_fraction

TYPE = FixedPoint(12, 2, overflow="AP_SAT")
SIZES = [(6, 4), (16, 5), (1, 8), (9, 3)]
CASES = [(n_in, n_out, factor) for n_in, n_out in SIZES for factor in valid_reuse_factors(n_in, n_out)]

LOOP = r"""
#include "nnet_utils/nnet_dense_resource.h"
#include <cstdio>
static int calls;
struct Recording { template <class D, class W> struct product_t; };
template <class D, class W> struct Product {
    static int product(D data, W weight) { printf("%d %d %d\n", calls++, int(data), int(weight)); return 0; }
};
template <int N_IN, int N_OUT, int RF> struct Config {
    static const unsigned n_in = N_IN, n_out = N_OUT, reuse_factor = RF;
    typedef int weight_t; typedef int bias_t; typedef int accum_t;
    template <class D, class W> using product = Product<D, W>;
};
namespace nnet { template <class D, class R, typename C> R cast(int x) { return x; } }
template <int N_IN, int N_OUT, int RF> void run() {
    int data[N_IN], result[N_OUT], weights[N_IN * N_OUT], biases[N_OUT] = {};
    for (int i = 0; i < N_IN; i++) data[i] = i;
    for (int i = 0; i < N_IN * N_OUT; i++) weights[i] = i;
    calls = 0;
    printf("layer %d %d %d\n", N_IN, N_OUT, RF);
    nnet::dense_resource<int, int, Config<N_IN, N_OUT, RF>>(data, result, weights, biases);
}
int main() { RUNS }
"""


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int, int], list[tuple[int, int, int]]]:
    """By layer: (multiplier, input, weight) of every product, in the order in which hls4ml's header computes them."""
    folder = tmp_path_factory.mktemp("dense_resource")
    runs = " ".join(f"run<{n_in}, {n_out}, {factor}>();" for n_in, n_out, factor in CASES)
    source = folder / "loop.cpp"
    source.write_text(LOOP.replace("RUNS", runs))
    vivado = Path(hls4ml.__file__).parent / "templates" / "vivado"
    includes = [f"-I{vivado}", f"-I{vivado / 'ap_types'}", f"-I{vivado / 'nnet_utils'}"]
    command = ["g++", "-std=c++14", "-O0", "-w", *includes, str(source), "-o", str(folder / "loop")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    output = subprocess.run([folder / "loop"], check=True, capture_output=True, text=True).stdout
    result: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
    for line in output.splitlines():
        words = line.split()
        if words[0] == "layer":
            n_in, n_out, factor = map(int, words[1:])
            found = result.setdefault((n_in, n_out, factor), [])
            n_multipliers = n_in * n_out // factor
        else:
            call, data, weight = map(int, words)
            found.append((call % n_multipliers, data, weight))  # the inner loop is unrolled: one multiplier each
    return result


@pytest.mark.parametrize(("n_in", "n_out", "factor"), CASES)
def test_a_group_is_what_one_multiplier_of_the_header_computes(
    n_in: int, n_out: int, factor: int, products: dict[tuple[int, int, int], list[tuple[int, int, int]]]
) -> None:
    calls = products[n_in, n_out, factor]
    assert sorted(weight for _, _, weight in calls) == list(range(n_in * n_out))
    assert all(data == weight % n_in for _, data, weight in calls)  # weights lie output by output
    network = nn.Sequential(QuantLinear(nn.Linear(n_in, n_out), TYPE, TYPE))
    ids = structure_by_name("dsp", reuse_factor=factor).groups(network).ids["0"].flatten().tolist()
    assert {weight: multiplier for multiplier, _, weight in calls} == dict(enumerate(ids))


def hls4ml_order(layer: QuantWeightLayer, values: np.ndarray) -> np.ndarray:
    """Weights as hls4ml stores them: keras order (kernel, in, out), transposed by ``ApplyResourceStrategy``."""
    keras = values.transpose(*range(2, values.ndim), 1, 0)
    return keras.transpose(keras.ndim - 1, *range(keras.ndim - 1))


LAYERS = [
    lambda: QuantLinear(nn.Linear(8, 6), TYPE, TYPE),
    lambda: QuantConv1d(nn.Conv1d(3, 4, 2), TYPE, TYPE),
    lambda: QuantConv2d(nn.Conv2d(2, 6, (3, 2)), TYPE, TYPE),
]


@pytest.mark.parametrize("make", LAYERS)
def test_masking_groups_frees_exactly_that_many_multipliers_in_the_generated_code(make: object) -> None:
    """hls4ml's code generator counts the multipliers that have no weight left, and leaves their products out."""
    layer: QuantWeightLayer = make()  # type: ignore[operator]
    n_out, n_in = layer.weight.flatten(1).shape
    for factor in valid_reuse_factors(n_in, n_out)[1:]:
        network = nn.Sequential(make())  # type: ignore[operator]
        groups = structure_by_name("dsp", reuse_factor=factor).groups(network)
        assert groups.count == n_in * n_out // factor
        for n_gone in {0, 1, groups.count // 2, groups.count - 1}:
            chosen = torch.zeros(groups.count, dtype=torch.bool)
            chosen[torch.randperm(groups.count, generator=torch.Generator().manual_seed(factor))[:n_gone]] = True
            network[0].weight_mask.fill_(1)
            mask_groups(network, groups, chosen)
            weights = type("Weights", (), {"data": hls4ml_order(layer, network[0].weight_mask.numpy())})
            writer = GenerateUnrolledDenseResource()
            write = (writer._generate_unrolled_mult_code_rf_leq_nin if factor <= n_in
                     else writer._generate_unrolled_mult_code_rf_gt_nin_rem0)  # fmt: skip
            code = write(n_in, n_out, factor, weights)
            limit = int(re.search(r"limit=(-?\d+)", code)[1])  # type: ignore[index]
            assert limit == math.ceil(n_in * n_out / min(n_in, factor)) - n_gone
            assert code.count("product(data") == (groups.count - n_gone) * factor
            assert removed_fraction(network, groups) == n_gone / groups.count


@pytest.mark.parametrize(
    ("bits", "together"),
    [(1, 36), (2, 18), (3, 12), (4, 9), (6, 6), (7, 11), (8, 9), (9, 4), (12, 3), (16, 5), (18, 2)],
)
def test_patterns_of_one_memory_word_by_the_formula_of_hls4ml(bits: int, together: int) -> None:
    # optimization/dsp_aware_pruning/objectives/vivado_objectives.py, VivadoMultiObjectiveEstimator; it needs keras
    formula = 36 // bits if 36 % bits == 0 else math.ceil(2 * 36 / bits)
    assert patterns_per_word(bits) == formula == together


@pytest.mark.parametrize("bits", [6, 8, 10, 12])
@pytest.mark.parametrize("make", LAYERS)
def test_a_bram_group_is_neighbouring_multipliers_in_the_memory_word(make: object, bits: int) -> None:
    """Cut the word that is read in one cycle (the weight of every multiplier) into slices."""
    layer: QuantWeightLayer = make()  # type: ignore[operator]
    layer.weight_type = FixedPoint(bits, 1)
    n_out, n_in = layer.weight.flatten(1).shape
    positions = np.arange(n_in * n_out).reshape(layer.weight.shape)
    for factor, patterns in itertools.product(valid_reuse_factors(n_in, n_out)[1:], (None, 1, 3)):
        words = hls4ml_order(layer, positions).reshape(-1, factor).T  # ARRAY_RESHAPE block: (cycle, multiplier)
        size = patterns or (36 // bits if 36 % bits == 0 else -(-72 // bits))
        wanted = [set(words[:, start : start + size].ravel()) for start in range(0, words.shape[1], size)]
        groups = structure_by_name("bram", reuse_factor=factor, patterns=patterns).groups(nn.Sequential(layer))
        ids = groups.ids["0"].numpy()
        assert [set(positions[ids == number]) for number in range(groups.count)] == wanted
        if patterns is None:  # a full slice holds at least one whole memory, 36 bits from a multiple of 36 on
            bounds = [(start * bits, (start + size) * bits) for start in range(0, words.shape[1] - size + 1, size)]
            assert all(-(-low // 36) * 36 + 36 <= high for low, high in bounds)


def test_reuse_factors_by_layer() -> None:
    network = nn.Sequential(LAYERS[0](), LAYERS[0]())
    groups = structure_by_name("dsp", reuse_factor={"1": 4}).groups(network)
    assert [len(torch.unique(ids)) for ids in groups.ids.values()] == [48, 12]
    words = structure_by_name("bram", reuse_factor={"1": 4}, word_bits=24).groups(network)
    assert [len(torch.unique(ids)) for ids in words.ids.values()] == [48, 6]  # with factor 1 the weights are in logic
    remove_groups(network, groups, torch.rand(groups.count), 0.5, "layer")
    assert removed_fraction(network, groups) == 0.5


@pytest.mark.parametrize("structure", ["dsp", "bram"])
def test_impossible_reuse_factors_are_refused(structure: str) -> None:
    network = nn.Sequential(LAYERS[0](), LAYERS[1]())
    with pytest.raises(ConfigError, match=r"layer 1: reuse factor 8 .* valid: 1, 2, 3, 6, 12, 24"):
        structure_by_name(structure, reuse_factor=8).groups(network)
    with pytest.raises(ConfigError, match="no prunable layer 'fc9'"):
        structure_by_name(structure, reuse_factor={"fc9": 2}).groups(network)
    grouped = nn.Sequential(QuantConv1d(nn.Conv1d(4, 4, 3, groups=2), TYPE, TYPE))
    with pytest.raises(ModelError, match="'0' is a grouped convolution"):
        structure_by_name(structure, reuse_factor=2).groups(grouped)
    assert structure_by_name(structure, reuse_factor=1).groups(grouped).count == 24
    with pytest.raises(ConfigError, match="memory word of 0 bits"):
        structure_by_name("bram", reuse_factor=2, word_bits=0)
    with pytest.raises(ConfigError, match="0 patterns"):
        structure_by_name("bram", reuse_factor=2, patterns=0)
