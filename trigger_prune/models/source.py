"""Which Python files define a model: the pipeline hashes them, so that an edited model is trained again.

Reads source text only; neither torch nor the user's code is imported.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from trigger_prune.config.project import ModelConfig
from trigger_prune.errors import ModelError


def split_import_path(name: str) -> tuple[str, str]:
    """``package.module:Callable`` as ``(package.module, Callable)``. Raises ModelError for anything else."""
    module, _, attribute = name.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ModelError(
            f"model name {name!r} is neither a reference model nor an import path",
            hint="write package.module:Callable, e.g. model:Tagger for class Tagger in model.py beside project.yaml",
        )
    return module, attribute


def module_files(module: str, folder: Path) -> list[Path]:
    """Files under ``folder`` that ``import module`` reads: the packages' ``__init__.py`` and the module itself."""
    files: list[Path] = []
    place = folder
    for part in module.split("."):
        place = place / part
        files += [path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()][:1]
    return files


def model_source_files(config: ModelConfig, project_dir: Path | None) -> list[Path]:
    """Source files of the model, sorted: a reference model's own, or the user's with all it imports from its folder.

    An installed module (not under ``project_dir``) gives its one file. Raises ModelError when nothing is found or a
    file is not valid Python.
    """
    if ":" not in config.name:
        here = Path(__file__).parent
        own = here / f"{config.name}.py"
        return [here / "_blocks.py", own] if own.is_file() else []
    module, _ = split_import_path(config.name)
    local = [] if project_dir is None else module_files(module, project_dir)
    if project_dir is not None and local:
        return sorted(_with_imports(local, project_dir.resolve()))
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise ModelError(
            f"model {config.name!r}: no module {module!r}",
            hint=f"looked in {project_dir} and among the installed packages",
        )
    return [Path(spec.origin)]


def _with_imports(files: list[Path], folder: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = [path.resolve() for path in files]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            for module in _imported_modules(path, folder):
                waiting += [file.resolve() for file in module_files(module, folder)]
    return found


def _imported_modules(path: Path, folder: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise ModelError(f"{path}, line {error.lineno}: {error.msg}") from None
    package = path.parent.relative_to(folder).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # one dot is the file's own package, each further dot one package up
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names if alias.name != "*")
