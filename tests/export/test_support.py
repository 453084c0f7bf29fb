"""The table of what hls4ml builds: every rule refuses before hls4ml is called, and what it offers instead passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import small_networks
import torch
from torch import fx, nn

from trigger_prune.errors import ExportError
from trigger_prune.export import hls4ml_project
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.export.support import RULES, find_refusal, layouts, require_supported
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.quantize.layers import ChannelQuantizer, FixedQuantizer
from trigger_prune.target import LayerLayout, Target
from trigger_prune.verify.matrix.cells import CELLS, ONE_OF_EACH, cell_target
from trigger_prune.verify.matrix.networks import ROWS

DA = "distributed_arithmetic"


def _quantised(shape: tuple[int, ...], *layers: nn.Module) -> fx.GraphModule:
    torch.manual_seed(0)
    return small_networks.quantised(nn.Sequential(*layers), shape)


def _conv(*behind: nn.Module, shape: tuple[int, ...] = (2, 8), **settings: int) -> fx.GraphModule:
    convolution = nn.Conv1d(shape[0], 4, 3, padding=1, **settings)
    return _quantised(shape, convolution, nn.ReLU(), *behind, nn.Flatten(), nn.LazyLinear(2))


def _pooled2d(pool: nn.Module) -> fx.GraphModule:
    return _quantised((1, 5, 5), nn.Conv2d(1, 3, 1), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(2))


def _mlp() -> fx.GraphModule:
    return _quantised((8,), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def _typed_by_channel() -> fx.GraphModule:
    network = _mlp()
    [name] = [name for name, module in network.named_modules() if isinstance(module, FixedQuantizer)]
    types = [FixedPoint(4 + k % 2, 2, False, "AP_TRN", "AP_SAT") for k in range(8)]
    network.set_submodule(name, ChannelQuantizer(types))
    return network


REFUSED: dict[str, list[tuple[Callable[[], fx.GraphModule], Target, str, str, Target | None]]] = {
    # rule: (network, target, backend, place that is named, a target that passes)
    "unknown": [
        (_mlp, Target(), "Quartus", "backend 'Quartus'", None),
        (_mlp, Target(io_type="io_serial"), "Vitis", "io_type 'io_serial'", Target(io_type="io_stream")),
        (_mlp, Target(strategy="Fastest"), "Vitis", "strategy 'fastest'", Target(strategy="latency")),
    ],
    "channel types": [(_typed_by_channel, Target(), "Vitis", "quantiser", None)],
    "grouped convolution": [
        (lambda: _conv(shape=(4, 8), groups=2), Target(), "Vitis", "layer '0'", None),
        (lambda: _conv(shape=(2, 8), groups=2), Target(io_type="io_stream"), "Vitis", "layer '0'", None),
    ],
    "dilation": [(lambda: _conv(dilation=2), Target(), "Vivado", "layer '0'", None)],
    "positions at the end": [
        (
            lambda: _quantised((2, 8), nn.Conv1d(2, 4, 3), nn.Flatten()),
            Target(io_type="io_stream"),
            "Vitis",
            "layer '0', which no Linear follows",
            Target(),
        )
    ],
    "padded pooling": [
        (lambda: _conv(nn.MaxPool1d(2, padding=1)), Target(), "Vitis", "layer '2'", None),
        (lambda: _conv(nn.MaxPool1d(3, ceil_mode=True)), Target(), "Vitis", "layer '2'", None),
        (lambda: _pooled2d(nn.MaxPool2d(2, padding=(0, 1))), Target(io_type="io_stream"), "Vitis", "layer '2'", None),
        (lambda: _pooled2d(nn.MaxPool2d(2, dilation=2)), Target(), "Vitis", "layer '2'", None),
    ],
    "overlapping pooling": [
        (lambda: _pooled2d(nn.MaxPool2d(3, 2)), Target(io_type="io_stream"), "Vitis", "layer '2'", Target()),
    ],
    "reuse factor of distributed arithmetic": [
        (_mlp, Target(strategy=DA, reuse_factor=2), "Vitis", "layer '0'", Target(strategy=DA)),
    ],
    "depthwise": [
        (lambda: _conv(shape=(4, 8), groups=4), Target(strategy=name), "Vitis", "layer '0'", Target())
        for name in ("Resource", DA)
    ]
    + [
        (
            small_networks.deep_sets,
            Target(layers=(LayerLayout("mean", "Resource", 1),)),
            "Vitis",
            "layer 'mean'",
            Target(strategy="Resource"),
        )
    ],
    "unrolled without reuse": [
        (
            _mlp,
            Target(strategy="Resource_Unrolled"),
            "Vitis",
            "layer '0'",
            Target(strategy="Resource_Unrolled", reuse_factor=2),
        ),
    ],
    "unrolled convolution": [
        (
            _conv,
            Target(strategy="Resource_Unrolled", reuse_factor=2),
            "Vivado",
            "layer '0'",
            Target(strategy="Resource_Unrolled", reuse_factor=2, io_type="io_stream"),
        ),
    ],
    "reuse factor": [
        (
            _mlp,
            Target(strategy="Resource", reuse_factor=3),
            "Vitis",
            "reuse factor 3 of layer '0'",
            Target(strategy="Resource", reuse_factor=4),
        ),
    ],
}
CASES = [pytest.param(rule, *case, id=f"{rule} {k}") for rule, cases in REFUSED.items() for k, case in enumerate(cases)]


def test_every_rule_has_a_case() -> None:
    assert set(REFUSED) == {rule.name for rule in RULES}


@pytest.mark.parametrize(("rule", "make", "target", "backend", "where", "passes"), CASES)
def test_refused_with_reason_and_way_out_before_hls4ml(
    rule: str,
    make: Callable[[], fx.GraphModule],
    target: Target,
    backend: str,
    where: str,
    passes: Target | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def called(*arguments: object) -> None:
        pytest.fail("hls4ml was called")

    monkeypatch.setattr(hls4ml_project, "_convert", called)
    network = make()
    with pytest.raises(ExportError) as caught:
        write_hls4ml_project(network, tmp_path / "p", target, "net", backend=backend)
    found = find_refusal(network, target, backend)
    assert found is not None
    assert found.rule == rule
    assert where in found.where
    assert found.reason in caught.value.message
    assert found.where in caught.value.message
    assert caught.value.hint == f"use instead: {found.instead}"
    assert not list(tmp_path.iterdir())
    if passes is not None:
        assert find_refusal(network, passes, "Vitis") is None


def test_the_hint_for_a_reuse_factor_names_those_that_pass() -> None:
    network = _quantised((6,), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    for strategy in ("Resource", "Resource_Unrolled"):
        found = find_refusal(network, Target(strategy=strategy, reuse_factor=5), "Vitis")
        assert found is not None
        offered = [int(word) for word in found.instead.split(":")[1].split(",")]
        passing = [
            factor
            for factor in range(1, 49)
            if find_refusal(
                network,
                Target(layers=(LayerLayout("0", strategy, factor),)),
                "Vitis",
            )
            is None
        ]
        assert offered == passing
        assert f"{min(offered, key=lambda factor: abs(factor - 5))} is the nearest" in found.instead


def test_the_mean_over_positions_gets_latency_and_nothing_else_does() -> None:
    network = small_networks.deep_sets()
    for strategy, factor in (("Resource", 4), ("Resource_Unrolled", 4), (DA, 1)):
        found = {layout.layer: layout for layout in layouts(network, Target(strategy=strategy, reuse_factor=factor))}
        assert found.pop("mean") == LayerLayout("mean", "Latency", 1)
        assert set(found.values()) == {LayerLayout(name, strategy, factor) for name in found}
    trained = _conv(shape=(4, 8), groups=4)
    assert layouts(trained, Target(strategy=DA))[0].strategy == DA
    own = Target(layers=(LayerLayout("mean", "Resource", 1),))
    assert LayerLayout("mean", "Resource", 1) in layouts(network, own)


def test_usual_networks_pass_in_every_layout_they_have() -> None:
    refused = {
        (str(cell), found.rule)
        for network in (_mlp(), small_networks.deep_sets(), _conv(nn.MaxPool1d(2)))
        for cell in CELLS
        if (found := find_refusal(network, cell_target(network, cell), cell.backend)) is not None
    }
    assert refused == {(f"{b} io_parallel Resource_Unrolled", "unrolled convolution") for b in ("Vitis", "Vivado")}
    require_supported(_quantised((2, 7), nn.Conv1d(2, 3, 3, stride=2), nn.Flatten()), Target())


def test_the_daily_cells_cover_every_row_and_every_column() -> None:
    assert list(ONE_OF_EACH) == list(ROWS)
    for column in ("backend", "io_type", "strategy"):
        assert {getattr(cell, column) for cell in ONE_OF_EACH.values()} == {getattr(cell, column) for cell in CELLS}
    assert len(CELLS) * len(ROWS) == 112


def test_cells_ask_for_reuse_that_each_layer_allows() -> None:
    torch.manual_seed(0)
    network = small_networks.quantised(Conv1dNet((3, 8), 5, channels=(5,), hidden=(6,)), (3, 8))
    for cell in CELLS:
        target = cell_target(network, cell)
        factors = {layout.reuse_factor for layout in layouts(network, target)}
        if cell.strategy in ("Latency", DA):
            assert factors == {1}
        else:
            assert 1 not in factors
    assert cell_target(network, CELLS[0], reuse=6).layout("head").reuse_factor == 6
