"""Rules of strategy latency, monotony, and the public module reports."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.hls import dense_latency
from trigger_prune.cost.hls.adder_schedule import schedule
from trigger_prune.cost.hls.dense_latency import DEFAULTS, predict, reuse_effects
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.features import TermCounts, WeightFeatures, term_counts, weight_features, weight_table
from trigger_prune.cost.hls.masks import masked_layer
from trigger_prune.cost.hls.operators import Operators, family_group, operators, uncertainty_ns
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint

ULTRASCALE_PLUS = HlsSetting("vivado_hls", "2019.2", "xcu250-figd2104-2L-e", "virtexuplus", 5.0)
ZYNQ = HlsSetting("vitis_hls", "2021.1", "xc7z007s-clg225-2", "zynq", 5.0, 0.625)
VITIS_2024 = HlsSetting("vitis_hls", "2024.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0)


def dense(weight: np.ndarray, *, bits: int = 8, input_bits: int = 16, reuse: int = 1, **changes: object) -> HlsLayer:
    outs, ins = weight.shape
    layer = HlsLayer(
        name="d",
        kind="dense",
        n_in=ins,
        n_out=outs,
        input_type=FixedPoint(input_bits, 6),
        output_type=FixedPoint(16, 6),
        accum_type=FixedPoint(20, 10),
        reuse_factor=reuse,
        weight=weight.astype(np.int64),
        weight_type=FixedPoint(bits, 2),
        bias=np.ones(outs, dtype=np.int64),
        bias_type=FixedPoint(bits, 2),
    )
    return replace(layer, **changes)  # type: ignore[arg-type]


def random_layer(rng: np.random.Generator, reuse: int = 1) -> HlsLayer:
    outs, ins, bits = int(rng.integers(1, 20)), int(rng.integers(1, 40)), int(rng.integers(2, 10))
    weight = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outs, ins)) * (rng.random((outs, ins)) < rng.random())
    width, fraction = int(rng.integers(12, 26)), int(rng.integers(4, 12))
    accumulator = FixedPoint(width, width - fraction)
    return dense(
        weight,
        bits=bits,
        input_bits=int(rng.integers(6, 18)),
        reuse=reuse,
        accum_type=accumulator,
        bias=rng.integers(-1, 2, outs),
    )


@pytest.mark.parametrize(
    ("code", "dsp"),
    [(0, 0), (64, 0), (-64, 0), (65, 0), (11, 0), (13, 0), (-11, 1), (21, 1), (-21, 1), (91, 1)],
)
def test_a_constant_takes_a_dsp_by_digits_and_width(code: int, dsp: int) -> None:
    # 16 x 4 bits and below go to LUTs, 16 x 5 to a DSP; a negative constant of 4 bits has a sign bit more
    assert predict(dense(np.array([[code]])), ULTRASCALE_PLUS, DEFAULTS).dsp == dsp


def test_equal_products_share_a_multiplier() -> None:
    same = predict(dense(np.full((7, 1), 91)), ULTRASCALE_PLUS, DEFAULTS)
    signs = predict(dense(np.array([[91], [-91]])), ULTRASCALE_PLUS, DEFAULTS)
    assert (same.dsp, signs.dsp) == (1, 2)


def test_forced_multipliers_and_new_compilers() -> None:
    weight = np.full((1, 3), 91)
    narrow = dense(weight, input_bits=10)
    forced = replace(ULTRASCALE_PLUS, forced_multiplier="fabric")
    in_dsp, in_lut = predict(dense(weight), ULTRASCALE_PLUS, DEFAULTS), predict(dense(weight), forced, DEFAULTS)
    assert (in_dsp.dsp, in_lut.dsp) == (3, 0)
    assert in_lut.lut is not None and in_dsp.lut is not None and in_lut.lut > in_dsp.lut
    assert predict(narrow, VITIS_2024, DEFAULTS).dsp == 0  # up to 10 bits in LUTs from 2023 on
    assert predict(replace(narrow, input_type=FixedPoint(11, 6)), VITIS_2024, DEFAULTS).dsp == 3


def test_no_block_ram_and_an_interval_of_one() -> None:
    estimate = predict(random_layer(np.random.default_rng(0)), VITIS_2024, DEFAULTS)
    assert (estimate.bram18, estimate.ii) == (0, 1)


def test_interval_is_latency_plus_one_and_at_most_the_reuse_factor() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(100):
        reuse = int(rng.choice([2, 4, 16, 64]))
        estimate = predict(random_layer(rng, reuse), ZYNQ, DEFAULTS)
        assert estimate.latency_cycles is not None and estimate.ii is not None
        assert estimate.ii == min(reuse, estimate.latency_cycles + 1)
        seen.add(estimate.ii == reuse)
    assert seen == {True, False}


def test_multiplier_limit_counts_zeros_as_hls4ml_does() -> None:
    weight = np.array([[91, 93, 0, 0], [107, 109, 0, 0]])
    layer = dense(weight, reuse=4)
    # ceil(8 / 4) - floor(4 / 4) = 1 multiplier for 4 products
    assert predict(layer, ULTRASCALE_PLUS, DEFAULTS).dsp == 1
    # zeros that only truncation made are not in hls4ml's number: ceil(8 / 4) - 0
    assert predict(replace(layer, n_zeros=3), ULTRASCALE_PLUS, DEFAULTS).dsp == 2


def test_sparsity_may_raise_interval_and_latency_with_a_reuse_factor() -> None:
    rng = np.random.default_rng(2)
    weight = rng.choice([91, 93, 107, 109], (8, 16))
    layer = dense(weight, reuse=16)
    mask = np.ones(weight.shape, dtype=bool)
    mask[1:] = weight[1:] == weight[0]  # most weights go; every input keeps a constant of its own
    pruned = masked_layer(layer, mask)
    before, after = weight_features(layer), weight_features(pruned)
    assert after.nonzeros < before.nonzeros / 2
    full, sparse = reuse_effects(before, layer, ZYNQ, 16), reuse_effects(after, pruned, ZYNQ, 16)
    assert (full.limit, sparse.limit) == (8, 8 - (128 - after.nonzeros) // 16)
    assert sparse.multipliers == 16 and sparse.shared
    assert sparse.rounds == math.ceil(16 / sparse.limit)
    without_sharing = masked_layer(layer, np.zeros_like(mask) | (np.arange(16) < 4) & (np.arange(8)[:, None] == 0))
    estimates = [predict(each, ZYNQ, DEFAULTS) for each in (pruned, masked_layer(pruned, mask & (weight == weight[0])))]
    assert estimates[0] == estimates[1]
    dense_estimate = predict(dense(np.tile(weight[0], (8, 1)), reuse=16), ZYNQ, DEFAULTS)
    assert dense_estimate.ii is not None and estimates[0].ii is not None
    assert estimates[0].ii > dense_estimate.ii  # fewer weights, the same 16 products, a longer interval
    assert estimates[0].latency_cycles is not None and dense_estimate.latency_cycles is not None
    assert estimates[0].latency_cycles > dense_estimate.latency_cycles
    fewest = predict(without_sharing, ZYNQ, DEFAULTS)
    assert fewest.ii is not None and fewest.ii < estimates[0].ii


def _never_rises(before: LayerEstimate, after: LayerEstimate, names: tuple[str, ...]) -> None:
    for name in names:
        old, new = getattr(before, name), getattr(after, name)
        assert new <= 1.02 * old + 1e-9, (name, old, new)


@pytest.mark.parametrize("setting", [ULTRASCALE_PLUS, ZYNQ, VITIS_2024], ids=["2019", "2021", "2024"])
@pytest.mark.parametrize("reuse", [1, 4, 32])
def test_fewer_weights_never_cost_more(setting: HlsSetting, reuse: int) -> None:
    rng = np.random.default_rng(reuse)
    for _ in range(150):
        layer = random_layer(rng, reuse)
        assert layer.weight is not None
        before = predict(layer, setting, DEFAULTS)
        kept = np.argwhere(layer.weight)
        for share in (0.0, 0.3):
            mask = np.ones(layer.weight.shape, dtype=bool)
            if len(kept):
                gone = rng.choice(len(kept), max(1, int(share * len(kept))), replace=False)
                mask[tuple(kept[gone].T)] = False
            after = predict(masked_layer(layer, mask), setting, DEFAULTS)
            _never_rises(before, after, ("lut", "ff", "dsp"))
            if reuse == 1:
                _never_rises(before, after, ("latency_cycles", "ii"))


@pytest.mark.parametrize("setting", [ULTRASCALE_PLUS, ZYNQ, VITIS_2024], ids=["2019", "2021", "2024"])
def test_fewer_bits_never_cost_more(setting: HlsSetting) -> None:
    rng = np.random.default_rng(9)
    moved = 0
    for _ in range(300):
        layer = random_layer(rng)
        assert layer.weight is not None and layer.weight_type is not None
        if layer.weight_type.width < 3:
            continue
        weight = np.sign(layer.weight) * (np.abs(layer.weight) >> 1)
        shorter = replace(layer, weight=weight, weight_type=FixedPoint(layer.weight_type.width - 1, 2))
        before, after = predict(layer, setting, DEFAULTS), predict(shorter, setting, DEFAULTS)
        _never_rises(before, after, ("ff", "dsp", "latency_cycles", "ii"))
        assert before.dsp is not None and after.dsp is not None
        if after.dsp < before.dsp:
            moved += 1  # a product of fewer bits may move from a DSP into LUTs
        else:
            _never_rises(before, after, ("lut",))
    assert moved < 250


def _balanced(outputs: int, terms: int) -> TermCounts:
    """Outputs of ``terms`` multiplied weights each, products of 16 bits."""
    weight = np.full((outputs, terms), 11)
    counts = term_counts(weight_table(dense(weight, bias=np.zeros(outputs, dtype=np.int64))))
    return replace(counts, widest=np.full((1, outputs), 16))


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 3, 4, 6])
def test_stages_of_a_full_binary_tree(levels: int, depth: int) -> None:
    """A multiplication takes a cycle, then ``levels`` levels fit: registers stand where a level-by-level count says."""
    counts = _balanced(3, 2**depth)
    operators_ = Operators(budget_ns=levels + 0.5, add_16_ns=1.0, add_per_bit_ns=0.0, dsp_ns=levels + 0.2, fabric_ns=1)
    plan = schedule(
        counts,
        operators_,
        product_width=16,
        adder_width=16,
        accumulator_width=16,
        multiplier_states=1,
        multiplier_ns=levels + 0.2,
    )
    left, states, sums = depth, 1, 0  # after the multiplications: products, shared by nobody
    while left > levels:
        left -= levels
        states += 1
        sums += 2**left
    assert plan.states[0] == states
    registered = plan.register_bits[0] - counts.product_bits[0]
    assert registered == 3 * 16 * sums


def test_families_and_default_uncertainty() -> None:
    names = {
        "xcvu9p-flga2104-2L-e": "plus",
        "xcu250-figd2104-2L-e": "plus",
        "xczu7ev-ffvc1156-2-e": "plus",
        "xcku115-flvb2104-2-i": "ultrascale",
        "xcku5p-ffvb676-2-e": "plus",
        "xc7z020clg400-1": "series7",
        "xc7vx690tffg1927-2": "series7",
        "xck26-sfvc784-2LV-c": "plus",
    }
    for part, group in names.items():
        assert family_group(replace(ZYNQ, part=part, family="")) == group, part
    assert uncertainty_ns(replace(ZYNQ, clock_uncertainty_ns=None)) == pytest.approx(1.35)  # Vitis: 27 %
    assert uncertainty_ns(ULTRASCALE_PLUS) == pytest.approx(0.625)  # Vivado: 12.5 %
    assert operators(ZYNQ, {}).budget_ns == pytest.approx(4.375)


def test_a_slower_clock_or_part_never_adds_stages() -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        layer = random_layer(rng)
        cycles = [
            predict(layer, replace(VITIS_2024, clock_period_ns=clock), DEFAULTS).latency_cycles for clock in (2.5, 5, 9)
        ]
        assert cycles == sorted(cycles, reverse=True)  # type: ignore[type-var]
        old = predict(layer, replace(ZYNQ, clock_uncertainty_ns=1.35), DEFAULTS).latency_cycles
        assert old is not None and cycles[1] is not None and old >= cycles[1]


def test_fit_recovers_coefficients_and_ignores_an_outlier() -> None:
    rng = np.random.default_rng(6)
    truth = {**DEFAULTS, "lut_per_adder_bit_2021": 1.31, "ff_factor": 0.8}
    samples = []
    for number in range(9):
        layer = dense(rng.integers(-128, 128, (16, 24)))
        measured = predict(layer, ZYNQ, truth)
        if number == 4:
            measured = replace(measured, lut=9 * (measured.lut or 0), ff=7 * (measured.ff or 0))
        samples.append(LayerSample(layer, ZYNQ, measured, f"project{number // 3}"))
    fitted = dense_latency.fit(samples, DEFAULTS)
    assert fitted["lut_per_adder_bit_2021"] == pytest.approx(1.31)
    # the registers of inputs and outputs are not scaled, so that a ratio of totals is a little nearer to 1
    assert fitted["ff_factor"] == pytest.approx(0.8, abs=0.06)
    assert fitted["lut_per_adder_bit_2019"] == DEFAULTS["lut_per_adder_bit_2019"]


def test_features_alone_give_nearly_the_same_cost() -> None:
    rng = np.random.default_rng(7)
    layer = dense(rng.integers(-128, 128, (32, 32)))
    known = predict(layer, ULTRASCALE_PLUS, DEFAULTS)
    unknown = predict(replace(layer, weight=None, features=weight_features(layer)), ULTRASCALE_PLUS, DEFAULTS)
    for name in ("lut", "ff", "latency_cycles", "dsp"):
        assert getattr(unknown, name) == pytest.approx(getattr(known, name), rel=0.1), name


def test_unknown_weights_are_refused() -> None:
    layer = replace(dense(np.ones((2, 2))), weight=None, features=None)
    with pytest.raises(CostError, match="weights, which are not known"):
        predict(layer, ZYNQ, DEFAULTS)
    assert isinstance(weight_features(dense(np.ones((2, 2)))), WeightFeatures)
