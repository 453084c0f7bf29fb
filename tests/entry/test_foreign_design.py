"""Foreign designs: an adder graph of another framework goes through cost, verify, synth and a two-stage design.

The interpreter of the other framework is stood in for, except in the last tests, which need HGQ2's environment.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import INPUT, Foreign

from trigger_prune.config.project import CostConfig
from trigger_prune.entry import hgq2_model, steps
from trigger_prune.entry.foreign import ForeignDesign
from trigger_prune.entry.foreign_cost import full_option, measure_foreign
from trigger_prune.entry.hgq2_model import PYTHON_VARIABLE, find_hgq2_python, read_hgq2
from trigger_prune.errors import (
    ArtefactError,
    ConfigError,
    CostError,
    FixedPointError,
    ModelError,
    ToolError,
    VerificationError,
)
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.scores import Score
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.target import Target
from trigger_prune.verify.representations import torch_outputs

HGQ2 = os.environ.get(PYTHON_VARIABLE)
needs_hgq2 = pytest.mark.skipif(not HGQ2, reason=f"{PYTHON_VARIABLE} names no environment with HGQ2")


def model_file(folder: Path) -> Path:
    path = folder / "tagger.keras"
    path.write_bytes(b"a saved model")
    return path


def entered(foreign: Foreign, folder: Path) -> ForeignDesign:
    return read_hgq2(model_file(folder), foreign.events, INPUT, folder / "design", python=foreign.interpreter())


def test_the_design_computes_what_the_network_behind_it_computes(foreign: Foreign, tmp_path: Path) -> None:
    design = entered(foreign, tmp_path)
    expected = torch_outputs(foreign.network, foreign.events, double=True)
    np.testing.assert_array_equal(design.outputs(foreign.events), expected)
    inputs, outputs = design.golden()
    np.testing.assert_array_equal(inputs, foreign.events)
    np.testing.assert_array_equal(outputs, expected)
    assert (design.name, design.input_shape, design.n_outputs, design.events) == ("tagger", (5,), 3, 400)
    assert "hgq2 0.2.0" in design.made_by


def test_it_survives_saving_and_loading(foreign: Foreign, tmp_path: Path) -> None:
    design = entered(foreign, tmp_path).with_score(Score("difference", (2,), (0, 1)))
    moved = design.save(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "design")
    back = ForeignDesign.load(tmp_path / "elsewhere")
    assert back == moved and back.content_hash == moved.content_hash
    logits = torch_outputs(foreign.network, foreign.events, double=True)
    np.testing.assert_array_equal(back.scores(foreign.events), logits[:, 2] - logits[:, :2].max(axis=1))
    with pytest.raises(ModelError, match="exists already"):
        back.save(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "comb.json.gz").write_bytes(b"cut")
    with pytest.raises(ArtefactError, match="no adder graph"):
        _ = ForeignDesign.load(tmp_path / "elsewhere").comb
    (tmp_path / "elsewhere" / "design.json").write_text("{}")
    with pytest.raises(ArtefactError, match="holds no design"):
        ForeignDesign.load(tmp_path / "elsewhere")


def test_wrong_events_and_a_missing_score_are_refused(foreign: Foreign, tmp_path: Path) -> None:
    design = entered(foreign, tmp_path)
    with pytest.raises(ModelError, match="shape"):
        design.outputs(foreign.events[:, :4])
    with pytest.raises(FixedPointError, match="off the grid"):
        design.outputs(foreign.events + np.float32(0.001))
    with pytest.raises(ModelError, match="has no score"):
        design.scores(foreign.events)


def test_cost_is_that_of_the_same_network_entered_as_layers(foreign: Foreign, tmp_path: Path) -> None:
    design = entered(foreign, tmp_path)
    report = steps.cost_of(design, CostConfig(), Target())
    model = RtlCost(pipeline_for_clock=True)
    own = model.measure(foreign.network, Target())
    assert (report.lut, report.ff, report.latency_cycles, report.ii) == (own.lut, own.ff, own.latency_cycles, 1)
    assert report.lut is not None and report.lut > 100
    report.require_same_stage(own)
    assert report.content_hash == design.content_hash and report.details["made_by"] == design.made_by
    with pytest.raises(CostError, match="needs the layers of tagger"):
        steps.cost_of(design, CostConfig(backend="analytic"), Target())
    option = full_option(design, measure_foreign(design, model, Target()), 8)
    assert option.cost.lut == report.lut and option.engine(4).ii_cycles == 1
    assert (option.name, option.reuse_factor, option.clock_multiple) == ("tagger", 1, 8)


@pytest.mark.slow
def test_verify_runs_the_adder_graph_and_the_verilog(foreign: Foreign, tmp_path: Path) -> None:
    design = entered(foreign, tmp_path)
    verdict = steps.verify_of(design, None, foreign.events, rtl_events=50)
    assert {pair.name: (pair.events, pair.mismatches) for pair in verdict.pairs} == {
        "adder graph": (400, 0),
        "verilog": (50, 0),
    }


@pytest.mark.slow
def test_verify_finds_outputs_that_are_not_those_of_the_framework(foreign: Foreign, tmp_path: Path) -> None:
    design = entered(foreign, tmp_path)
    inputs, outputs = design.golden()
    outputs[7, 1] += 0.5
    np.savez_compressed(design.folder / "golden.npz", inputs=inputs, outputs=outputs)
    verdict = steps.verify_of(design, None, foreign.events, rtl_events=5)
    graph, verilog = verdict.pairs
    assert graph.mismatches == 1 and graph.first_difference is not None and not verdict.ok
    assert (graph.first_difference.event, graph.first_difference.element) == (7, 1)
    assert verilog.mismatches == 0


def test_synth_writes_both_languages_and_scripts(foreign: Foreign, tmp_path: Path) -> None:
    folder = steps.synth_of(entered(foreign, tmp_path), tmp_path / "out", CostConfig(), Target())
    assert (folder / "verilog" / "src" / "model.v").is_file()
    assert (folder / "vhdl" / "src" / "model.vhd").is_file()
    assert "xcvu13p-flga2577-2-e" in (folder / "vivado" / "run_vivado.tcl").read_text()


def test_what_the_worker_says_reaches_the_user(foreign: Foreign, tmp_path: Path) -> None:
    file = model_file(tmp_path)

    def read(**behaviour: object) -> ForeignDesign:
        return read_hgq2(file, foreign.events, INPUT, tmp_path / "design", python=foreign.interpreter(**behaviour))

    with pytest.raises(ModelError, match="has no layer of HGQ2") as refused:
        read(refused=["the model has no layer of HGQ2", "write it as ONNX"])
    assert "write it as ONNX" in str(refused.value)
    with pytest.raises(ToolError, match="Segmentation") as failed:
        read(fail="Segmentation fault in jax")
    assert "exit status 3" in str(failed.value)
    with pytest.raises(VerificationError, match="differ on 3 of 400 events") as differ:
        read(differ=3)
    assert "float32" in str(differ.value)
    assert not (tmp_path / "design").exists()


def test_an_interpreter_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="none is named") as caught:
        find_hgq2_python()
    assert PYTHON_VARIABLE in str(caught.value) and "hgq2==0.2.0" in str(caught.value)
    with pytest.raises(ConfigError, match="no interpreter"):
        find_hgq2_python(tmp_path / "nothing")
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    assert find_hgq2_python() == Path(sys.executable)


def test_the_worker_imports_nothing_of_this_package() -> None:
    tree = ast.parse(Path(hgq2_model.__file__).with_name("_hgq2_worker.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert outside == {"numpy", "keras", "hgq", "alkaid"}


def test_an_environment_without_hgq2_is_refused_with_the_remedy(foreign: Foreign, tmp_path: Path) -> None:
    """The real worker under this interpreter, which has alkaid but neither Keras nor HGQ2."""
    assert importlib.util.find_spec("hgq") is None
    with pytest.raises(ModelError, match="has no package hgq2") as caught:
        read_hgq2(model_file(tmp_path), foreign.events, INPUT, tmp_path / "design", python=Path(sys.executable))
    assert "alkaid==0.8.2" in str(caught.value)


_MAKE = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import sys
import keras, numpy as np
from hgq.config import QuantizerConfigScope
from hgq.layers import QDense
from hgq.utils import trace_minmax
keras.utils.set_random_seed(0)
with (QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM"),
      QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP", f0=4, i0=3),
      QuantizerConfigScope(place=("weight", "bias"), b0=4)):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, QDense(3)(QDense(6, activation="relu")(inputs)))
x = np.load(sys.argv[1])
trace_minmax(model, x, batch_size=len(x), verbose=False)
model.save(sys.argv[2])
np.save(sys.argv[3], model.predict(x, verbose=0))
inputs = keras.Input((5,))
keras.Model(inputs, keras.layers.Dense(3)(inputs)).save(sys.argv[4])
"""


@needs_hgq2
@pytest.mark.slow
def test_a_saved_hgq2_model_keeps_the_bits_of_keras(tmp_path: Path) -> None:
    fixed = FixedPoint(9, 3, True, "AP_RND", "AP_SAT")
    x = fixed.quantize(np.random.default_rng(3).normal(size=(2000, 5)) * 1.5).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    files = [tmp_path / name for name in ("x.npy", "m.keras", "expected.npy", "plain.keras")]
    subprocess.run([str(HGQ2), "-I", "-c", _MAKE, *map(str, files)], check=True, capture_output=True)
    design = read_hgq2(files[1], x, fixed, tmp_path / "design")
    expected = np.load(files[2]).astype(np.float64)
    np.testing.assert_array_equal(design.outputs(x), expected)
    assert np.ptp(expected, axis=0).min() > 1
    assert steps.verify_of(design, None, x, rtl_events=300).ok
    lut = steps.cost_of(design, CostConfig(), Target()).lut
    assert lut is not None and lut > 50
    with pytest.raises(ModelError, match="no layer of HGQ2"):
        read_hgq2(files[3], x, fixed, tmp_path / "none")
    # far outside the ranges that it has seen, the model wraps, and so does the adder graph
    wide = replace(fixed, width=12, integer=6)
    assert read_hgq2(files[1], x * 16, wide, tmp_path / "wide").differ == 0
    assert json.loads((tmp_path / "design" / "design.json").read_text())["differ"] == 0
