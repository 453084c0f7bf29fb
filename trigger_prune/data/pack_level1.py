"""Make the shipped level-1 files: ``python -m trigger_prune.data.pack_level1 MADE_DIR OUT_DIR``.

MADE_DIR is what ``trigger-prune data make level1`` wrote. Large files are cut into parts, columns are stored one after
another because they compress better, and offline quantities are rounded to steps of 0.25 GeV.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.level1.files import find_processes
from trigger_prune.data.pack import MAX_FILE_BYTES
from trigger_prune.errors import DataError

OFFLINE_STEP_GEV = 0.25

_PER_EVENT = ("x", "gid", "npu", "offline", "regions")
_MOST_PARTS = 64


def pack_level1(made_dir: Path, out_dir: Path) -> list[Path]:
    """Write every process of ``made_dir`` into ``out_dir`` in files below 4 MiB; returns their paths.

    Raises DataError for a process that comes in parts already, or cannot be cut small enough.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, files in find_processes(made_dir).items():
        if len(files) != 1:
            raise DataError(f"{made_dir}: {name} is in {len(files)} parts already", hint="pack what `data make` wrote")
        with np.load(files[0], allow_pickle=False) as file:
            paths += _write_parts(out_dir, name, {key: file[key] for key in file.files})
    return paths


def _write_parts(out_dir: Path, name: str, arrays: dict[str, NDArray[Any]]) -> list[Path]:
    if "offline" in arrays:
        rounded = np.round(arrays["offline"] / OFFLINE_STEP_GEV) * OFFLINE_STEP_GEV
        arrays["offline"] = rounded.astype(np.float32)
    n = len(arrays["x"])
    for number in range(1, _MOST_PARTS + 1):
        edges = np.linspace(0, n, number + 1).astype(int)
        stem = [f"l1_{name}.npz"] if number == 1 else [f"l1_{name}.part{i}.npz" for i in range(number)]
        partial = [out_dir / f".{text}" for text in stem]
        for path, start, stop in zip(partial, edges, edges[1:], strict=False):
            part = {
                key: np.asfortranarray(value[start:stop]) if key in _PER_EVENT else value
                for key, value in arrays.items()
            }
            with path.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **part)
        if all(path.stat().st_size <= MAX_FILE_BYTES for path in partial):
            return [path.replace(path.with_name(path.name[1:])) for path in partial]
        for path in partial:
            path.unlink()
    raise DataError(f"{name}: {_MOST_PARTS} parts are not enough for files of {MAX_FILE_BYTES} bytes")


def main(arguments: list[str]) -> None:
    """Pack, then print the sizes."""
    if len(arguments) != 2:
        raise SystemExit("usage: python -m trigger_prune.data.pack_level1 MADE_DIR OUT_DIR")
    for path in pack_level1(Path(arguments[0]), Path(arguments[1])):
        print(f"{path.name}  {path.stat().st_size / 2**20:.3f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
