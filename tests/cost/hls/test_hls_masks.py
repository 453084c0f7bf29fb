"""Many masks at once against one estimate after the other."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.cost.hls.dense_latency import DEFAULTS, predict
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.cost.hls.masks import mask_costs, masked_layer
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint

SETTINGS = (
    HlsSetting("vivado_hls", "2019.2", "xc7z020clg400-1", "zynq", 5.0),
    HlsSetting("vitis_hls", "2021.1", "xcvu9p-flga2104-2L-e", "virtexuplus", 2.5),
    HlsSetting("vitis_hls", "2024.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0),
)
QUANTITIES = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")


def layer(seed: int, shape: tuple[int, int], reuse: int = 1, n_zeros: int | None = None) -> HlsLayer:
    rng = np.random.default_rng(seed)
    return HlsLayer(
        name="d",
        kind="dense",
        n_in=shape[1],
        n_out=shape[0],
        input_type=FixedPoint(12, 4),
        output_type=FixedPoint(18, 8),
        accum_type=FixedPoint(18, 8),
        reuse_factor=reuse,
        weight=rng.integers(-128, 128, shape),
        weight_type=FixedPoint(8, 2),
        bias=rng.integers(-1, 2, shape[0]),
        bias_type=FixedPoint(8, 2),
        n_zeros=n_zeros,
    )


@pytest.mark.parametrize("setting", SETTINGS, ids=["zynq", "2021", "2024"])
@pytest.mark.parametrize(
    ("shape", "reuse", "n_zeros"), [((1, 1), 1, None), ((5, 70), 1, None), ((32, 17), 4, None), ((9, 20), 16, 1)]
)
def test_masks_equal_single_estimates(
    setting: HlsSetting, shape: tuple[int, int], reuse: int, n_zeros: int | None
) -> None:
    rng = np.random.default_rng(1)
    dense = layer(0, shape, reuse, n_zeros)
    masks = rng.random((60, *shape)) < rng.random((60, 1, 1))
    masks[0], masks[1] = True, False
    costs = mask_costs(dense, setting, DEFAULTS, masks)
    for index, mask in enumerate(masks):
        single = predict(masked_layer(dense, mask), setting, DEFAULTS)
        for name in QUANTITIES:
            assert getattr(costs, name)[index] == pytest.approx(getattr(single, name), rel=1e-12), (index, name)
    assert costs.lut[1] == costs.ff[1] == costs.dsp[1] == costs.latency_cycles[1] == 0


def test_more_masks_than_fit_into_one_pass() -> None:
    rng = np.random.default_rng(2)
    dense = layer(3, (64, 64))
    masks = rng.random((150, 64, 64)) < 0.3
    costs = mask_costs(dense, SETTINGS[2], DEFAULTS, masks)
    for index in (0, 63, 64, 65, 149):
        single = predict(masked_layer(dense, masks[index]), SETTINGS[2], DEFAULTS)
        assert costs.lut[index] == pytest.approx(single.lut)
    assert len(costs.ii) == 150


def test_a_layer_too_large_to_balance() -> None:
    rng = np.random.default_rng(4)
    dense = layer(5, (20, 600))
    masks = rng.random((3, 20, 600)) < 0.5
    costs = mask_costs(dense, SETTINGS[0], DEFAULTS, masks)
    single = predict(masked_layer(dense, masks[2]), SETTINGS[0], DEFAULTS)
    assert (costs.ff[2], costs.latency_cycles[2]) == (single.ff, single.latency_cycles)
    assert costs.latency_cycles[2] > 50  # one term after the other, not a tree of nine levels


def test_masks_that_do_not_fit() -> None:
    dense = layer(0, (4, 3))
    with pytest.raises(CostError, match="do not fit weights"):
        mask_costs(dense, SETTINGS[0], DEFAULTS, np.ones((2, 3, 4), dtype=bool))
    with pytest.raises(CostError, match="do not fit weights"):
        mask_costs(dense, SETTINGS[0], DEFAULTS, np.ones((2, 4, 3)))  # type: ignore[arg-type]
    resource = HlsLayer("r", "dense", 3, 4, FixedPoint(8, 4), FixedPoint(8, 4), strategy="resource")
    with pytest.raises(CostError, match="strategy latency only"):
        mask_costs(resource, SETTINGS[0], DEFAULTS, np.ones((2, 4, 3), dtype=bool))
