"""A design without its weights costs what it costs with them, and does not hold them any more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting, IoType, LayerKind, Strategy
from trigger_prune.cost.hls.features import term_counts, weight_features, weight_table
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.hls.weightless import without_weights
from trigger_prune.cost.report import HardwareReport
from trigger_prune.fixed_point import FixedPoint

SETTINGS = (
    HlsSetting("vivado_hls", "2019.2", "xc7z020clg400-1", "zynq", 5.0),
    HlsSetting("vitis_hls", "2021.1", "xcvu9p-flga2104-2L-e", "virtexuplus", 2.5),
    HlsSetting("vitis_hls", "2024.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0),
)
VALUE, WIDE = FixedPoint(10, 4), FixedPoint(26, 12)


def layer(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    strategy: Strategy = "latency",
    reuse: int = 1,
    kind: LayerKind = "dense",
) -> HlsLayer:
    bits = int(rng.integers(3, 15))
    weight = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape) * (rng.random(shape) < rng.uniform(0.2, 1))
    weight[0] = 0  # an output that is a constant
    kernel = shape[2:]
    return HlsLayer(
        name="secret" if kind == "dense" else "conv",
        kind=kind,
        n_in=shape[1],
        n_out=shape[0],
        input_type=VALUE,
        output_type=WIDE,
        strategy=strategy,
        reuse_factor=reuse,
        accum_type=WIDE,
        weight=weight,
        weight_type=FixedPoint(bits, 2),
        bias=rng.integers(-9, 9, shape[0]),
        bias_type=FixedPoint(8, 3),
        n_zeros=int((weight == 0).sum()) if rng.random() < 0.5 else None,
        kernel=kernel,
        stride=(1,) * len(kernel),
        input_size=(8,) * len(kernel),
        output_size=(6,) * len(kernel),
    )


def figures(report: HardwareReport) -> list[object]:
    parts = (report, *report.layers)
    names = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii", "interval_90")
    return [getattr(part, name) for part in parts for name in names]


def same_cost(design: HlsDesign) -> HlsDesign:
    bare = without_weights(design)
    assert all(part.weight is None and part.bias is None for part in bare.layers)
    model = HlsAnalyticCost()
    for mine, theirs in zip(figures(model.estimate_design(bare)), figures(model.estimate_design(design)), strict=True):
        assert mine == (pytest.approx(theirs) if not isinstance(theirs, dict) else theirs)
    return bare


@pytest.mark.parametrize("setting", SETTINGS, ids=["2019", "2021", "2024"])
@pytest.mark.parametrize(
    ("strategy", "reuse"),
    [
        ("latency", 1),
        ("latency", 8),
        ("resource", 1),
        ("resource", 8),
        ("resource_unrolled", 8),
        ("distributed_arithmetic", 1),
    ],
)
def test_dense_layers(strategy: Strategy, reuse: int, setting: HlsSetting) -> None:
    rng = np.random.default_rng(reuse)
    for _ in range(25):
        dense = layer(rng, (int(rng.integers(1, 8)) * 4, int(rng.integers(1, 12)) * 4), strategy, reuse)
        relu = HlsLayer("relu", "relu", dense.n_out, dense.n_out, WIDE, VALUE)
        same_cost(HlsDesign((dense, relu), setting))


@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.parametrize(("strategy", "reuse"), [("latency", 1), ("latency", 4), ("resource", 4), ("resource", 1)])
def test_convolutions(strategy: Strategy, reuse: int, io_type: IoType) -> None:
    rng = np.random.default_rng(3)
    kinds: tuple[tuple[LayerKind, tuple[int, ...]], ...] = (("conv1d", (4, 3, 3)), ("conv2d", (4, 2, 3, 3)))
    for kind, shape in kinds:
        same_cost(
            HlsDesign((layer(rng, shape, strategy, reuse, kind),), replace(SETTINGS[2], io_type=io_type)),
        )


def test_batch_normalisation_and_a_too_large_layer() -> None:
    rng = np.random.default_rng(4)
    dense = layer(rng, (10, 40))
    scale = HlsLayer(
        "scale", "batchnorm", 10, 10, WIDE, WIDE, weight=rng.integers(-99, 99, 10), weight_type=FixedPoint(8, 2),
        bias=rng.integers(-1, 2, 10), bias_type=FixedPoint(8, 2),
    )  # fmt: skip
    same_cost(HlsDesign((dense, scale), SETTINGS[1]))
    same_cost(HlsDesign((layer(rng, (20, 600)),), SETTINGS[0]))


def test_what_is_left_depends_on_no_order_sign_or_place_of_the_weights() -> None:
    """Outputs in another order and inputs in another order: the same counts. Other weights of the same counts too."""
    rng = np.random.default_rng(5)
    dense = layer(rng, (12, 16))
    assert dense.weight is not None and dense.bias is not None
    order = rng.permutation(12)
    moved = replace(dense, weight=dense.weight[order], bias=dense.bias[order])
    first, second = (without_weights(HlsDesign((each,), SETTINGS[0])).layers[0] for each in (dense, moved))
    assert first.features is not None and first.features == second.features
    # 5 = 4 + 1 and 7 = 8 - 1 have two digits and three bits: nothing tells which it was.
    one, other = (replace(dense, weight=np.full((12, 16), code)) for code in (5, 7))
    left, right = (without_weights(HlsDesign((each,), SETTINGS[0])).layers[0] for each in (one, other))
    assert left.features == right.features
    again = without_weights(HlsDesign((first,), SETTINGS[0])).layers[0]
    assert again.features == first.features


def test_counts_against_the_weights() -> None:
    dense = layer(np.random.default_rng(6), (12, 16))
    bare = without_weights(HlsDesign((dense,), SETTINGS[0])).layers[0]
    assert bare.features is not None and bare.features.counts is not None
    assert replace(bare.features, counts=None) == weight_features(dense)
    counts, terms = bare.features.counts, term_counts(weight_table(dense))
    assert np.sum(counts.outputs, axis=0)[:3].tolist() == [
        int(each.sum()) for each in (terms.wires, terms.adders, terms.multipliers)
    ]
    assert sum(number for _, number in counts.constant_widths) == bare.features.u3
