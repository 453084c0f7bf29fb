"""The events of an entered model: any file that the readers open, or a shipped sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.config.project import DataConfig
from trigger_prune.data.load import load_sample
from trigger_prune.data.readers._base import ColumnFile, open_events
from trigger_prune.data.transform import InputTransform
from trigger_prune.errors import ConfigError, DataError

_BUILTIN = "builtin:"
_FEATURES = "features"


def read_features(where: str, max_events: int | None = None) -> NDArray[np.float32]:
    """Features ``(events, ...)`` of a file or a shipped sample (``builtin:NAME``); labels are not needed.

    In npz and HDF5 files they are the array ``features``, or the only one; in tables every numeric column. Raises
    ConfigError and DataError as the readers do, DataError for values that are not finite.
    """
    if where.startswith(_BUILTIN):
        return load_sample(DataConfig(path=where), Path()).features[:max_events]
    with open_events(Path(where).expanduser()) as file:
        if isinstance(file, ColumnFile):
            found = np.stack([file.read(key, max_events) for key in file.numeric_keys()], axis=1)
        else:
            keys = file.keys()
            key = _FEATURES if _FEATURES in keys else keys[0] if len(keys) == 1 else None
            if key is None:
                raise DataError(
                    f"{where}: there is no array {_FEATURES!r} among {', '.join(keys)}", hint="name the inputs so"
                )
            found = file.read(key, max_events)
    features = np.asarray(found, np.float32)
    if features.ndim < 2 or not len(features) or not np.isfinite(features).all():
        raise DataError(f"{where}: features of shape {features.shape} are empty, no rows of numbers, or not finite")
    return features


def read_transform(path: Path) -> InputTransform:
    """The ``input_transform.json`` that an export wrote. Raises ConfigError."""
    try:
        return InputTransform.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise ConfigError(
            f"{path} is no input transform: {error}", hint="export writes input_transform.json"
        ) from error
