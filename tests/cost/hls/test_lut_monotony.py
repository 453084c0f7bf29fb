"""LUTs rise by more than 2 % for one reason only: products that no longer fit a DSP."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.hls.calibration import shipped_calibration
from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting, Strategy
from trigger_prune.cost.hls.layers import predict_layer
from trigger_prune.cost.hls.masks import masked_layer
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication
from trigger_prune.cost.hls.products import Products, moved_to_lut, products
from trigger_prune.cost.hls.weightless import without_weights
from trigger_prune.fixed_point import FixedPoint

SETTINGS = (
    HlsSetting("vivado_hls", "2019.2", "xc7z020clg400-1", "zynq", 5.0),
    HlsSetting("vitis_hls", "2021.1", "xcvu9p-flga2104-2L-e", "virtexuplus", 2.5),
    HlsSetting("vitis_hls", "2022.2", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0),
    HlsSetting("vitis_hls", "2024.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0),
)
STRATEGIES: tuple[tuple[Strategy, int], ...] = (
    ("latency", 1),
    ("latency", 4),
    ("latency", 16),
    ("resource", 1),
    ("resource", 4),
    ("resource_unrolled", 1),
    ("resource_unrolled", 4),
    ("distributed_arithmetic", 1),
)
CALIBRATION = shipped_calibration()
LAYERS = 80


def layer(rng: np.random.Generator, strategy: Strategy, reuse: int) -> HlsLayer:
    """Gaussian weights, as training leaves them, some pruned; sizes that every reuse factor above divides."""
    shape = (4 * int(rng.integers(1, 10)), 4 * int(rng.integers(2, 16)))
    bits, input_bits = int(rng.integers(3, 17)), int(rng.integers(4, 17))
    limit = 2 ** (bits - 1)
    weight = np.clip(np.rint(rng.normal(0, limit / 3, shape)), -limit, limit - 1).astype(np.int64)
    weight *= rng.random(shape) < rng.uniform(0.2, 1)
    wide = FixedPoint(bits + input_bits + 8, 14)
    return HlsLayer(
        "fc", "dense", shape[1], shape[0], FixedPoint(input_bits, 4), wide, strategy, reuse, wide, weight,
        FixedPoint(bits, 2), rng.integers(-8, 8, shape[0]), FixedPoint(12, 4), int((weight == 0).sum()),
    )  # fmt: skip


def fewer_weights(rng: np.random.Generator, old: HlsLayer) -> HlsLayer:
    """The smallest go, or any."""
    assert old.weight is not None
    size = np.abs(old.weight) if rng.random() < 0.5 else rng.random(old.weight.shape)
    return masked_layer(old, size >= np.quantile(size[old.weight != 0], rng.uniform(0.01, 0.9)))


def fewer_bits(rng: np.random.Generator, old: HlsLayer) -> HlsLayer:
    """One bit less of the weights (truncated, as ap_fixed does) or of the inputs."""
    assert old.weight is not None and old.weight_type is not None and old.accum_type is not None
    wide = FixedPoint(old.accum_type.width - 1, old.accum_type.integer)
    if rng.random() < 0.5:
        weight = old.weight >> 1
        fixed = FixedPoint(old.weight_type.width - 1, 2)
        changed = replace(old, weight=weight, weight_type=fixed, n_zeros=int((weight == 0).sum()))
    else:
        changed = replace(old, input_type=FixedPoint(old.input_type.width - 1, 4))
    return replace(changed, accum_type=wide, output_type=wide)


def by_sets(old: HlsLayer, setting: HlsSetting) -> tuple[int, int]:
    """Products in DSPs and in LUTs, counted as sets of (input, constant)."""
    assert old.weight is not None
    in_dsp, in_lut = set(), set()
    for index, constant in {(i, int(c)) for row in old.weight for i, c in enumerate(row) if c}:
        value, digits = abs(constant), 0
        while value:
            digit = (2 - value % 4) if value % 2 else 0
            digits += digit != 0
            value = (value - digit) // 2
        width = abs(constant).bit_length() + (constant < 0)
        if digits >= 3 and dsp_per_multiplication(old.input_type.width, width, setting):
            in_dsp.add((index, constant))
        elif digits >= 2 or constant < 0:
            in_lut.add((index, constant))
    return len(in_dsp), len(in_lut)


def known(old: HlsLayer, setting: HlsSetting) -> Products:
    found = products(old, setting, CALIBRATION)
    return Products(0, 0, 0.0) if found is None else found


@pytest.mark.parametrize(("strategy", "reuse"), STRATEGIES)
def test_fewer_weights_never_cost_more_luts(strategy: Strategy, reuse: int) -> None:
    rng = np.random.default_rng(reuse)
    for _ in range(LAYERS):
        before, setting = layer(rng, strategy, reuse), SETTINGS[rng.integers(4)]
        after = fewer_weights(rng, before)
        old, new = (predict_layer(each, setting, CALIBRATION) for each in (before, after))
        for name in ("lut", "dsp"):
            assert getattr(new, name) <= 1.02 * getattr(old, name) + 1e-9, name


@pytest.mark.parametrize(("strategy", "reuse"), STRATEGIES)
def test_fewer_bits_cost_more_luts_only_where_products_leave_the_dsps(strategy: Strategy, reuse: int) -> None:
    rng = np.random.default_rng(100 + reuse)
    rises = 0
    for _ in range(LAYERS):
        before, setting = layer(rng, strategy, reuse), SETTINGS[rng.integers(4)]
        after = fewer_bits(rng, before)
        old, new = (predict_layer(each, setting, CALIBRATION) for each in (before, after))
        assert old.lut is not None and new.lut is not None and old.dsp is not None and new.dsp is not None
        assert new.dsp <= 1.02 * old.dsp + 1e-9
        first, second = known(before, setting), known(after, setting)
        moved = max(min(first.dsp - second.dsp, second.lut - first.lut), 0)
        # Without what those products cost in LUTs, there is no rise.
        assert new.lut - moved * second.lut_each <= 1.02 * old.lut + 1e-9, (setting, first, second)
        rises += new.lut > 1.02 * old.lut
        if reuse == 1 and new.lut > 1.02 * old.lut:
            assert new.dsp < old.dsp
    assert (rises > 0) is (strategy != "distributed_arithmetic")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.version)
def test_products_are_counted_as_sets(setting: HlsSetting) -> None:
    rng = np.random.default_rng(9)
    for _ in range(25):
        dense = layer(rng, "latency", 1)
        found = products(dense, setting, CALIBRATION)
        assert found is not None and (found.dsp, found.lut) == by_sets(dense, setting)
        assert (found.lut_each > 0) is (found.lut > 0)
        bare = without_weights(HlsDesign((dense,), setting)).layers[0]
        assert products(bare, setting, CALIBRATION) == found
    in_memory = products(layer(rng, "resource", 4), setting, CALIBRATION)
    assert in_memory is not None and in_memory.dsp + in_memory.lut > 0
    assert products(replace(layer(rng, "latency", 1), weight=None), setting, CALIBRATION) is None


def test_an_estimate_says_what_moved() -> None:
    """2024.1 multiplies operands of up to 10 bits in LUTs: an input of 11 bits keeps its products in DSPs."""
    constants = np.full((3, 8), 91) + 2 * np.arange(24).reshape(3, 8) % 7
    wide = FixedPoint(30, 14)
    before = HlsLayer("fc", "dense", 8, 3, FixedPoint(11, 4), wide, "latency", 1, wide, constants, FixedPoint(9, 2))
    after = replace(before, input_type=FixedPoint(10, 4))
    first, second = (HlsAnalyticCost().estimate_design(HlsDesign((each,), SETTINGS[3])) for each in (before, after))
    assert first.dsp == first.details["products"]["fc"]["dsp"] > 0 == second.dsp
    moved = second.details["products"]["fc"]["lut"] - first.details["products"]["fc"]["lut"]
    (notice,) = moved_to_lut(first, second)
    assert notice.startswith(f"fc: {moved} products moved from DSPs into LUTs, of up to ")
    each = second.details["products"]["fc"]["lut_each"]
    assert (second.lut or 0) - (first.lut or 0) == pytest.approx(moved * each, rel=0.3)
    assert moved_to_lut(second, first) == () == moved_to_lut(first, first)
    assert type(first).from_json(first.to_json()).details["products"] == first.details["products"]
