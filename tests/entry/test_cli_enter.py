"""The command enter, from file and events to tables and a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from conftest import INPUT, Foreign
from random_qonnx import Graph
from typer.testing import CliRunner, Result

from trigger_prune.cli import entry
from trigger_prune.data.transform import InputTransform
from trigger_prune.entry.enter import Options, enter_file, kind_of
from trigger_prune.entry.events import read_features
from trigger_prune.errors import ConfigError, DataError
from trigger_prune.export.qonnx_model import to_qonnx


def call(*arguments: object) -> Result:
    app = typer.Typer()
    app.command("enter")(entry.enter)
    app.command("other")(print)
    return CliRunner().invoke(app, ["enter", *map(str, arguments)])


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.npz"
    np.savez(path, features=(np.random.default_rng(0).normal(size=(120, 5)) * 2).astype(np.float32))
    return path


def qonnx_file(folder: Path, last: str = "") -> Path:
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 2.0**-4, 8.0, signed=1, narrow=0, mode="ROUND")
    weight = g.quant(g.constant(g.rng.normal(size=(5, 4))), 0.25, 4.0, signed=1, narrow=0, mode="ROUND")
    tensor = g.node("Relu", [g.node("MatMul", [tensor, weight])])
    tensor = g.quant(tensor, 0.25, 5.0, signed=0, narrow=0, mode="FLOOR")
    tensor = g.node("MatMul", [tensor, g.constant(g.rng.integers(-4, 4, (4, 3)) / 4)])
    if last:
        tensor = g.node(last, [tensor])
    path = folder / "elsewhere.onnx"
    onnx.save(g.model(tensor, (5,), (3,), batch=1), str(path))
    return path


@pytest.mark.slow
def test_a_qonnx_file_is_measured_and_every_representation_agrees(tmp_path: Path, events: Path) -> None:
    out = tmp_path / "out"
    result = call(qonnx_file(tmp_path), "--events", events, "--out", out)
    assert result.exit_code == 0, result.output
    assert "elsewhere (qonnx): events of shape (5,), ap_fixed<8,4,AP_RND_CONV,AP_SAT>" in result.output
    assert "120 of 120 events were rounded to the input type" in result.output
    verdict = json.loads((out / "verify.json").read_text())
    found = {pair["name"]: (pair["events"], pair["mismatches"]) for pair in verdict["pairs"]}
    names = ("torch_float32", "qonnx", "onnxruntime", "hls4ml_csim", "alkaid", "source file", "verilog")
    assert found == dict.fromkeys(names, (120, 0))
    cost = json.loads((out / "cost.json").read_text())
    assert cost["stage"] == "rtl_synth" and cost["lut"] > 50 and str(cost["lut"]) in result.output
    assert (out / "hls4ml_project" / "firmware").is_dir() and (out / "rtl_project" / "vhdl").is_dir()
    again = call(qonnx_file(tmp_path), "--events", events, "--out", out)
    assert again.exit_code == 2 and "exists already" in again.output


def test_a_refusal_is_an_error_message(tmp_path: Path, events: Path) -> None:
    result = call(qonnx_file(tmp_path, "Sigmoid"), "--events", events, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "(Sigmoid): this operator is not supported" in result.output and "--output" in result.output
    assert not (tmp_path / "out").exists()


def test_steps_are_chosen(tmp_path: Path, events: Path) -> None:
    out = tmp_path / "out"
    result = call(qonnx_file(tmp_path), "--events", events, "--out", out, "--step", "cost", "--max-events", 10)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["cost.json"]


@pytest.mark.slow
def test_a_keras_model_goes_through_the_other_interpreter(foreign: Foreign, tmp_path: Path, events: Path) -> None:
    file = tmp_path / "tagger.keras"
    file.write_bytes(b"a saved model")
    python = foreign.interpreter()
    missing = call(file, "--events", events, "--python", python, "--out", tmp_path / "out")
    assert missing.exit_code == 2 and "--input-type" in missing.output
    arguments = ("--events", events, "--python", python, "--input-type", str(INPUT), "--out", tmp_path / "out")
    result = call(file, *arguments, "--step", "cost", "--step", "verify")
    assert result.exit_code == 0, result.output
    assert "120 golden events agree with Keras" in result.output
    assert json.loads((tmp_path / "out" / "verify.json").read_text())["ok"]
    assert (tmp_path / "out" / "design" / "comb.json.gz").is_file()


def test_a_float_file_is_quantised_and_compared(tmp_path: Path, events: Path) -> None:
    g = Graph(np.random.default_rng(0))
    tensor = g.node("Gemm", ["x", g.constant(g.rng.normal(size=(5, 3))), g.constant(g.rng.normal(size=3))])
    path = tmp_path / "float.onnx"
    onnx.save(g.model(tensor, (5,), (3,), batch=1), str(path))
    found = enter_file(path, str(events), tmp_path / "out", Options(weight_bits=6))
    text = "\n".join(found.remarks)
    assert "weights 6 bits" in text and "the decision stays in" in text
    assert found.model.input_type.contains(found.features).all()


def test_our_own_file_needs_its_input_transform(small_network: object, tmp_path: Path, events: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(to_qonnx(small_network), str(path))
    result = call(path, "--events", events, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "does not say the type of its inputs" in result.output
    names = tuple("abcde")
    transform = InputTransform(names, np.full(5, 0.5), np.full(5, 2.0), INPUT)
    (tmp_path / "t.json").write_text(json.dumps(transform.to_dict()))
    found = enter_file(path, str(events), tmp_path / "o", Options(transform=tmp_path / "t.json"))
    with np.load(events) as file:
        np.testing.assert_array_equal(found.features, INPUT.quantize((file["features"] - 0.5) / 2))
    assert found.remarks == ()
    with pytest.raises(ConfigError, match="contradicts"):
        enter_file(
            path,
            str(events),
            tmp_path / "o",
            Options(transform=tmp_path / "t.json", input_type=INPUT.parse("fixed<9,3>")),
        )


def test_events_come_from_every_reader(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    assert read_features("builtin:jets16", 30).shape == (30, 16)
    np.savez(tmp_path / "one.npz", anything=np.ones((4, 2)))
    assert read_features(str(tmp_path / "one.npz")).shape == (4, 2)
    np.savez(tmp_path / "two.npz", a=np.ones((4, 2)), b=np.ones((4, 2)))
    with pytest.raises(DataError, match="no array 'features' among a, b"):
        read_features(str(tmp_path / "two.npz"))
    np.savez(tmp_path / "nan.npz", features=np.array([[np.nan]]))
    with pytest.raises(DataError, match="not finite"):
        read_features(str(tmp_path / "nan.npz"))
    pyarrow.parquet.write_table(pyarrow.table({"pt": [1.0, 2.0], "eta": [3.0, 4.0]}), tmp_path / "t.parquet")
    assert read_features(str(tmp_path / "t.parquet")).tolist() == [[1, 3], [2, 4]]


def test_the_kind_is_that_of_the_suffix_and_the_nodes(tmp_path: Path) -> None:
    assert kind_of(Path("x.keras")) == "keras"
    assert kind_of(qonnx_file(tmp_path)) == "qonnx"
    with pytest.raises(ConfigError, match="unknown suffix"):
        kind_of(Path("x.h5"))


def test_events_of_another_shape_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", features=np.ones((4, 2)))
    result = call(qonnx_file(tmp_path), "--events", tmp_path / "e.npz", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "the events have shape (2,)" in result.output
