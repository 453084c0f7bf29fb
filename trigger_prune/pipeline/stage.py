"""A stage: a function from upstream results and declared config keys to a result, and how the result is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from trigger_prune.config.keys import is_declared
from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import ProjectConfig
from trigger_prune.pipeline.progress import Progress
from trigger_prune.pipeline.view import UndeclaredAccessError

T = TypeVar("T")


@dataclass(frozen=True)
class Upstream:
    """One finished stage as a later one sees it: folder of its files, seconds it took, loader of its result."""

    folder: Path
    seconds: float
    result: Callable[[], Any]


@dataclass(frozen=True)
class StageContext:
    """What ``compute`` gets.

    config        the declared keys of the project; any other access raises UndeclaredAccessError
    project_dir   folder of project.yaml
    scratch       an existing folder of this stage and key, for partial work that a later attempt can resume from; it
                  survives a kill and is deleted when the stage is done
    progress      live display
    """

    stage: str
    config: ProjectConfig
    project_dir: Path
    scratch: Path
    progress: Progress
    upstream: dict[str, Upstream]

    def result(self, stage: str) -> Any:
        """Result of an upstream stage, read from its files on first use."""
        return self._input(stage).result()

    def folder(self, stage: str) -> Path:
        """Folder with the files of an upstream stage. Read only: altered files are thrown away at the next run."""
        return self._input(stage).folder

    def seconds(self, stage: str) -> float:
        """Time an upstream stage took when it was computed, in seconds."""
        return self._input(stage).seconds

    def _input(self, stage: str) -> Upstream:
        if stage not in self.upstream:
            raise UndeclaredAccessError(
                f"stage {self.stage!r} reads the result of {stage!r}, which is not among its inputs "
                f"({', '.join(self.upstream) or 'none'})"
            )
        return self.upstream[stage]


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[T]):
    """One step of the pipeline.

    name, title   identifier, and the words shown to the user
    inputs        names of the stages whose results are read
    config_keys   dotted keys, or whole sections, that influence the result
    limit_keys    keys that the stage reads and that cannot change its result: time and memory limits of tools. They
                  are no part of its identity, so a limit raised after a failure loses no finished work
    tools         distributions whose versions are part of the result's identity (absent ones count as such)
    version       raised when the code of the stage changes its results
    compute       the work
    save, load    write a result into an empty folder, and read it back; what ``load`` gives is what later stages see,
                  in the run that computed it as in every other
    files         files whose content influences the result (events, the user's model source)
    publish       copies final files from the result's folder into the output folder, after computing and after
                  loading; returns what it wrote
    """

    name: str
    title: str
    compute: Callable[[StageContext], T]
    save: Callable[[T, Path], None]
    load: Callable[[Path], T]
    inputs: tuple[str, ...] = ()
    config_keys: tuple[str, ...] = ()
    limit_keys: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    version: int = 1
    files: Callable[[LoadedProject], list[Path]] | None = None
    publish: Callable[[Path, Path], list[Path]] | None = None


def check_stages(stages: Sequence[Stage[Any]]) -> None:
    """Raise ValueError unless names are unique, inputs come earlier, and config keys exist."""
    earlier: set[str] = set()
    for stage in stages:
        if stage.name in earlier or not stage.name.replace("_", "").isalnum():
            raise ValueError(f"stage name {stage.name!r} is used twice, or is not an identifier")
        unknown = [name for name in stage.inputs if name not in earlier]
        if unknown:
            raise ValueError(f"input {unknown[0]!r} of stage {stage.name!r} is no earlier stage")
        keys = [key for key in (*stage.config_keys, *stage.limit_keys) if not is_declared(key)]
        if keys:
            raise ValueError(f"config key {keys[0]!r} of stage {stage.name!r} does not exist in project.yaml")
        earlier.add(stage.name)
