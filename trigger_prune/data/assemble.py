"""Arrays or columns of an event file, by their roles, into an ``EventSample``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.config.project import DataConfig
from trigger_prune.data.label_expression import LabelExpression, parse_label_expression
from trigger_prune.data.labels import Labels, labels_from_array, labels_from_expressions
from trigger_prune.data.readers._base import ColumnFile, EventFile, missing_key
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError, DataError

_DEFAULT_FEATURES = "x"
_DEFAULT_LABELS = ("y", "label")


def assemble_sample(file: EventFile, config: DataConfig) -> EventSample:
    """Read features, labels, weights and groups of ``file`` as ``config`` names them.

    Raises ConfigError for keys that contradict each other or a wrong label expression, DataError for missing columns,
    wrong shapes, NaN or infinity, unknown labels, empty classes.
    """
    expressions = _label_expressions(config)
    label_key = None if expressions else _label_key(file, config)
    weight_key = _optional_key(file, config.weight, "weight")
    group_key = _optional_key(file, config.group, "group")
    label_columns = [label_key] if label_key else _columns_of(expressions)
    observables = config.observables or []
    for key in observables:
        _require(file, key, "data.observables")
    roles = [key for key in (*label_columns, weight_key, group_key, *observables) if key is not None]
    feature_keys = _feature_keys(file, config, roles)
    if label_key in feature_keys:
        raise ConfigError(f"data.features: {label_key!r} is the label", hint="a network must not see its own answer")
    n_rows = _common_length(file, [*feature_keys, *roles])
    stop = min(n_rows, config.max_events or n_rows)
    if stop == 0:
        raise DataError(f"{file.path}: no events")
    if label_key is None:
        labels, class_names = _labels_by_expression(file, config, expressions, stop)
    else:
        labels, class_names = _labels(file, config, label_key, stop)
    features = _read_features(file, config, feature_keys, stop)
    return EventSample(
        features,
        labels,
        _read_weights(file, weight_key, stop),
        _read_groups(file, group_key, stop),
        _feature_names(file, config, feature_keys, features.shape[1]),
        class_names,
        config.path,
        {key: _one_number_per_event(file, key, "observable", stop).astype(np.float64) for key in observables},
    )


def _label_key(file: EventFile, config: DataConfig) -> str:
    if config.label is not None:
        _require(file, config.label, "data.label")
        return config.label
    known = file.keys()
    for key in _DEFAULT_LABELS:
        if key in known:
            return key
    raise missing_key(file.path, _DEFAULT_LABELS[0], known, "label array", "; name the labels with data.label")


def _require(file: EventFile, key: str, config_key: str) -> None:
    known = file.keys()
    if key not in known:
        kind = "column" if isinstance(file, ColumnFile) else "array"
        raise missing_key(file.path, key, known, kind, f"; correct {config_key}")


def _optional_key(file: EventFile, wanted: str | None, default: str) -> str | None:
    if wanted is not None:
        _require(file, wanted, f"data.{default}")
        return wanted
    known = file.keys()
    return default if default in known else None


def _feature_keys(file: EventFile, config: DataConfig, roles: Sequence[str]) -> list[str]:
    if isinstance(config.features, str):
        _require(file, config.features, "data.features")
        return [config.features]
    if config.features is not None:
        if not config.features:
            raise ConfigError("data.features: the list is empty")
        for key in config.features:
            _require(file, key, "data.features")
        return list(config.features)
    if isinstance(file, ColumnFile):
        keys = [key for key in file.numeric_keys() if key not in roles]
        if not keys:
            raise DataError(f"{file.path}: no numeric column is left for the features")
        return keys
    known = file.keys()
    if _DEFAULT_FEATURES not in known:
        raise missing_key(
            file.path, _DEFAULT_FEATURES, known, "feature array", "; name the features with data.features"
        )
    return [_DEFAULT_FEATURES]


def _one_array_holds_all(file: EventFile, config: DataConfig) -> bool:
    """Whether the features are one array, and not a list of columns."""
    return isinstance(config.features, str) or (config.features is None and not isinstance(file, ColumnFile))


def _common_length(file: EventFile, keys: Sequence[str]) -> int:
    first = keys[0]
    n = file.n_rows(first)
    for key in keys[1:]:
        if file.n_rows(key) != n:
            raise DataError(
                f"{file.path}: {first!r} has {n} rows, but {key!r} has {file.n_rows(key)}",
                hint="every array needs one row per event",
            )
    return n


def _labels(file: EventFile, config: DataConfig, key: str, stop: int) -> Labels:
    names = config.class_names if config.class_names is not None else _names_in_file(file, config, "classes", key)
    # All rows are read, so that the class numbers do not depend on max_events.
    raw = _read_rows(file, key, file.n_rows(key))
    labels, class_names = labels_from_array(raw, names, f"{file.path}: label {key!r}")
    return labels[:stop], class_names


def _label_expressions(config: DataConfig) -> dict[str, LabelExpression]:
    """Parsed expressions in class order; empty when labels are read from a column."""
    if config.label_expression is None:
        return {}
    if not config.label_expression:
        raise ConfigError("data.label_expression: no class is given")
    order = list(config.label_expression) if config.class_names is None else config.class_names
    if sorted(order) != sorted(config.label_expression):
        raise ConfigError(
            f"data.class_names ({', '.join(order)}) are not the classes of data.label_expression "
            f"({', '.join(config.label_expression)})",
            hint="remove data.class_names",
        )
    # The first true expression wins in the order of label_expression, so class_names may not reorder them.
    if order != list(config.label_expression):
        raise ConfigError(
            "data.class_names are in another order than data.label_expression", hint="remove data.class_names"
        )
    return {name: parse_label_expression(text) for name, text in config.label_expression.items()}


def _columns_of(expressions: dict[str, LabelExpression]) -> list[str]:
    return list(dict.fromkeys(key for expression in expressions.values() for key in expression.columns))


def _labels_by_expression(
    file: EventFile, config: DataConfig, expressions: dict[str, LabelExpression], stop: int
) -> Labels:
    columns = {}
    for key in _columns_of(expressions):
        _require(file, key, "data.label_expression")
        columns[key] = _read_rows(file, key, stop)
        if columns[key].ndim != 1 or columns[key].dtype.kind not in "biuf":
            raise DataError(
                f"{file.path}: {key!r} of data.label_expression has shape {columns[key].shape} and type "
                f"{columns[key].dtype}, not one number per event"
            )
    return labels_from_expressions(expressions, columns, stop, str(file.path)), tuple(expressions)


def _read_features(file: EventFile, config: DataConfig, keys: Sequence[str], stop: int) -> NDArray[np.float32]:
    first = _to_float32(file, keys[0], stop)
    if _one_array_holds_all(file, config):
        if first.ndim < 2:
            raise DataError(
                f"{file.path}: features {keys[0]!r} have shape {first.shape}, not one row of features per event",
                hint=f"for a single feature write data.features: [{keys[0]}]",
            )
        return first
    # One column at a time into place: the file's columns and the result never exist twice.
    features = np.empty((stop, len(keys), *first.shape[1:]), dtype=np.float32)
    for i, key in enumerate(keys):
        column = first if i == 0 else _to_float32(file, key, stop)
        if column.shape != first.shape:
            raise DataError(
                f"{file.path}: {key!r} has shape {column.shape[1:]} per event, but {keys[0]!r} has {first.shape[1:]}",
                hint="name columns of one shape in data.features",
            )
        features[:, i] = column
    return features


def _read_rows(file: EventFile, key: str, stop: int) -> NDArray[Any]:
    """The first ``stop`` rows, and not fewer: a damaged file may promise more rows than it holds."""
    raw = file.read(key, stop)
    if len(raw) != stop:
        raise DataError(
            f"{file.path}: {key!r} holds {len(raw)} of {stop} rows", hint="the file is damaged or cut short"
        )
    return raw


def _to_float32(file: EventFile, key: str, stop: int) -> NDArray[np.float32]:
    raw = _read_rows(file, key, stop)
    if raw.dtype.kind not in "biuf":
        raise DataError(f"{file.path}: feature {key!r} is of type {raw.dtype}, not a number")
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(raw, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        inner = f", position {list(index[1:])}" if len(index) > 1 else ""
        reason = "which float32 cannot hold" if np.isfinite(raw[index]) else "not a finite number"
        rows = int((~finite).reshape(stop, -1).any(axis=1).sum())
        raise DataError(
            f"{file.path}: {key!r}, row {index[0]}{inner} is {raw[index]}, {reason} ({rows} rows have such values)",
            hint="remove or repair these rows before the run; nothing is filled in silently",
        )
    return values


def _read_weights(file: EventFile, key: str | None, stop: int) -> NDArray[np.float64]:
    if key is None:
        return np.ones(stop, dtype=np.float64)
    raw = _one_number_per_event(file, key, "weight", stop)
    weights = raw.astype(np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{file.path}: weight {key!r}, row {row} is {weights[row]}, not a number >= 0 "
            f"({int(bad.sum())} rows have such weights)",
            hint="negative generator weights must be dealt with before the run",
        )
    return weights


def _read_groups(file: EventFile, key: str | None, stop: int) -> NDArray[np.int64]:
    if key is None:
        return np.arange(stop, dtype=np.int64)
    raw = _one_number_per_event(file, key, "group", stop)
    if raw.dtype.kind == "f":
        whole = np.isfinite(raw) & (raw == np.floor(raw)) & (np.abs(raw) < 2**53)
        if not whole.all():
            row = int(np.argmin(whole))
            raise DataError(f"{file.path}: group {key!r}, row {row} is {raw[row]}, not a whole number")
    return raw.astype(np.int64)


def _one_number_per_event(file: EventFile, key: str, role: str, stop: int) -> NDArray[Any]:
    raw = _read_rows(file, key, stop)
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim != 1 or raw.dtype.kind not in "biuf":
        raise DataError(
            f"{file.path}: {role} {key!r} has shape {raw.shape} and type {raw.dtype}, not one number per event"
        )
    return raw


def _feature_names(file: EventFile, config: DataConfig, keys: Sequence[str], n_features: int) -> tuple[str, ...]:
    names = config.feature_names
    if names is None and not _one_array_holds_all(file, config):
        names = list(keys)
    if names is None:
        names = _names_in_file(file, config, "features", *keys)
    if names is None:
        names = [f"{keys[0]}{i}" for i in range(n_features)]
    if len(names) != n_features:
        raise DataError(
            f"{file.path}: {len(names)} feature names for {n_features} features of {keys[0]!r}",
            hint="correct data.feature_names, or the names in the file",
        )
    return tuple(names)


def _names_in_file(file: EventFile, config: DataConfig, key: str, *taken: str) -> list[str] | None:
    """Names stored as an array of text called ``key``, unless that array has another role."""
    known = file.keys()
    if isinstance(file, ColumnFile) or key not in known or key in (*taken, config.weight, config.group):
        return None
    raw = file.read(key)
    if raw.dtype.kind == "S":
        raw = np.char.decode(raw, "utf-8")
    if raw.ndim != 1 or raw.dtype.kind != "U":
        config_key = "feature_names" if key == "features" else "class_names"
        raise DataError(
            f"{file.path}: array {key!r} of shape {raw.shape} and type {raw.dtype} is not a list of names",
            hint=f"give data.{config_key}, or rename the array",
        )
    return [str(name) for name in raw]
