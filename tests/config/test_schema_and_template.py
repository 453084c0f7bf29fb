"""The schema and the template are written from the models: nothing is missing, and what they say is true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from trigger_prune.config.keys import key_blocks, keys_by_name
from trigger_prune.config.load import load_project
from trigger_prune.config.project import ProjectConfig
from trigger_prune.config.schema import schema_json, schema_markdown
from trigger_prune.config.template import init_project, project_template
from trigger_prune.errors import ConfigError


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= leaves(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def test_every_key_of_the_models_is_listed_and_described() -> None:
    fields = leaves(ProjectConfig)
    assert list(keys_by_name()) == [*(k for k in fields if "." not in k), *(k for k in fields if "." in k)]
    undocumented = [name for name, key in keys_by_name().items() if len(key.description) < 8]
    assert undocumented == []
    assert all(block.description for block in key_blocks())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.epochs", "whole number >= 1"),
        ("split.train_fraction", "number >= 0 and <= 1"),
        ("budget.latency_ns", "number > 0 or null"),
        ("data.features", "text or list of text or null"),
        ("sensitivity.sparsities", "list of numbers >= 0 and <= 1"),
        ("target.strategy", "one of Latency, Resource, Resource_Unrolled, distributed_arithmetic"),
        ("prune.drop_redundant_inputs", "true or false"),
        ("model.args", "mapping"),
    ],
)
def test_allowed_values_in_words(name: str, expected: str) -> None:
    assert keys_by_name()[name].expected == expected


def test_markdown_has_one_row_per_key_with_its_default() -> None:
    text = schema_markdown()
    rows = re.findall(r"^\| `([\w.]+)` \|.*?\| `(.*?)` \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(keys_by_name())
    defaults = {name: yaml.safe_load(shown) for name, shown in rows if shown != "(required)"}
    assert defaults == {name: key.default for name, key in keys_by_name().items() if not key.required}
    assert all(line.count("|") - line.count("\\|") == 6 for line in text.splitlines() if line.startswith("| `"))


def test_json_schema_is_that_of_the_models() -> None:
    assert json.loads(schema_json()) == ProjectConfig.model_json_schema()


@pytest.mark.parametrize("name", ["my_trigger", "jets 2024: toy", "yes", "12", "null", 'a"b', "naïve"])
def test_a_new_project_has_the_default_values(tmp_path: Path, name: str) -> None:
    files = init_project(tmp_path / name)
    assert [file.name for file in files] == ["project.yaml", "README.md"]
    assert load_project(tmp_path / name).config == ProjectConfig(project=name)


def test_the_template_names_every_key_also_the_unset_ones(tmp_path: Path) -> None:
    # Without the comment signs of the unset keys, the same project is read.
    text = re.sub(r"^(\s*)# (\w+: null)$", r"\1\2", project_template("p"), flags=re.MULTILINE)
    (tmp_path / "project.yaml").write_text(text)
    assert load_project(tmp_path).config == ProjectConfig(project="p")
    values = yaml.safe_load(text)
    named = {f"{s}.{k}" for s, v in values.items() if isinstance(v, dict) for k in v}
    named |= {name for name, value in values.items() if not isinstance(value, dict)}
    assert named == set(keys_by_name())
    words = " ".join(text.replace("#", " ").split())
    assert all(" ".join(key.description.split()) in words for key in keys_by_name().values())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"README\.md exists already"):
        init_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"
