"""Class numbers and names from every accepted form of a label."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.data.labels import labels_from_array
from trigger_prune.errors import DataError


@pytest.mark.parametrize(
    ("raw", "class_names", "labels", "names"),
    [
        (np.array([0, 2, 1, 2], np.int8), None, [0, 2, 1, 2], ("0", "1", "2")),
        (np.array([0, 2, 1, 2], np.uint64), ["q", "g", "t"], [0, 2, 1, 2], ("q", "g", "t")),
        (np.array([24, -5, 24, 23]), None, [2, 0, 2, 1], ("-5", "23", "24")),
        (np.array([1.0, 0.0, 1.0]), None, [1, 0, 1], ("0", "1")),
        (np.array([True, False]), None, [1, 0], ("0", "1")),
        (np.array([True, False]), ["bkg", "sig"], [1, 0], ("bkg", "sig")),
        (np.array(["b", "a", "b"]), None, [1, 0, 1], ("a", "b")),
        (np.array([b"b", b"a", b"b"]), ["b", "a"], [0, 1, 0], ("b", "a")),
        (np.array([[0, 1], [1, 0], [0, 1]], np.float32), None, [1, 0, 1], ("0", "1")),
        (np.array([[0, 1, 0], [1, 0, 0]], bool), ["u", "v", "w"], [1, 0], ("u", "v", "w")),
        (np.array([[3], [1]]), None, [1, 0], ("1", "3")),
    ],
)
def test_accepted_labels(
    raw: np.ndarray, class_names: list[str] | None, labels: list[int], names: tuple[str, ...]
) -> None:
    got, got_names = labels_from_array(raw, class_names, "file: label 'y'")
    assert got.tolist() == labels
    assert got.dtype == np.int64
    assert got_names == names


def test_one_hot_rows_of_a_wrong_width() -> None:
    with pytest.raises(DataError, match="unknown label 2 in row 1"):
        labels_from_array(np.eye(3)[[0, 2]], ["a", "b"], "file: label 'y'")


def test_a_feature_is_not_taken_for_a_label() -> None:
    with pytest.raises(DataError, match="1001 different values"):
        labels_from_array(np.arange(1001), None, "file: label 'y'")
