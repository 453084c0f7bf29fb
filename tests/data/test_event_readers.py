"""The same events written in four formats by other libraries, and read back."""

from __future__ import annotations

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
from trigger_prune.data.sample import EventSample

N = 60
NAMES = ("pt", "eta", "mass")
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 3)).astype(np.float32)
Y = np.arange(N) % 3
WEIGHT = RNG.uniform(0.5, 2.0, size=N)
GROUP = np.arange(N) // 2


def load(path: Path, **keys: object) -> EventSample:
    # A relative path: it must be looked for in the project's folder.
    return load_sample(DataConfig(path=path.name, **keys), path.parent)


def columns() -> dict[str, np.ndarray]:
    named = {name: X[:, i] for i, name in enumerate(NAMES)}
    return {**named, "y": Y.astype(np.int32), "weight": WEIGHT, "group": GROUP.astype(np.int64)}


def write_npz(path: Path) -> Path:
    np.savez(path, x=X, y=Y, weight=WEIGHT, group=GROUP, features=np.array(NAMES))
    return path


def write_hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in {"x": X, "y": Y, "weight": WEIGHT, "group": GROUP}.items():
            file.create_dataset(key, data=array, chunks=True, compression="gzip")
        file["features"] = list(NAMES)
    return path


def write_parquet(path: Path) -> Path:
    pq.write_table(pa.table(columns()), path, row_group_size=17)
    return path


def write_ttree(path: Path) -> Path:
    with uproot.recreate(path) as file:
        tree = file.mktree("events", {key: array.dtype for key, array in columns().items()})
        for start in range(0, N, 25):
            tree.extend({key: array[start : start + 25] for key, array in columns().items()})
    return path


def write_rntuple(path: Path) -> Path:
    with uproot.recreate(path) as file:
        file.mkrntuple("events", columns())
    return path


FORMATS = pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_npz, "e.npz"),
        (write_hdf5, "e.h5"),
        (write_hdf5, "e.hdf5"),
        (write_parquet, "e.parquet"),
        (write_ttree, "e.root"),
        (write_rntuple, "e.root"),
    ],
    ids=["npz", "h5", "hdf5", "parquet", "ttree", "rntuple"],
)


@FORMATS
@pytest.mark.parametrize("max_events", [None, 31])
def test_every_format_gives_the_same_events(
    tmp_path: Path, write: Callable[[Path], Path], name: str, max_events: int | None
) -> None:
    path = write(tmp_path / name)
    sample = load(path, max_events=max_events)
    n = max_events or N
    # RNTuple stores fields in alphabetical order; names tell which column is which.
    order = [sample.feature_names.index(feature) for feature in NAMES]
    assert sorted(order) == [0, 1, 2] and sample.n_features == 3
    np.testing.assert_array_equal(sample.features[:, order], X[:n])
    assert sample.features.dtype == np.float32
    np.testing.assert_array_equal(sample.labels, Y[:n])
    np.testing.assert_array_equal(sample.weights, WEIGHT[:n])
    np.testing.assert_array_equal(sample.groups, GROUP[:n])
    assert sample.class_names == ("0", "1", "2")
    assert source_files(DataConfig(path=name), tmp_path) == [path]


@FORMATS
def test_explicit_keys_and_names_override_the_defaults(
    tmp_path: Path, write: Callable[[Path], Path], name: str
) -> None:
    path = write(tmp_path / name)
    features = "x" if name.endswith(("npz", "h5", "hdf5")) else ["mass", "pt", "eta"]
    order = [0, 1, 2] if features == "x" else [2, 0, 1]
    sample = load(
        path,
        features=features,
        label="group",
        weight="y",
        group="y",
        feature_names=["a", "b", "c"],
        class_names=[f"c{i}" for i in range(N // 2)],
    )
    np.testing.assert_array_equal(sample.features, X[:, order])
    np.testing.assert_array_equal(sample.labels, GROUP)
    np.testing.assert_array_equal(sample.weights, Y)
    np.testing.assert_array_equal(sample.groups, Y)
    assert sample.feature_names == ("a", "b", "c")
    assert sample.class_names[7] == "c7"


def test_without_weight_and_group_every_row_stands_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", x=X.astype(np.float64), y=Y, classes=np.array(["a", "b", "c"]))
    sample = load(tmp_path / "e.npz")
    assert len(set(sample.groups.tolist())) == N
    assert (sample.weights == 1).all()
    assert sample.feature_names == ("x0", "x1", "x2")
    assert sample.class_names == ("a", "b", "c")


def test_an_array_with_a_role_is_not_taken_for_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", features=X, classes=Y)
    sample = load(tmp_path / "e.npz", features="features", label="classes")
    np.testing.assert_array_equal(sample.features, X)
    assert sample.feature_names == ("features0", "features1", "features2")
    assert sample.class_names == ("0", "1", "2")


def test_npz_of_single_columns_and_of_integers(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", a=np.arange(N, dtype=np.int16), b=X[:, 1], label=Y)
    sample = load(tmp_path / "e.npz", features=["b", "a"])
    np.testing.assert_array_equal(sample.features, np.stack([X[:, 1], np.arange(N, dtype=np.float32)], axis=1))
    assert sample.feature_names == ("b", "a")


def test_hdf5_paths_images_and_text_labels(tmp_path: Path) -> None:
    images = RNG.normal(size=(N, 2, 4, 5)).astype(np.float32)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["calo/images"] = images
        file["calo/truth"] = np.array(["tau", "jet", "e"], dtype=object)[Y]
        file["fixed"] = np.array([b"tau", b"jet", b"e"])[Y]
    for label in ("calo/truth", "fixed"):
        sample = load(tmp_path / "e.h5", features="calo/images", label=label)
        np.testing.assert_array_equal(sample.features, images)
        assert sample.class_names == ("e", "jet", "tau")
        np.testing.assert_array_equal(sample.labels, np.array([2, 1, 0])[Y])


def test_parquet_lists_become_positions_and_categories_become_classes(tmp_path: Path) -> None:
    pt, eta = RNG.normal(size=(2, N, 4)).astype(np.float32)
    table = pa.table(
        {
            "pt": pa.FixedSizeListArray.from_arrays(pa.array(pt.ravel()), 4),
            "eta": pa.array(eta.tolist(), type=pa.list_(pa.float32())),
            "label": pa.array(np.array(["sig", "bkg"])[Y % 2]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "e.parquet", row_group_size=7)
    sample = load(tmp_path / "e.parquet", max_events=33)
    np.testing.assert_array_equal(sample.features, np.stack([pt, eta], axis=1)[:33])
    assert sample.feature_names == ("pt", "eta")
    assert sample.class_names == ("bkg", "sig")
    np.testing.assert_array_equal(sample.labels, 1 - (Y % 2)[:33])
    one_array = load(tmp_path / "e.parquet", features="eta")
    np.testing.assert_array_equal(one_array.features, eta)


@pytest.mark.parametrize("kind", ["ttree", "rntuple"])
def test_root_arrays_text_and_the_choice_of_a_tree(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "e.root"
    pt, eta = RNG.normal(size=(2, N, 4)).astype(np.float32)
    text = ak.Array(np.array(["sig", "bkg"])[Y % 2].tolist())
    with uproot.recreate(path) as file:
        data = {"pt": pt, "eta": eta, "cls": text}
        if kind == "ttree":
            types = {"pt": ("f4", (4,)), "eta": ("f4", (4,)), "cls": "string"}
            file.mktree("dir/jets", types).extend(data)
        else:
            file.mkrntuple("dir/jets", data)
        file.mktree("other", {"a": "f8"}).extend({"a": np.arange(3.0)})
    sample = load(path, tree="dir/jets", label="cls", features=["pt", "eta"])
    np.testing.assert_array_equal(sample.features, np.stack([pt, eta], axis=1))
    assert sample.class_names == ("bkg", "sig")
    np.testing.assert_array_equal(sample.labels, 1 - Y % 2)


@pytest.mark.parametrize("write", [write_parquet, write_ttree])
def test_label_expressions_use_columns_that_are_then_no_features(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / ("e.parquet" if write is write_parquet else "e.root"))
    sample = load(
        path, label_expression={"hard": "y == 2 and abs(eta) < 1.5", "even": "group % 2 == 0", "rest": "group >= 0"}
    )
    eta = X[:, 1].astype(np.float64)
    expected = [
        0 if Y[i] == 2 and abs(eta[i]) < 1.5 else 1 if GROUP[i] % 2 == 0 else 2  # the first that is true wins
        for i in range(N)
    ]
    assert sample.labels.tolist() == expected
    assert sample.class_names == ("hard", "even", "rest")
    # eta and y made the label; only what is left may be a feature.
    assert sample.feature_names == ("pt", "mass")
