"""Tables, limits and figures of a scan, and the scan as JSON."""

import csv
import json
import math
import re
import sys

import pytest
import torch
from pyarrow import parquet
from scan_networks import events, network

from trigger_prune.errors import ToolError
from trigger_prune.importance import criterion_by_name
from trigger_prune.report.sensitivity_plots import curves_svg, heat_map_svg, save_figures
from trigger_prune.sensitivity.findings import Figure, ScanPoint, SensitivityScan
from trigger_prune.sensitivity.scan import scan
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.sensitivity.table import POINTS, input_rows, point_rows, write_parquet, write_tables
from trigger_prune.sensitivity.tolerance import max_sparsities
from trigger_prune.target import Target

CRITERIA = [criterion_by_name("magnitude_l1"), criterion_by_name("random")]


@pytest.fixture(scope="module")
def found() -> SensitivityScan:
    batches = events("mlp", 200)
    settings = ScanSettings(structures=("weight", "neuron"), bits=(3,), activation_bits=(3,), target=Target())
    names = [f"feature {i}" for i in range(7)]
    return scan(
        network("mlp"),
        batches.features.numpy(),
        batches,
        names,
        [0.5, 0.9],
        CRITERIA,
        "classify",
        settings=settings,
        groups=torch.arange(200).numpy() // 2,
    )


def test_layer_curves_of_the_report_are_the_first_criterion_on_single_weights(found):
    chosen = [
        p
        for p in found.points
        if (p.criterion, p.structure, p.weight_bits, p.activation_bits) == ("magnitude_l1", "weight", None, None)
    ]
    assert len(found.layers) == len(chosen) == 6
    for layer, point in zip(found.layers, chosen, strict=True):
        assert (layer.layer, layer.sparsity, layer.merit) == (point.layer, point.sparsity, point.merit)
        assert (layer.loss, layer.accuracy) == (point.figures["loss"].value, point.figures["accuracy"].value)
        assert layer.accuracy_low < layer.accuracy < layer.accuracy_high
    assert found.baseline_loss == found.baseline["loss"].value
    assert "68 %" in found.intervals and "200 Poisson" in found.intervals


def test_a_scan_survives_json_and_old_files_are_read(found):
    raw = json.loads(json.dumps(found.to_dict()))
    assert SensitivityScan.from_dict(raw) == found
    for key in ("points", "baseline", "intervals"):
        del raw[key]
    for finding in raw["inputs"]:
        del finding["shuffled"], finding["removed"]
    old = SensitivityScan.from_dict(raw)
    assert old.layers == found.layers and old.points == () and old.inputs[0].shuffled == {}


def test_csv_and_parquet_hold_every_point_and_number(found, tmp_path):
    tables = {POINTS: point_rows(found.points), "inputs": input_rows(found.inputs), "none": []}
    written, note = write_tables(tables, tmp_path)
    names = ["sensitivity.csv", "sensitivity.parquet", "inputs.csv", "inputs.parquet"]
    assert [file.name for file in written] == names and note is None
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    with (tmp_path / "sensitivity.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    columns = parquet.read_table(tmp_path / "sensitivity.parquet").to_pydict()
    assert list(columns) == list(rows[0]) and len(rows) == len(found.points) == len(columns["layer"])
    for number, (row, point) in enumerate(zip(rows, found.points, strict=True)):
        for name in ("layer", "criterion", "structure", "sparsity", "weight_bits", "activation_bits", "lut", "merit"):
            value = getattr(point, name)
            assert row[name] == ("" if value is None else str(value)) and columns[name][number] == value
        figure = point.figures["auc"]
        assert (float(row["auc"]), float(row["auc_change_low"])) == (figure.value, figure.change_low)
        assert (columns["auc_high"][number], columns["auc_change"][number]) == (figure.high, figure.change)
    inputs = parquet.read_table(tmp_path / "inputs.parquet").to_pydict()
    assert inputs["name"] == [f"feature {i}" for i in range(7)]
    assert inputs["removed_loss_change"] == [finding.removed["loss"].change for finding in found.inputs]


def test_without_pyarrow_the_csv_is_written_and_the_extra_named(found, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    written, note = write_tables({POINTS: point_rows(found.points)}, tmp_path)
    assert [file.name for file in written] == ["sensitivity.csv"] and "trigger_prune[parquet]" in note
    with pytest.raises(ToolError, match="needs pyarrow"):
        write_parquet(point_rows(found.points), tmp_path / "x.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["sensitivity.csv"]


def point(layer: str, sparsity: float, drop: float, error: float = 0.01, **more) -> ScanPoint:
    figures = {
        "accuracy": Figure(0.7 - drop, 0, 1, -drop, -drop - error, -drop + error),
        "loss": Figure(1 + drop, 0, 2, drop, drop - error, drop + error),
    }
    values = {"criterion": "magnitude_l1", "structure": "weight", "weight_bits": None} | more
    return ScanPoint(
        layer=layer,
        sparsity=sparsity,
        zero_weights=sparsity,
        activation_bits=None,
        events=100,
        merit=0.7 - drop,
        figures=figures,
        lut=1000 - int(1000 * sparsity),
        **values,
    )


@pytest.mark.parametrize("figure", ["accuracy", "loss"])
def test_largest_sparsity_stops_at_the_first_point_that_loses_too_much(figure):
    points = [
        point("a", 0.9, 0.019),
        point("a", 0.5, 0.005),
        point("a", 0.95, 0.3),
        point("b", 0.5, 0.05),
        point("b", 0.9, 0.0),  # lucky: behind a point that loses more
        point("a", 0.5, 0.0, weight_bits=3),
        point("c", 0.2, math.nan),
        point("d", 0.3, 0.5, criterion=None, structure=None, weight_bits=4),
    ]
    found = [
        (limit.layer, limit.weight_bits, limit.sparsity, limit.sure_sparsity, limit.lut)
        for limit in max_sparsities(points, 0.02, figure)
    ]
    assert found == [
        ("a", None, 0.9, 0.5, 100),
        ("b", None, None, None, None),
        ("a", 3, 0.5, 0.5, 500),
        ("c", None, None, None, None),
    ]


def test_figures_show_every_layer_sparsity_and_number(found, tmp_path):
    pruned = [p for p in found.points if p.criterion is not None]
    heat = texts_of(heat_map_svg(found.points, "accuracy"))
    for p in pruned:
        assert f"{-100 * p.figures['accuracy'].change:.2f}" in heat
        bits = "own bits" if p.weight_bits is None else "3 bits"
        assert f"{p.layer}, {p.criterion}, {p.structure}, {bits}" in heat
    curves = texts_of(curves_svg(found.points, "auc", 0.02))
    assert {"dense1", "dense2", "head", "magnitude_l1, weight, own bits"} <= curves
    few = [p for p in found.points if p.curve[1:4] == ("magnitude_l1", "weight", None)]
    names = [f"{kind}_{name}.svg" for name in few[0].figures for kind in ("curves", "heat_map")]
    assert [file.name for file in save_figures(few, tmp_path, 0.02)] == names and len(names) == 8
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    assert save_figures([p for p in found.points if p.criterion is None], tmp_path / "none") == []


def texts_of(svg: str) -> set[str]:
    return set(re.findall(r">([^<>]+)</text>", svg))
