"""The order of the layers of a problem: producers first, else as the menus stand."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.errors import ConfigError
from trigger_prune.prune.budget.options import EdgeCost, LayerMenu, Option, Problem

STAY = (Option("stay", 0.0),)


def menus(count: int) -> tuple[LayerMenu, ...]:
    return tuple(LayerMenu(f"layer{number}", STAY) for number in range(count))


@pytest.mark.parametrize("seed", range(30))
def test_the_first_layer_whose_producers_are_done_comes_next(seed: int) -> None:
    draws = np.random.default_rng(seed)
    count = int(draws.integers(1, 12))
    place = draws.permutation(count)
    pairs = [(a, b) for a in range(count) for b in range(count) if place[a] < place[b] and draws.random() < 0.3]
    problem = Problem(menus(count), tuple(EdgeCost(f"layer{a}", f"layer{b}") for a, b in pairs))
    expected: list[int] = []
    while len(expected) < count:
        left = [layer for layer in range(count) if layer not in expected]
        expected.append(next(layer for layer in left if all(a in expected for a, b in pairs if b == layer)))
    assert problem.order() == tuple(f"layer{layer}" for layer in expected)


def test_a_cycle_is_named() -> None:
    edges = (EdgeCost("layer0", "layer1"), EdgeCost("layer1", "layer2"), EdgeCost("layer2", "layer1"))
    with pytest.raises(ConfigError, match=r"a cycle through \['layer1', 'layer2'\]"):
        Problem(menus(3), edges)
