"""The matrix: one cell per row and column on real events, and that neither runner nor table can hide a wrong result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_networks
import torch

from trigger_prune.export import hls4ml_project
from trigger_prune.export.support import RULES, Refusal
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.verify.matrix import runner
from trigger_prune.verify.matrix.cells import CELLS, ONE_OF_EACH, Cell
from trigger_prune.verify.matrix.networks import ROWS, row_network
from trigger_prune.verify.matrix.runner import CellResult, verify_cells, verify_others
from trigger_prune.verify.matrix.table import figures, markdown, to_json
from trigger_prune.verify.verdict import PairVerdict, Verdict

PLAIN = Cell("Vitis", "io_parallel", "Latency")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ONE_OF_EACH))
def test_real_events_give_the_same_bits(name: str) -> None:
    network, features = row_network(name, 200)
    [result] = verify_cells(network, features, [ONE_OF_EACH[name]])
    assert result.pair is not None
    assert (result.state, result.pair.events, result.pair.mismatches) == ("agrees", 200, 0), result.pair.failure
    if name != "conv2d":  # its adder graph takes half a minute to trace
        verdict = verify_others(network, features, 50)
        assert {pair.name: pair.mismatches for pair in verdict.pairs} == dict.fromkeys(
            ("torch_float32", "qonnx", "onnxruntime", "alkaid"), 0
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "two_inputs", "autoencoder"])
def test_rows_are_pruned_networks_whose_outputs_depend_on_the_events(name: str) -> None:
    network, features = row_network(name, 100)
    again, same = row_network(name, 100)
    np.testing.assert_array_equal(features, same)
    outputs = network(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_array_equal(outputs, again(torch.from_numpy(same)).detach().numpy())
    assert len(np.unique(outputs, axis=0)) > 60
    for layer in weight_layers(network).values():
        assert 0.4 < float(layer.weight_mask.mean()) < 0.6
    assert len(features) == 100
    assert (features != 0).mean() > 0.1


def test_a_wrong_bit_is_counted_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_networks.mlp()
    features = small_networks.events(small_networks.INPUT_8, 60, 5)
    written = hls4ml_project.write_hls4ml_project

    def tampered(*arguments: object, **options: object) -> Path:
        project: Path = written(*arguments, **options)  # type: ignore[arg-type]
        biases = sorted((project / "firmware" / "weights").glob("b*.txt"))
        for path in (biases[-1], biases[-1].with_suffix(".h")):
            text = path.read_text()
            head, brace, body = text.rpartition("{")
            first, comma, rest = body.partition(",")
            path.write_text(head + brace + str(float(first) + 1.0) + comma + rest)
        return project

    monkeypatch.setattr(runner, "write_hls4ml_project", tampered)
    [result] = verify_cells(network, features, [PLAIN], cache=tmp_path)
    assert result.state == "differs"
    assert not result.ok
    assert result.pair is not None and result.pair.mismatches
    assert not list(tmp_path.iterdir())


def test_an_agreement_is_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_networks.mlp()
    features = small_networks.events(small_networks.INPUT_8, 60, 5)
    calls = []
    verify_network = runner.verify_network

    def counted(*arguments: object, **options: object) -> Verdict:
        calls.append(1)
        verdict: Verdict = verify_network(*arguments, **options)  # type: ignore[arg-type]
        return verdict

    monkeypatch.setattr(runner, "verify_network", counted)
    first = verify_cells(network, features, [PLAIN], cache=tmp_path)
    assert verify_cells(network, features, [PLAIN], cache=tmp_path) == first
    assert len(calls) == 1
    verify_cells(network, features[:-1], [PLAIN], cache=tmp_path)
    assert len(calls) == 2
    with torch.no_grad():
        network.get_submodule("head").weight[0, 0] += 0.25
    verify_cells(network, features, [PLAIN], cache=tmp_path)
    assert len(calls) == 3


def test_a_cell_that_cannot_be_built_fails_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls4ml_project, "hls4ml_type", lambda fixed: "fixed<eight>")
    features = small_networks.events(small_networks.INPUT_8, 10, 5)
    [result] = verify_cells(small_networks.mlp(), features, [PLAIN])
    assert result.state == "failed"
    assert not result.ok
    assert "hls4ml cannot convert" in result.to_dict()["failure"]


def test_the_page_shows_every_cell_and_every_rule() -> None:
    bad = PairVerdict("hls4ml_csim", 500, 7)
    failed = PairVerdict("hls4ml_csim", 0, None, None, "no compiler")
    good = PairVerdict("hls4ml_csim", 1000, 0)
    cells = [CellResult(cell, good) for cell in CELLS]
    cells[0] = CellResult(CELLS[0], bad)
    cells[1] = CellResult(CELLS[1], failed)
    cells[2] = CellResult(CELLS[2], None, Refusal("dilation", "layer 'x'", "r", "i"))
    others = {"mlp": Verdict(1000, 20, "float32", (PairVerdict("qonnx", 200, 0), PairVerdict("alkaid", 1000, 3)))}
    found = figures({"mlp": cells})
    assert found == {
        "cells": 16, "cells_agrees": 13, "cells_refused": 1, "cells_differs": 1, "cells_failed": 1,
        "events_per_cell": 500, "mismatches": 7,
    }  # fmt: skip
    page = markdown({"mlp": cells}, others, {"mlp": "an MLP"})
    rows = [line for line in page.splitlines() if line.startswith("| an MLP |")]
    assert rows[0] == "| an MLP | **7** | 0 | 0 | 0 |"
    assert rows[1] == "| an MLP | **failed** | 0 | 0 | 0 |"
    assert rows[2] == "| an MLP | refused: dilation | 0 | 0 | 0 |"
    assert rows[4] == "| an MLP | not needed | 0 of 200 | **failed** | 3 of 1000 | 20 |".replace(
        "**failed**", "not needed"
    )
    assert all(f"| {rule.name} | {rule.applies_to} |" in page for rule in RULES)
    stored = json.loads(to_json({"mlp": cells}, others, versions={"hls4ml": "1.3.0"}))
    assert stored["figures"] == found
    assert [cell["state"] for cell in stored["cells"]].count("agrees") == 13


def test_every_row_has_a_title() -> None:
    assert len({row.title for row in ROWS.values()}) == len(ROWS) == 7
