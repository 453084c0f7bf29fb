import sys
from pathlib import Path

import pytest

from trigger_prune.config.project import ModelConfig
from trigger_prune.errors import ModelError
from trigger_prune.models.source import model_source_files


def sources(name: str, folder: Path | None) -> list[str]:
    files = model_source_files(ModelConfig(name=name), folder)
    return [str(path.relative_to(folder)) if folder else path.name for path in files]


def test_follows_imports_inside_the_project_only(tmp_path: Path) -> None:
    (tmp_path / "nets" / "deep").mkdir(parents=True)
    for name, text in {
        "nets/__init__.py": "",
        "nets/tagger.py": "import torch\nfrom .blocks import Block\nfrom . import sizes\nimport layers\n",
        "nets/blocks.py": "def f():\n    from .deep.one import a\n",
        "nets/sizes.py": "from .tagger import Tagger\n",  # a cycle
        "nets/deep/__init__.py": "",
        "nets/deep/one.py": "from ..far import b\n",
        "nets/far.py": "",
        "layers.py": "import json\n",
        "unrelated.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    before = set(sys.modules)
    assert sources("nets.tagger:Tagger", tmp_path) == [
        "layers.py",
        "nets/__init__.py",
        "nets/blocks.py",
        "nets/deep/__init__.py",
        "nets/deep/one.py",
        "nets/far.py",
        "nets/sizes.py",
        "nets/tagger.py",
    ]
    assert not {"layers", "nets"} & (set(sys.modules) - before)


def test_reference_and_installed_models() -> None:
    assert "mlp.py" in sources("mlp", None)
    assert sources("json.decoder:JSONDecoder", None) == ["decoder.py"]


def test_missing_and_broken_modules_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no module 'absent_module'"):
        sources("absent_module:Net", tmp_path)
    (tmp_path / "model.py").write_text("x = 1\ndef (:\n")
    with pytest.raises(ModelError, match=r"model\.py, line 2"):
        sources("model:Net", tmp_path)
