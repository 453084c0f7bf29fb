import sys
from pathlib import Path

import pytest
import torch

from trigger_prune.config.project import ModelConfig
from trigger_prune.errors import ModelError
from trigger_prune.models.build import REFERENCE_MODELS, build_model

TAGGER = """
from torch import nn
from helper import WIDTH

class Tagger(nn.Module):
    def __init__(self, input_shape, n_outputs, scale=1.0):
        super().__init__()
        self.dense = nn.Linear(input_shape[0], WIDTH)
        self.head = nn.Linear(WIDTH, n_outputs)
        self.scale = scale
    def forward(self, x):
        return self.head(self.dense(x)) * self.scale
"""


def project(folder: Path, width: int) -> Path:
    folder.mkdir()
    (folder / "model.py").write_text(TAGGER)
    (folder / "helper.py").write_text(f"WIDTH = {width}\n")
    return folder


@pytest.mark.parametrize("name", REFERENCE_MODELS)
def test_every_reference_model_is_built_by_name(name: str) -> None:
    shape = {"conv1d": (3, 16), "deep_sets": (3, 8), "conv2d": (1, 8, 8)}.get(name, (16,))
    model = build_model(ModelConfig(name=name), shape, 16)
    assert type(model) is REFERENCE_MODELS[name]
    assert model.training


def test_same_random_state_gives_the_same_network() -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(build_model(ModelConfig(args={"hidden": [7]}), (4,), 2))
    assert models[0].dense1.out_features == 7
    assert torch.equal(models[0].dense1.weight, models[1].dense1.weight)


def test_two_projects_with_equal_file_names_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path, modules = list(sys.path), set(sys.modules)
    config = ModelConfig(name="model:Tagger", args={"scale": 2.0})
    first, second = project(tmp_path / "a", 3), project(tmp_path / "b", 9)
    widths = [build_model(config, (4,), 2, folder).dense.out_features for folder in (first, second, first)]
    assert widths == [3, 9, 3]
    (first / "helper.py").write_text("WIDTH = 5\n")
    assert build_model(config, (4,), 2, first).dense.out_features == 5
    assert sys.path == path
    assert not sys.dont_write_bytecode
    assert not {"model", "helper"} & (set(sys.modules) - modules)
    assert not list(tmp_path.rglob("__pycache__"))


def test_project_folder_hides_a_module_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = object()
    monkeypatch.setitem(sys.modules, "model", other)
    assert build_model(ModelConfig(name="model:Tagger"), (4,), 2, project(tmp_path / "a", 3)).dense.out_features == 3
    assert sys.modules["model"] is other


def test_package_with_relative_import(tmp_path: Path) -> None:
    nets = tmp_path / "nets"
    project(nets, 6)
    (nets / "__init__.py").write_text("")
    (nets / "model.py").write_text(TAGGER.replace("from helper", "from .helper"))
    model = build_model(ModelConfig(name="nets.model:Tagger"), (4,), 2, tmp_path)
    assert model.dense.out_features == 6


def test_installed_callable_without_project_folder() -> None:
    config = ModelConfig(name="torch.nn:Linear", args={"in_features": 4, "out_features": 3})
    assert build_model(config, (4,), 3).weight.shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("mpl", {}, "unknown reference model 'mpl'; did you mean 'mlp'"),
        ("mlp", {"hiden": [3]}, "no argument 'hiden'; did you mean 'hidden'"),
        ("model:Taggr", {}, "has no 'Taggr'; did you mean 'Tagger'"),
        ("model:WIDTH", {}, "cannot be called as 'WIDTH'"),
        ("nomodel:Tagger", {}, "importing nomodel failed: ModuleNotFoundError"),
        ("broken:Tagger", {}, "importing broken failed: ZeroDivisionError"),
        ("model:needs_depth", {}, "needs the argument 'depth'"),
        ("model:raises", {}, "cannot be built: KeyError: 'width'"),
        ("model:gives_dict", {}, "gave a dict, not a torch.nn.Module"),
        ("model:wrong_inputs", {}, r"fails on an input of shape \(2, 4\): RuntimeError"),
        ("model:wrong_outputs", {}, r"maps \(2, 4\) to \(2, 7\), expected \(2, 2\)"),
        ("model:Tagger:x", {}, "neither a reference model nor an import path"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, args: dict[str, object], words: str) -> None:
    folder = project(tmp_path / "p", 3)
    with (folder / "model.py").open("a") as file:
        file.write(
            "def needs_depth(depth): ...\n"
            "def raises(): return {}['width']\n"
            "def gives_dict(): return {}\n"
            "def wrong_inputs(): return nn.Linear(5, 2)\n"
            "def wrong_outputs(): return nn.Linear(4, 7)\n"
        )
    (folder / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ModelError, match=words):
        build_model(ModelConfig(name=name, args=args), (4,), 2, folder)
