"""Parquet files through pyarrow (extra ``parquet``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.readers._base import missing_key, not_installed, ragged_key, unreadable
from trigger_prune.errors import DataError


class ParquetEvents:
    """One open file; columns of numbers, text, or lists of numbers of one length."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file

    def keys(self) -> list[str]:
        """Names of the columns."""
        return list(self._file.schema_arrow.names)

    def numeric_keys(self) -> list[str]:
        """Names of the columns of integers or floats, or lists of them."""
        import pyarrow as pa

        types = {field.name: _leaf_type(field.type) for field in self._file.schema_arrow}
        return [key for key, kind in types.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)]

    def n_rows(self, key: str) -> int:
        """Rows of the file."""
        self._check_key(key)
        return int(self._file.metadata.num_rows)

    def read(self, key: str, stop: int | None = None) -> NDArray[Any]:
        """The first ``stop`` rows of a column."""
        import pyarrow as pa

        self._check_key(key)
        kind = _leaf_type(self._file.schema_arrow.field(key).type)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or _is_text_or_bool(kind)):
            raise DataError(
                f"{self.path}: column {key!r} is of type {self._file.schema_arrow.field(key).type}",
                hint="columns of numbers, text, or lists of numbers can be read",
            )
        with unreadable(self.path, (pa.ArrowException, OSError), f"column {key!r}"):
            column = self._column(key, stop)
        return self._to_numpy(column, key)

    def _check_key(self, key: str) -> None:
        if key not in self.keys():
            raise missing_key(self.path, key, self.keys(), "column")

    def _column(self, key: str, stop: int | None) -> Any:
        import pyarrow as pa

        field_type = self._file.schema_arrow.field(key).type
        batches, rows = [], 0
        for batch in self._file.iter_batches(columns=[key]):
            batches.append(batch.column(0))
            rows += batch.num_rows
            if stop is not None and rows >= stop:
                break
        column = pa.chunked_array(batches, type=field_type).slice(0, stop).combine_chunks()
        return column.dictionary_decode() if pa.types.is_dictionary(field_type) else column

    def _to_numpy(self, column: Any, key: str) -> NDArray[Any]:
        """Fixed-length lists become axes; a missing value or a list of another length is an error."""
        import pyarrow as pa

        shape = [len(column)]
        rows_per_event = 1
        while pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or _is_fixed_list(column.type):
            self._check_no_null(column, key, rows_per_event)
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            different = np.flatnonzero(lengths != lengths[0]) if len(lengths) else np.empty(0, np.int64)
            if len(different):
                at = int(different[0])
                raise ragged_key(self.path, key, at // rows_per_event, int(lengths[at]), int(lengths[0]))
            shape.append(int(lengths[0]) if len(lengths) else 0)
            rows_per_event *= shape[-1]
            column = column.flatten()
        self._check_no_null(column, key, rows_per_event)
        values = column.to_numpy(zero_copy_only=False)
        return np.asarray(values, dtype=np.str_ if values.dtype == object else None).reshape(shape)

    def _check_no_null(self, column: Any, key: str, rows_per_event: int) -> None:
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) // max(rows_per_event, 1)
            raise DataError(
                f"{self.path}: column {key!r} has no value in row {row} ({column.null_count} values are missing)",
                hint="remove or repair these rows before the run; nothing is filled in silently",
            )


def _is_fixed_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind))


def _is_text_or_bool(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind))


def _leaf_type(kind: Any) -> Any:
    """Type of the innermost values of (lists of) (dictionary-coded) values."""
    import pyarrow as pa

    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_fixed_list(kind):
        kind = kind.value_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


@contextmanager
def open_file(path: Path, tree: str | None) -> Iterator[ParquetEvents]:
    """Open a file; ``tree`` is always None here."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise not_installed("pyarrow", "parquet") from None
    with unreadable(path, (pa.ArrowException, OSError)):
        file = pq.ParquetFile(path)
    with file:
        yield ParquetEvents(path, file)
