"""``data:`` of project.yaml -> ``EventSample``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from trigger_prune.config.project import DataConfig, LuminosityConfig
from trigger_prune.data.assemble import assemble_sample
from trigger_prune.data.builtin_events import BUILTIN_LEVEL1, builtin_files, load_builtin
from trigger_prune.data.level1.load import load_level1
from trigger_prune.data.level1.load import source_files as level1_files
from trigger_prune.data.readers._base import open_events
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import filling_from
from trigger_prune.physics.luminosity import LuminosityScenario

_BUILTIN = "builtin:"

_FILE_ONLY_KEYS = ("features", "label", "label_expression", "weight", "group", "tree", "observables")
_LEVEL1_ONLY_KEYS = ("signals",)


def load_sample(config: DataConfig, project_dir: Path, luminosity: LuminosityConfig | None = None) -> EventSample:
    """The events that ``config`` names; a relative path starts at ``project_dir``.

    ``luminosity`` (default: the section's defaults) sets the rate of bunch crossings, where weights mean rates.
    Raises ConfigError for a wrong key, a missing file, an unknown suffix or sample name, DataError for everything
    that is wrong with the events themselves (see ``assemble_sample`` and ``load_level1``).
    """
    luminosity = luminosity or LuminosityConfig()
    folder = _level1_folder(config, project_dir)
    if folder is not None:
        _refuse(config, _FILE_ONLY_KEYS, "level-1 events have fixed columns, this key is for event files")
        scenario = LuminosityScenario(luminosity.pileup, filling_from(luminosity.filling, project_dir))
        sample = load_level1(
            folder, signals=config.signals, inputs=config.inputs, scenario=scenario, max_events=config.max_events
        )
        return _named(replace(sample, source=config.path), config)
    _refuse(config, _LEVEL1_ONLY_KEYS, f"{config.path} is no folder of level-1 events")
    if config.path.startswith(_BUILTIN):
        _refuse(config, _FILE_ONLY_KEYS, f"{config.path} has fixed columns, this key is for event files")
        sample = _named(load_builtin(config.path.removeprefix(_BUILTIN), config.max_events), config)
    else:
        with open_events(_path(config, project_dir), config.tree) as file:
            sample = assemble_sample(file, config)
    if config.weight_unit == "relative":
        return sample
    return with_rates(sample, config.weight_unit == "hz", filling_from(luminosity.filling, project_dir).crossings_hz)


def with_rates(sample: EventSample, are_hz: bool, crossings_hz: float) -> EventSample:
    """The sample with weights that are rates in Hz: as they are, or scaled so that class 0 has ``crossings_hz``.

    Class 0 is the background. Signal weights stay relative. Every class becomes a stratum.
    Raises DataError when class 0 has no weight.
    """
    weights = sample.weights
    if not are_hz:
        background = sample.labels == 0
        total = float(weights[background].sum())
        if not total > 0:
            raise DataError(f"{sample.source}: the background class {sample.class_names[0]} has no weight")
        weights = np.where(background, weights * (crossings_hz / total), weights)
    return replace(sample, weights=weights, strata=sample.labels, rate_weights=True)


def source_files(config: DataConfig, project_dir: Path, luminosity: LuminosityConfig | None = None) -> list[Path]:
    """The files whose content decides what ``load_sample`` returns, in a fixed order.

    Raises ConfigError when the sample name is unknown or the file is missing.
    """
    mask = project_dir / str(luminosity.filling) if luminosity is not None else None
    masks = [mask] if mask is not None and mask.is_file() else []
    folder = _level1_folder(config, project_dir)
    if folder is not None:
        return [*level1_files(folder, config.signals), *masks]
    if config.path.startswith(_BUILTIN):
        return [*builtin_files(config.path.removeprefix(_BUILTIN)), *masks]
    path = _path(config, project_dir)
    if not path.is_file():
        raise ConfigError(
            f"data.path: there is no file {path}", hint="a relative path starts at the folder of project.yaml"
        )
    return [path, *masks]


def _level1_folder(config: DataConfig, project_dir: Path) -> Path | None:
    """The folder of level-1 events that ``config`` names, or None when it names another kind of events."""
    if config.path.startswith(_BUILTIN):
        return BUILTIN_LEVEL1.get(config.path.removeprefix(_BUILTIN))
    path = _path(config, project_dir)
    return path if path.is_dir() else None


def _refuse(config: DataConfig, keys: tuple[str, ...], why: str) -> None:
    given = [key for key in keys if getattr(config, key) is not None]
    if given:
        raise ConfigError(f"data.{given[0]}: {why}", hint=f"remove {given[0]}")


def _path(config: DataConfig, project_dir: Path) -> Path:
    return project_dir / Path(config.path).expanduser()


def _named(sample: EventSample, config: DataConfig) -> EventSample:
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
