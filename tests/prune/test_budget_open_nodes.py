"""The open nodes of a tree against a sorted list, and ties among the options of layers without a neighbour."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.prune.budget import open_nodes
from trigger_prune.prune.budget.label_bounds import Step
from trigger_prune.prune.budget.node_bounds import NodeBounds
from trigger_prune.prune.budget.open_nodes import OpenNodes


@pytest.mark.parametrize("seed", range(6))
def test_the_nodes_with_the_smallest_bounds_are_taken_and_no_node_is_lost(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_nodes, "FIRST", 4)
    rng = np.random.default_rng(seed)
    nodes = OpenNodes(8, 2)
    truth: list[tuple[float, tuple[bool, ...], tuple[float, ...]]] = []
    assert nodes.lowest() == np.inf and not len(nodes)
    for _ in range(60):
        count = int(rng.integers(0, 9))
        bound, mask, prices = rng.random(count), rng.random((count, 8)) < 0.5, rng.random((count, 2))
        nodes.add(bound, mask, prices)
        truth += zip(bound.tolist(), map(tuple, mask.tolist()), map(tuple, prices.tolist()), strict=True)
        truth.sort()
        assert len(nodes) == len(truth) and nodes.lowest() == (truth[0][0] if truth else np.inf)
        if truth:
            most = int(rng.integers(1, 9))
            masks, taken = nodes.take(most)
            wanted, truth = truth[:most], truth[most:]
            assert sorted(map(tuple, taken.tolist())) == sorted(node[2] for node in wanted)
            assert {tuple(p): tuple(m) for p, m in zip(taken.tolist(), masks.tolist(), strict=True)} == {
                node[2]: node[1] for node in wanted
            }
    left = np.array([1, 4, 5])
    nodes.restrict(left)
    masks, taken = nodes.take(10**6)
    assert {tuple(p): tuple(m) for p, m in zip(taken.tolist(), masks.tolist(), strict=True)} == {
        node[2]: tuple(np.array(node[1])[left].tolist()) for node in truth
    }
    assert not len(nodes)


def test_of_equal_options_one_is_taken_and_costs_are_its_own() -> None:
    """Without prices both options of a layer cost the same; a plan has one of them, not the sum of both."""
    spent = [
        np.array([[[1.0, 5.0], [1.0, 7.0]]]),  # [frontier, option, (loss, limited quantity)]
        np.array([[[2.0, 3.0], [2.0, 4.0], [9.0, 0.0]]]),
        np.array([[[0.5, 1.0]]]),
    ]
    steps = [
        Step(table, np.zeros(table.shape[:2], dtype=np.int64), np.ones(table.shape[:2], dtype=bool), True)
        for table in spent
    ]
    bounds = NodeBounds(steps, np.array([100.0]))
    masks = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 1], [1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]], dtype=bool)
    met: list[tuple[tuple[int, ...], float]] = []

    def hear(choice: np.ndarray, loss: np.ndarray) -> None:
        met.extend(zip(map(tuple, choice.T.tolist()), loss.tolist(), strict=True))

    found = bounds.bound(masks, np.zeros((4, 1)), lambda: 1e6, 1, hear)
    assert found.node.tolist() == [0, 1, 2]  # the last one has no option left in the first layer
    assert found.value.tolist() == [3.5, 3.5, 10.5]
    assert met == [((0, 0, 0), 3.5), ((1, 0, 0), 3.5), ((0, 2, 0), 10.5)]
    assert found.share.tolist() == [[1, 0, 1, 0, 0, 1], [0, 1, 1, 0, 0, 1], [1, 0, 0, 0, 1, 1]]
