import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trigger_prune.errors import DataError
from trigger_prune.physics.scores import Score, class_score

INTEGERS = arrays(np.int64, (7, 5), elements=st.integers(-(2**20), 2**20))


@given(INTEGERS)
def test_difference_is_what_a_comparator_tree_gives(codes: np.ndarray) -> None:
    outputs = codes * 2.0**-7
    score = Score("difference", (4, 1), (0, 2))
    by_hand = [max(row[4], row[1]) - max(row[0], row[2]) for row in outputs.tolist()]
    assert score.of(outputs).tolist() == by_hand
    assert score.tensor(torch.from_numpy(outputs)).tolist() == by_hand
    assert Score("difference", (3,), (0, 1, 2, 4)).of(outputs).tolist() == class_score(outputs, 3).tolist()


@given(INTEGERS)
def test_sum_of_squares_is_exact_on_a_grid(codes: np.ndarray) -> None:
    outputs = codes * 2.0**-7
    exact = [sum(int(c) ** 2 for c in row) / 2**14 for row in codes]
    assert Score("sum_of_squares").of(outputs.astype(np.float32)).tolist() == exact
    assert Score("sum_of_squares").tensor(torch.from_numpy(outputs)).tolist() == exact


def test_a_softmax_would_not_change_the_ranking_but_its_ratio_would_lose_ties_and_range() -> None:
    outputs = np.array([[60.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    score = Score("difference", (1,), (0,))
    assert score.of(outputs).tolist() == [-60.0, -50.0, 50.0]
    ratio = (np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True))[:, 1].astype(np.float16)
    assert ratio[0] == ratio[1]


def test_reconstruction_compares_with_the_inputs() -> None:
    inputs = np.arange(12.0).reshape(2, 2, 3)
    outputs = inputs.reshape(2, 6) + np.array([[1, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0]])
    assert Score("reconstruction").of(outputs, inputs).tolist() == [5.0, 0.0]
    tensor = Score("reconstruction").tensor(torch.from_numpy(outputs), torch.from_numpy(inputs))
    assert tensor.tolist() == [5.0, 0.0]


def test_head_takes_the_one_output() -> None:
    assert Score("head").of(np.array([[1.5], [-2.0]])).tolist() == [1.5, -2.0]
    with pytest.raises(DataError, match="one output, but it has 3"):
        Score("head").of(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Score("difference", (1,), ()), "needs signal and background"),
        (lambda: Score("difference", (1, 2), (2,)), "output 2 is counted twice"),
        (lambda: Score("head", (1,)), "does not choose among outputs"),
        (lambda: Score("difference", (5,), (0,)).of(np.zeros((2, 5))), "more outputs than the 5"),
        (lambda: Score("reconstruction").of(np.zeros((2, 5))), "needs the inputs"),
        (lambda: Score("head").of(np.zeros((2, 1)), np.zeros((2, 1))), "takes no inputs"),
        (lambda: Score("reconstruction").of(np.zeros((2, 5)), np.zeros((2, 4))), "cannot reconstruct"),
        (lambda: Score("head").of(np.array([[0.0], [np.nan]])), "row 1"),
    ],
)
def test_refuses(make: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_plain_values_round_trip_and_words() -> None:
    score = Score("difference", (1, 3), (0, 2))
    assert Score.from_dict(score.to_dict()) == score
    assert score.describe(("q", "H", "g", "t")) == "max(z_H, z_t) - max(z_q, z_g)"
    assert Score("difference", (1,), (0,)).describe(("b", "s")) == "z_s - z_b"
