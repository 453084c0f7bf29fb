from __future__ import annotations

import copy
import filecmp
import re
import sys
from pathlib import Path

import hls4ml
import numpy as np
import pytest
import torch
from torch import fx

from trigger_prune.errors import ExportError
from trigger_prune.export import hls4ml_project
from trigger_prune.export.hls4ml_project import project_identifier, project_inputs, write_hls4ml_project
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import Target

TARGET = Target(part="xcvu9p-flga2104-2L-e", clock_period_ns=2.5)


def _types(project: Path) -> dict[str, FixedPoint]:
    text = (project / "firmware" / "defines.h").read_text()
    found = re.findall(r"typedef (ap_u?fixed<[^>]*>) (\w+);", text)
    return {name: FixedPoint.parse(kind) for kind, name in found}


def _layer_blocks(project: Path) -> list[str]:
    return re.findall(r"struct \w+ : nnet::\w+ \{.*?\n\};", (project / "firmware" / "parameters.h").read_text(), re.S)


def _files(project: Path) -> list[Path]:
    return sorted(path.relative_to(project) for path in project.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def projects(
    mlp: fx.GraphModule, deep_sets: fx.GraphModule, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hls4ml_projects")
    return {
        "mlp": write_hls4ml_project(mlp, folder / "mlp", TARGET, "tagger"),
        "deep_sets": write_hls4ml_project(deep_sets, folder / "deep_sets", TARGET, "tagger"),
    }


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_types_of_the_firmware_are_those_of_the_network(
    name: str, projects: dict[str, Path], request: pytest.FixtureRequest
) -> None:
    spec = describe_network(request.getfixturevalue(name))
    types = _types(projects[name])
    # the input is on its grid already: only width, binary point and sign matter
    found = types["input_t"]
    assert (found.width, found.integer, found.signed) == (
        spec.input_type.width,
        spec.input_type.integer,
        spec.input_type.signed,
    )
    assert [fixed for key, fixed in types.items() if key.startswith("weight")] == [
        layer.weight_type for layer in spec.layers
    ]
    assert [fixed for key, fixed in types.items() if key.startswith("bias")] == [
        layer.bias_type for layer in spec.layers if layer.name != "mean"
    ]
    assert [fixed for key, fixed in types.items() if re.fullmatch(r"layer\d+_t", key)] == [
        layer.output_type for layer in spec.layers if layer.output_type is not None
    ]


def test_accumulators_hold_every_sum(projects: dict[str, Path], mlp: fx.GraphModule) -> None:
    accumulators = [fixed for key, fixed in _types(projects["mlp"]).items() if key.endswith("accum_t")]
    for layer, fixed in zip(describe_network(mlp).layers, accumulators, strict=True):
        fraction = layer.input_type.fraction + layer.weight_type.fraction
        assert fixed.fraction >= max(fraction, layer.bias_type.fraction)
        assert fixed.max_value >= layer.accumulator_bound * 2.0 ** -max(fraction, layer.bias_type.fraction)


def test_layout_lands_on_weight_layers_only(mlp: fx.GraphModule, tmp_path: Path) -> None:
    target = Target(strategy="Resource", reuse_factor=5)
    network = copy.deepcopy(mlp)
    with pytest.raises(ExportError, match="reuse factor 5 of layer 'dense2'") as caught:
        write_hls4ml_project(network, tmp_path / "p", target, "tagger")
    assert "1, 2, 4, 8, 16, 32" in str(caught.value)
    project = write_hls4ml_project(network, tmp_path / "p", Target(strategy="Latency", reuse_factor=5), "tagger")
    for block in _layer_blocks(project):
        weighted = "nnet::dense_config" in block
        assert f"reuse_factor = {5 if weighted else 1};" in block
        assert ("strategy = nnet::latency" in block) == weighted
    resource = write_hls4ml_project(network, tmp_path / "r", Target(strategy="Resource"), "tagger")
    weighted_blocks = [block for block in _layer_blocks(resource) if "dense_config" in block]
    assert len(weighted_blocks) == 3
    assert all("strategy = nnet::resource" in block for block in weighted_blocks)


def test_unknown_strategy_is_not_replaced(mlp: fx.GraphModule, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"strategy 'fastest': it is not known"):
        write_hls4ml_project(mlp, tmp_path / "p", Target(strategy="Fastest"), "tagger")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backend", ["Vitis", "Vivado"])
def test_part_clock_and_interface(mlp: fx.GraphModule, tmp_path: Path, backend: str) -> None:
    target = Target(part="xcvu9p-flga2104-2L-e", clock_period_ns=2.5, io_type="io_stream")
    project = write_hls4ml_project(mlp, tmp_path / "p", target, "tagger", backend=backend)
    settings = (project / "project.tcl").read_text()
    assert 'set part "xcvu9p-flga2104-2L-e"' in settings
    assert "set clock_period 2.5\n" in settings
    assert f'set backend "{backend.lower()}"' in settings
    assert 'set project_name "tagger"' in settings
    assert "hls::stream<input_t> &global_in" in (project / "firmware" / "tagger.cpp").read_text()


def test_an_existing_folder_is_left_alone(mlp: fx.GraphModule, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "mine.txt").write_text("keep")
    with pytest.raises(ExportError, match="exists already"):
        write_hls4ml_project(mlp, tmp_path / "p", TARGET, "tagger")
    assert _files(tmp_path) == [Path("p/mine.txt")]


@pytest.mark.parametrize("name", ["2fast", "my-tagger", "", "größe", "double", "tagger\n", "a b"])
def test_names_that_are_no_cpp_identifier_are_refused(mlp: fx.GraphModule, tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=r"cannot name a C\+\+ function"):
        write_hls4ml_project(mlp, tmp_path / "p", TARGET, name)


def test_what_hls4ml_refuses_is_quoted_and_leaves_nothing(
    mlp: fx.GraphModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hls4ml_project, "hls4ml_type", lambda fixed: "fixed<eight>")
    with pytest.raises(ExportError, match=r"hls4ml cannot convert the network: \w+: "):
        write_hls4ml_project(mlp, tmp_path / "p", TARGET, "tagger")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_is_not_blamed_on_hls4ml(
    mlp: fx.GraphModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(project: Path, stamp: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hls4ml_project, "_tidy", no_space)
    with pytest.raises(ExportError, match=r"cannot be written.*No space left"):
        write_hls4ml_project(mlp, tmp_path / "p", TARGET, "tagger")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_two_exports_are_the_same_bytes(
    name: str, projects: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    again = write_hls4ml_project(request.getfixturevalue(name), tmp_path / "elsewhere" / "p", TARGET, "tagger")
    files = _files(again)
    assert files == _files(projects[name])
    assert filecmp.cmpfiles(again, projects[name], files, shallow=False)[1:] == ([], [])


def test_the_stamp_follows_the_weights(mlp: fx.GraphModule, projects: dict[str, Path], tmp_path: Path) -> None:
    other = copy.deepcopy(mlp)
    with torch.no_grad():
        other.get_submodule("head").bias += 1.0
    project = write_hls4ml_project(other, tmp_path / "p", TARGET, "tagger")
    stamps = [
        re.search(r"LIB_STAMP=(\w{8})\n", (p / "build_lib.sh").read_text())[1] for p in (project, projects["mlp"])
    ]
    assert stamps[0] != stamps[1]


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_no_path_of_this_machine_is_in_the_project(name: str, projects: dict[str, Path]) -> None:
    project = projects[name]
    for forbidden in {str(project.parent), str(Path.home()), sys.prefix, str(Path(hls4ml.__file__).parent)} - {"/"}:
        for path in _files(project):
            assert forbidden.encode() not in (project / path).read_bytes(), (path, forbidden)


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_hls4ml_itself_reads_the_project(name: str, projects: dict[str, Path]) -> None:
    model = hls4ml.converters.link_existing_project(str(projects[name]))
    [inputs], [outputs] = model.get_input_variables(), model.get_output_variables()
    assert inputs.size() == (5 if name == "mlp" else 12)
    assert outputs.size() == (3 if name == "mlp" else 2)
    config = (projects[name] / "hls4ml_config.yml").read_text()
    assert "!!python" not in config
    assert not re.search(r"[\s'\"]/\w", config)


def test_inputs_are_reordered_for_channels_last_projects() -> None:
    features = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    last = project_inputs(features, last=True)
    assert last.shape == (2, 4, 5, 3)
    assert last.flags["C_CONTIGUOUS"]
    assert last[1, 2, 3, 0] == features[1, 0, 2, 3]
    assert project_inputs(features, last=False) is features


@pytest.mark.parametrize(
    ("project", "identifier"),
    [
        ("jet_tagger", "jet_tagger"),
        ("small trigger", "small_trigger"),
        ("2024 b-jets", "trigger_2024_b_jets"),
        ("class", "trigger_class"),
        ("étage", "trigger__tage"),
    ],
)
def test_every_project_name_gives_a_function_name(project: str, identifier: str) -> None:
    assert project_identifier(project) == identifier
