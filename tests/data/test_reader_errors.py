"""Everything that is wrong with a file is said with file, key and row."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from trigger_prune.config.project import DataConfig
from trigger_prune.data.load import load_sample, source_files
from trigger_prune.errors import ConfigError, DataError, TriggerPruneError

N = 20
X = np.random.default_rng(1).normal(size=(N, 2)).astype(np.float32)
Y = np.arange(N) % 2


def failure(path: Path, **keys: object) -> TriggerPruneError:
    with pytest.raises((ConfigError, DataError)) as caught:
        load_sample(DataConfig(path=str(path), **keys), path.parent)
    return caught.value


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path / "events.npz", **{"x": X, "y": Y, **arrays})
    return path / "events.npz"


def changed(array: np.ndarray, row: int, value: object, dtype: type = np.float64) -> np.ndarray:
    result = np.array(array, dtype=dtype)
    result[row] = value
    return result


@pytest.mark.parametrize(
    ("arrays", "keys", "parts"),
    [
        ({"x": changed(X, 7, [1.0, np.nan])}, {}, ["'x'", "row 7", "position [1]", "nan"]),
        ({"x": changed(X, 3, [np.inf, 1.0])}, {}, ["'x'", "row 3", "inf"]),
        ({"x": changed(X, 4, [1e300, 1.0])}, {}, ["'x'", "row 4", "1e+300", "float32"]),
        ({"x": X[:, 0]}, {}, ["'x'", "(20,)", "data.features: [x]"]),
        ({"x": X.reshape(N, 2, 1, 1, 1)}, {}, ["(20, 2, 1, 1, 1)"]),
        ({"x": X[:-1]}, {}, ["'x' has 19 rows", "'y' has 20"]),
        ({"x": np.array([["a", "b"]] * N)}, {}, ["'x'", "not a number"]),
        ({"x": np.array([[1, None]] * N, dtype=object)}, {}, ["'x'", "pickle"]),
        ({"x": np.float32(3)}, {}, ["'x'", "single value"]),
        ({"x": X[:0], "y": Y[:0]}, {}, ["no events"]),
        ({"y": np.eye(2)[Y] * 0.5}, {}, ["'y'", "row 0", "one-hot"]),
        ({"y": changed(np.eye(2)[Y], 6, [1, 1])}, {}, ["'y'", "row 6", "one-hot"]),
        ({"y": changed(Y, 5, 0.5)}, {}, ["'y'", "row 5", "0.5"]),
        ({"y": changed(Y, 5, np.nan)}, {}, ["'y'", "row 5", "nan"]),
        ({"y": np.zeros((N, 2, 2))}, {}, ["'y'", "(20, 2, 2)"]),
        ({"y": changed(Y, 9, 2, np.int64)}, {"class_names": ["a", "b"]}, ["'y'", "unknown label 2", "row 9", "a, b"]),
        ({"y": changed(Y, 9, -1, np.int64)}, {"class_names": ["a", "b"]}, ["'y'", "unknown label -1", "row 9"]),
        ({"classes": np.array(["a", "b", "c"])}, {}, ["no events of class c"]),
        ({}, {"class_names": ["a", "b", "c"]}, ["no events of class c"]),
        ({"y": np.array(["W", "Z"])[Y]}, {"class_names": ["W", "t"]}, ["'y'", "unknown label 'Z'", "row 1", "W, t"]),
        ({"weight": changed(np.ones(N), 8, -1.0)}, {}, ["weight 'weight'", "row 8", "-1.0"]),
        ({"w": changed(np.ones(N), 8, np.nan)}, {"weight": "w"}, ["weight 'w'", "row 8", "nan"]),
        ({"weight": np.zeros(N)}, {}, ["all weights are zero"]),
        ({"weight": np.ones((N, 2))}, {}, ["weight 'weight'", "(20, 2)"]),
        ({"group": changed(np.arange(N), 11, 0.25)}, {}, ["group 'group'", "row 11", "0.25"]),
        ({"features": np.array(["a"])}, {}, ["1 feature names for 2 features"]),
        ({"features": X}, {}, ["'features'", "not a list of names", "data.feature_names"]),
        ({}, {"feature_names": ["a", "a"]}, ["'a' is given more than once"]),
        ({}, {"features": "X"}, ["no array 'X'", "did you mean 'x'", "data.features"]),
        ({}, {"label": "why"}, ["no array 'why'", "x, y", "data.label"]),
        ({}, {"weight": "wt"}, ["no array 'wt'", "data.weight"]),
        ({}, {"group": "gruop"}, ["no array 'gruop'", "data.group"]),
        ({}, {"features": "x", "label": "x"}, ["'x' is the label"]),
        ({}, {"features": []}, ["data.features", "empty"]),
        ({}, {"tree": "t"}, ["data.tree", "no trees"]),
        ({}, {"label_expression": {}}, ["data.label_expression", "no class"]),
        ({}, {"label_expression": {"a": "y > 0"}, "class_names": ["b"]}, ["data.class_names (b)", "(a)"]),
        ({}, {"label_expression": {"a": "x > 0"}}, ["'x' of data.label_expression", "(20, 2)"]),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, object], keys: dict[str, object], parts: list[str]) -> None:
    error = failure(npz(tmp_path, **arrays), **keys)
    for part in [*parts, *([] if "data." in error.message else ["events.npz"])]:
        assert part in str(error)


def test_a_missing_default_array_lists_what_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    error = str(failure(tmp_path / "a.npz"))
    assert "a.npz" in error and "did you mean 'X'?" in error and "data.features" in error
    np.savez(tmp_path / "b.npz", x=X, truth=Y)
    error = str(failure(tmp_path / "b.npz"))
    assert "b.npz" in error and "x, truth" in error and "data.label" in error


def test_the_classes_do_not_depend_on_max_events(tmp_path: Path) -> None:
    path = npz(tmp_path, y=np.array([5, 7] * 9 + [6, 6]))
    assert load_sample(DataConfig(path=path.name), tmp_path).class_names == ("5", "6", "7")
    assert "no events of class 6" in str(failure(path, max_events=10))


def test_missing_file_and_unknown_suffix(tmp_path: Path) -> None:
    assert "there is no file" in str(failure(tmp_path / "gone.npz")) and "gone.npz" in str(
        failure(tmp_path / "gone.npz")
    )
    with pytest.raises(ConfigError, match=r"there is no file .*gone\.npz"):
        source_files(DataConfig(path="gone.npz"), tmp_path)
    (tmp_path / "events.csv").write_text("1,2\n")
    error = str(failure(tmp_path / "events.csv"))
    assert "events.csv" in error and "'.csv'" in error and ".parquet" in error


def test_builtin_names_and_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'jets16'"):
        load_sample(DataConfig(path="builtin:jets61"), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.label.*fixed columns"):
        load_sample(DataConfig(path="builtin:jets16", label="y"), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.class_names: 2 names, but builtin:jets16 has 5"):
        load_sample(DataConfig(path="builtin:jets16", class_names=["a", "b"]), tmp_path)


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.tile(X, (50, 1)), compression="gzip")
        file["y"] = np.tile(Y, 50)


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"a": np.tile(X[:, 0], 50), "y": np.tile(Y, 50)}), path)


def write_root(path: Path) -> None:
    with uproot.recreate(path) as file:
        file.mktree("t", {"a": "f4", "y": "i4"}).extend({"a": np.tile(X[:, 0], 50), "y": np.tile(Y, 50)})


def write_npz(path: Path) -> None:
    np.savez_compressed(path, x=np.tile(X, (50, 1)), y=np.tile(Y, 50))


@pytest.mark.parametrize(
    ("write", "suffix"),
    [(write_npz, ".npz"), (write_hdf5, ".h5"), (write_parquet, ".parquet"), (write_root, ".root")],
)
def test_damaged_files_name_the_file(tmp_path: Path, write: Callable[[Path], None], suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    write(whole)
    load_sample(DataConfig(path=str(whole)), tmp_path)
    content = whole.read_bytes()
    broken = tmp_path / f"broken{suffix}"
    for damage in (b"", b"not such a file at all " * 20, content[: len(content) // 3], content[:-40]):
        broken.write_bytes(damage)
        error = failure(broken)
        assert isinstance(error, DataError) and f"broken{suffix}" in error.message, error


@pytest.mark.parametrize(
    ("write", "suffix", "at_least"),
    [(write_npz, ".npz", 20), (write_hdf5, ".h5", 8), (write_root, ".root", 8), (write_parquet, ".parquet", 20)],
)
def test_flipped_bytes_never_escape_as_another_exception(
    tmp_path: Path, write: Callable[[Path], None], suffix: str, at_least: int
) -> None:
    write(tmp_path / f"e{suffix}")
    content = (tmp_path / f"e{suffix}").read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(25):
        damaged = np.frombuffer(content, dtype=np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 30)] ^= 0xFF
        (tmp_path / f"e{suffix}").write_bytes(damaged.tobytes())
        try:
            load_sample(DataConfig(path=f"e{suffix}"), tmp_path)
        except TriggerPruneError:
            refused += 1
    # A small ROOT file is mostly class descriptions that no one reads, so some damage there does not matter.
    assert refused >= at_least


@pytest.mark.parametrize(
    ("write", "suffix", "module", "extra"),
    [
        (write_hdf5, ".h5", "h5py", "hdf5"),
        (write_parquet, ".parquet", "pyarrow.parquet", "parquet"),
        (write_root, ".root", "uproot", "root"),
        (write_root, ".root", "awkward", "root"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], None],
    suffix: str,
    module: str,
    extra: str,
) -> None:
    write(tmp_path / f"e{suffix}")
    # None in sys.modules is how Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, module, None)
    error = failure(tmp_path / f"e{suffix}")
    assert isinstance(error, ConfigError) and f"pip install 'trigger_prune[{extra}]'" in str(error)


def test_loading_shipped_events_imports_no_file_library() -> None:
    code = (
        "import sys; from trigger_prune.data.load import load_sample; "
        "print([m for m in ('torch', 'h5py', 'pyarrow', 'uproot', 'awkward') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_archive_of_another_kind_is_no_npz(tmp_path: Path) -> None:
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, X)
    assert "not an npz archive" in str(failure(tmp_path / "single.npz"))


def test_hdf5_tables_and_missing_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["jets"] = np.zeros(N, dtype=[("pt", "f4"), ("eta", "f4")])
        file["y"] = Y
    assert "table with fields pt, eta" in str(failure(tmp_path / "e.h5", features="jets"))
    error = str(failure(tmp_path / "e.h5", features="jet"))
    assert "e.h5" in error and "did you mean 'jets'" in error


def test_parquet_columns(tmp_path: Path) -> None:
    table = {
        "a": pa.array([1.0] * 11 + [None] * (N - 11)),
        "b": pa.array(X[:, 0]),
        "jagged": pa.array([[1.0, 2.0]] * 5 + [[1.0]] * (N - 5)),
        "when": pa.array([0] * N, type=pa.timestamp("s")),
        "pair": pa.array([[1.0, 2.0]] * N),
        "nested": pa.array([[[1.0], [2.0]]] * 6 + [[[1.0], [2.0, 3.0]]] + [[[1.0], [2.0]]] * (N - 7)),
        "y": pa.array(Y),
    }
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table(table), path, row_group_size=8)
    for features, parts in (
        (["a"], ["'a'", "row 11", "missing"]),
        (["jagged"], ["'jagged'", "2 values in row 0", "1 in row 5", "pad or cut"]),
        (["nested"], ["'nested'", "1 values in row 0", "2 in row 6"]),
        (["when"], ["'when'", "timestamp"]),
        (["b", "pair"], ["'pair'", "(2,)", "'b'"]),
        (["c"], ["no column 'c'"]),
    ):
        error = str(failure(path, features=features))
        for part in ("e.parquet", *parts):
            assert part in error


def test_root_branches_and_trees(tmp_path: Path) -> None:
    path = tmp_path / "e.root"
    jagged = ak.Array([[1.0, 2.0]] * 5 + [[1.0]] * (N - 5))
    with uproot.recreate(path) as file:
        tree = file.mktree("jets", {"jet_pt": "f4", "c": "var * float64", "y": "i4"})
        tree.extend({"jet_pt": X[:, 0], "c": jagged, "y": Y})
        nested = ak.Array([[[1.0], [2.0]]] * 6 + [[[1.0], [2.0, 3.0]]] + [[[1.0], [2.0]]] * 3)
        file.mkrntuple("deep", {"n": nested, "y": Y[:10]})
    error = str(failure(path, tree="deep", features=["n"]))
    assert "'n'" in error and "1 values in row 0" in error and "2 in row 6" in error
    error = str(failure(path, tree="jets", features=["jet_ptt"]))
    assert "e.root" in error and "'jet_ptt'" in error and "did you mean 'jet_pt'" in error
    error = str(failure(path, tree="jets", features=["c"]))
    assert "'c'" in error and "2 values in row 0" in error and "1 in row 5" in error
    error = str(failure(path, tree="jet"))
    assert "no tree 'jet'" in error and "did you mean 'jets'" in error
    error = str(failure(path))
    assert "data.tree" in error and "jets, deep" in error
    with uproot.recreate(tmp_path / "empty.root") as file:
        file["note"] = "no tree here"
    assert "no TTree" in str(failure(tmp_path / "empty.root"))


def test_a_row_without_a_class_is_named(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"a": X[:, 0], "kind": np.arange(N)}), path)
    error = str(failure(path, label_expression={"low": "kind < 9", "high": "kind > 10"}))
    assert "e.parquet" in error and "row 9 (kind = 9)" in error and "2 rows" in error
    error = str(failure(path, label_expression={"low": "kind < 99", "high": "kind > 99"}))
    assert "no events of class high" in error
    error = str(failure(path, label_expression={"low": "kidn < 9"}))
    assert "'kidn'" in error and "did you mean 'kind'" in error
