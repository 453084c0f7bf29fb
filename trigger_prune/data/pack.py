"""Make the shipped event files from the original arrays: ``python -m trigger_prune.data.pack SRC_DIR [OUT_DIR]``.

SRC_DIR holds ``jets16.npz`` (x, y, group, features, classes, kin) and ``jets16_const.npz`` (const).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.builtin_events import EVENTS_DIR, N_POSITIONS
from trigger_prune.data.packed_columns import pack_columns, unpack_columns
from trigger_prune.errors import DataError

MAX_FILE_BYTES = 4 * 2**20 - 1

CONSTITUENT_ROWS = 84_000
"""As many rows as fit one file; a collision that this would cut in two is left out."""

LOG2_PT_EXPONENT, ANGLE_EXPONENT = 6, 10
"""Steps of 2**-6 in log2(1 + pT / GeV) (1.1 % of pT) and 2**-10 in angle."""

_COLUMNS_IN_PART1 = 8


def pack_events(source_dir: Path, out_dir: Path) -> list[Path]:
    """Write the packed files into ``out_dir`` and return their paths.

    Raises DataError when the source is not what the format assumes, or a file would reach 4 MiB.
    """
    with np.load(source_dir / "jets16.npz", allow_pickle=False) as file:
        jets = {key: file[key] for key in file.files}
    with np.load(source_dir / "jets16_const.npz", allow_pickle=False) as file:
        constituents = file["const"]
    return [*_pack_high_level(jets, out_dir), _pack_constituents(jets, constituents, out_dir)]


def quantisation_errors(source_dir: Path) -> list[tuple[str, float, float]]:
    """Name, step and largest error in units of the standard deviation, for every jet feature."""
    with np.load(source_dir / "jets16.npz", allow_pickle=False) as file:
        values, names = file["x"].astype(np.float64), file["features"].tolist()
    packed = pack_columns(values)
    worst = np.abs(unpack_columns(packed) - values).max(axis=0) / values.std(axis=0)
    return list(zip(names, packed.steps.tolist(), worst.tolist(), strict=True))


def _pack_high_level(jets: dict[str, NDArray[Any]], out_dir: Path) -> list[Path]:
    x, names = jets["x"], jets["features"].tolist()
    stored_as = [_first_equal_column(x, names, i) for i in range(len(names))]
    stored = list(dict.fromkeys(stored_as))
    halves = stored[:_COLUMNS_IN_PART1], stored[_COLUMNS_IN_PART1:]
    paths = []
    for number, half in enumerate(halves, start=1):
        arrays = pack_columns(x[:, [names.index(name) for name in half]]).to_arrays("features")
        arrays["stored_names"] = np.array(half)
        if number == 1:
            arrays |= _rows(jets, len(x)) | {"names": np.array(names), "stored_as": np.array(stored_as)}
        paths.append(_write(out_dir / f"jets16_part{number}.npz", arrays))
    kinematics = pack_columns(jets["kin"]).to_arrays("kinematics")
    return [*paths, _write(out_dir / "jets16_kinematics.npz", kinematics)]


def _first_equal_column(x: NDArray[Any], names: list[str], i: int) -> str:
    return next(names[j] for j in range(i + 1) if np.array_equal(x[:, j], x[:, i]))


def _pack_constituents(jets: dict[str, NDArray[Any]], constituents: NDArray[Any], out_dir: Path) -> Path:
    groups = jets["group"]
    n = min(CONSTITUENT_ROWS, len(constituents))
    while n < len(groups) and groups[n] == groups[n - 1]:
        n -= 1
    if constituents.shape[1:] != (N_POSITIONS, 3):
        raise DataError(f"constituents have shape {constituents.shape}, expected (rows, {N_POSITIONS}, 3)")
    pt, d_eta, d_phi = np.moveaxis(constituents[:n].astype(np.float64), 2, 0)
    log2_pt = np.floor(np.ldexp(np.log2(1 + pt), LOG2_PT_EXPONENT) + 0.5) * 2.0**-LOG2_PT_EXPONENT
    if (np.diff(log2_pt, axis=1) > 0).any():
        raise DataError("constituents are not ordered in pT")
    steps_down = np.concatenate([log2_pt[:, :1], -np.diff(log2_pt, axis=1)], axis=1)
    exponents = [LOG2_PT_EXPONENT] * N_POSITIONS + [ANGLE_EXPONENT] * (2 * N_POSITIONS)
    packed = pack_columns(np.concatenate([steps_down, d_eta, d_phi], axis=1), exponents)
    return _write(out_dir / "jets16_constituents.npz", packed.to_arrays("constituents") | _rows(jets, n))


def _rows(jets: dict[str, NDArray[Any]], n: int) -> dict[str, NDArray[np.generic]]:
    """Labels, and the collision number as one bit per row: 1 where a new collision starts."""
    steps = np.diff(jets["group"][:n].astype(np.int64), prepend=-1)
    if jets["group"][0] != 0 or not np.isin(steps, (0, 1)).all():
        raise DataError("collision numbers must start at 0 and never skip one")
    return {
        "labels": jets["y"][:n].astype(np.int8),
        "classes": np.array(jets["classes"].tolist()),
        "new_collision": np.packbits(steps.astype(np.uint8)),
    }


def _write(path: Path, arrays: dict[str, NDArray[np.generic]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    size = partial.stat().st_size
    if size > MAX_FILE_BYTES:
        partial.unlink()
        raise DataError(f"{path.name} would have {size} bytes, the limit is {MAX_FILE_BYTES}")
    return partial.replace(path)


def main(arguments: list[str]) -> None:
    """Pack, then print file sizes and the rounding errors of the data card."""
    if len(arguments) not in (1, 2):
        raise SystemExit("usage: python -m trigger_prune.data.pack SRC_DIR [OUT_DIR]")
    source_dir = Path(arguments[0])
    for path in pack_events(source_dir, Path(arguments[1]) if len(arguments) == 2 else EVENTS_DIR):
        print(f"{path.name}  {path.stat().st_size / 2**20:.3f} MiB")
    for name, step, error in quantisation_errors(source_dir):
        print(f"| `{name}` | 2^{np.log2(step):.0f} | {error:.2e} |")


if __name__ == "__main__":
    main(sys.argv[1:])
