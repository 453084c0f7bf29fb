"""From project.yaml and ``--set`` to a checked ``ProjectConfig``; every problem is reported, not only the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.config.draft import Draft, read_draft
from trigger_prune.config.project import ProjectConfig
from trigger_prune.errors import ConfigError

FILE_NAME = "project.yaml"


@dataclass(frozen=True)
class LoadedProject:
    """A checked project: its values, its folder (relative paths start there) and its file."""

    config: ProjectConfig
    project_dir: Path
    file: Path


def find_project_file(path: Path) -> Path:
    """The project file at ``path``, a folder or the file itself. Raises ConfigError when there is none."""
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        missing = f"{path} has no {FILE_NAME}" if path.is_dir() else f"{path} does not exist"
        raise ConfigError(missing, hint=f"`trigger-prune init {path.name or 'NAME'}` writes a new project")
    return file.resolve()


def load_project(path: Path, overrides: Sequence[str] = (), seed: int | None = None) -> LoadedProject:
    """Read and check a project.

    path        folder with project.yaml, or the file itself
    overrides   ``key=value`` as after ``--set``; the value is YAML, the last one of a key wins; a relative
                ``data.path`` starts at the current directory, as a user at the shell expects
    seed        as after ``--seed``; the same as the override ``seed=N``

    Raises ConfigError that names file and line (or the override) of every problem.
    """
    file = find_project_file(path)
    draft = read_draft(file, overrides, seed)
    config = draft.validate()
    if config is None:
        raise problems_error(draft)
    return LoadedProject(config, file.parent, file)


def problems_error(draft: Draft) -> ConfigError:
    """All problems of a draft as one error."""
    lines = draft.problems
    heading = "" if len(lines) == 1 else f"{len(lines)} problems in the project\n  "
    return ConfigError(heading + "\n  ".join(lines), hint="`trigger-prune schema` lists every key")
