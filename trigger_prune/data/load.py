"""``data:`` of project.yaml -> ``EventSample``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trigger_prune.config.project import DataConfig
from trigger_prune.data.assemble import assemble_sample
from trigger_prune.data.builtin_events import builtin_files, load_builtin
from trigger_prune.data.readers._base import open_events
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError

_BUILTIN = "builtin:"

_FILE_ONLY_KEYS = ("features", "label", "label_expression", "weight", "group", "tree")


def load_sample(config: DataConfig, project_dir: Path) -> EventSample:
    """The events that ``config`` names; a relative path starts at ``project_dir``.

    Raises ConfigError for a wrong key, a missing file, an unknown suffix or sample name, DataError for everything
    that is wrong with the events themselves (see ``assemble_sample``).
    """
    if config.path.startswith(_BUILTIN):
        return _load_builtin(config)
    with open_events(_path(config, project_dir), config.tree) as file:
        return assemble_sample(file, config)


def source_files(config: DataConfig, project_dir: Path) -> list[Path]:
    """The files whose content decides what ``load_sample`` returns, in a fixed order.

    Raises ConfigError when the sample name is unknown or the file is missing.
    """
    if config.path.startswith(_BUILTIN):
        return builtin_files(config.path.removeprefix(_BUILTIN))
    path = _path(config, project_dir)
    if not path.is_file():
        raise ConfigError(
            f"data.path: there is no file {path}", hint="a relative path starts at the folder of project.yaml"
        )
    return [path]


def _path(config: DataConfig, project_dir: Path) -> Path:
    return project_dir / Path(config.path).expanduser()


def _load_builtin(config: DataConfig) -> EventSample:
    given = [key for key in _FILE_ONLY_KEYS if getattr(config, key) is not None]
    if given:
        raise ConfigError(
            f"data.{given[0]}: {config.path} has fixed columns, this key is for event files", hint=f"remove {given[0]}"
        )
    sample = load_builtin(config.path.removeprefix(_BUILTIN), config.max_events)
    return replace(
        sample,
        feature_names=_renamed("feature_names", config.feature_names, sample.feature_names, config.path),
        class_names=_renamed("class_names", config.class_names, sample.class_names, config.path),
    )


def _renamed(key: str, wanted: list[str] | None, current: tuple[str, ...], path: str) -> tuple[str, ...]:
    if wanted is None:
        return current
    if len(wanted) != len(current):
        raise ConfigError(f"data.{key}: {len(wanted)} names, but {path} has {len(current)}")
    return tuple(wanted)
