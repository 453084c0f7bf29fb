"""From whatever a file calls a label to class numbers 0 .. C-1 and class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.label_expression import LabelExpression
from trigger_prune.errors import DataError

Labels = tuple[NDArray[np.int64], tuple[str, ...]]

_MAX_CLASSES = 1000


def labels_from_array(raw: NDArray[Any], class_names: Sequence[str] | None, where: str) -> Labels:
    """Class numbers and names from integers, booleans, whole floats, text, or one-hot rows ``(events, classes)``.

    With ``class_names``: text must be one of them, numbers must be 0 .. C-1. Without: the sorted different values are
    the classes and their text the names (one-hot: the column numbers). ``where`` ("file: label 'y'") starts every
    message. Raises DataError naming the first offending row.
    """
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim == 2:
        values = _from_one_hot(raw, where)
        names = class_names if class_names is not None else [str(i) for i in range(raw.shape[1])]
        return _numbered(values, names, where)
    if raw.ndim != 1:
        raise DataError(f"{where} has shape {raw.shape}", hint="give one label per event, or one-hot (events, classes)")
    values = _plain(raw, where)
    if class_names is None:
        different, labels = np.unique(values, return_inverse=True)
        if len(different) > _MAX_CLASSES:
            raise DataError(f"{where} has {len(different)} different values: it looks like a feature, not a label")
        return labels.astype(np.int64).reshape(-1), tuple(str(value) for value in different.tolist())
    if values.dtype.kind == "U":
        return _named(values, class_names, where)
    return _numbered(values, class_names, where)


def labels_from_expressions(
    expressions: Mapping[str, LabelExpression], columns: Mapping[str, NDArray[Any]], n_rows: int, where: str
) -> NDArray[np.int64]:
    """For each row the position of the first expression that is true. Raises DataError for a row without any."""
    labels = np.full(n_rows, -1, dtype=np.int64)
    for number, expression in enumerate(expressions.values()):
        labels[(labels < 0) & expression.evaluate(columns, n_rows)] = number
    if (labels < 0).any():
        row = int(np.argmax(labels < 0))
        values = ", ".join(f"{name} = {column[row]}" for name, column in columns.items())
        raise DataError(
            f"{where}: row {row} ({values}) matches no class of data.label_expression "
            f"({int((labels < 0).sum())} rows do not)",
            hint="add a class for these rows, or leave them out of the file",
        )
    return labels


def _plain(raw: NDArray[Any], where: str) -> NDArray[Any]:
    """Text as numpy text, everything else as int64."""
    if raw.dtype.kind == "S":
        return np.char.decode(raw, "utf-8")
    if raw.dtype.kind == "U":
        return raw
    if raw.dtype.kind in "biu":
        return raw.astype(np.int64)
    if raw.dtype.kind != "f":
        raise DataError(f"{where} is of type {raw.dtype}", hint="labels are integers, booleans or text")
    whole = np.isfinite(raw) & (raw == np.floor(raw)) & (np.abs(raw) < 2**53)
    if not whole.all():
        row = int(np.argmin(whole))
        raise DataError(f"{where}: row {row} is {raw[row]}, which is no class", hint="labels are integers or text")
    return raw.astype(np.int64)


def _from_one_hot(raw: NDArray[Any], where: str) -> NDArray[np.int64]:
    if raw.dtype.kind not in "biuf":
        raise DataError(f"{where} has shape {raw.shape} and type {raw.dtype}, one-hot rows are numbers")
    good = ((raw == 0) | (raw == 1)).all(axis=1) & ((raw == 1).sum(axis=1) == 1)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"{where}: row {row} is {raw[row].tolist()}, not one-hot ({int((~good).sum())} rows are not)",
            hint="every row needs a single 1 and zeros, or give one label per event",
        )
    return np.asarray(np.argmax(raw, axis=1), dtype=np.int64)


def _numbered(values: NDArray[np.int64], names: Sequence[str], where: str) -> Labels:
    unknown = (values < 0) | (values >= len(names))
    if unknown.any():
        raise _unknown(
            values, unknown, names, where, f"the {len(names)} classes have the numbers 0 to {len(names) - 1}"
        )
    return values, tuple(names)


def _named(values: NDArray[Any], names: Sequence[str], where: str) -> Labels:
    unknown = ~np.isin(values, list(names))
    if unknown.any():
        raise _unknown(values, unknown, names, where, "add the missing class, or correct the label")
    labels = np.empty(len(values), dtype=np.int64)
    for number, name in enumerate(names):
        labels[values == name] = number
    return labels, tuple(names)


def _unknown(
    values: NDArray[Any], unknown: NDArray[np.bool_], names: Sequence[str], where: str, hint: str
) -> DataError:
    row = int(np.argmax(unknown))
    return DataError(
        f"{where}: unknown label {values[row].item()!r} in row {row} ({int(unknown.sum())} rows have unknown labels); "
        f"the classes are {', '.join(names)}",
        hint=hint,
    )
