import itertools

import pytest
import torch
from lottery_networks import events, network, settings
from torch import Tensor, nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.prune.lottery.early_bird import EarlyBirdSearch, find_early_bird, hamming_distance, mask_distance
from trigger_prune.prune.lottery.masks import full_masks, magnitude_masks
from trigger_prune.prune.lottery.training import network_state, train_steps


def masks(kept: set[int], n: int = 40) -> dict[str, Tensor]:
    flat = torch.tensor([index in kept for index in range(n)])
    return {"a": flat[:30].reshape(5, 6), "b": flat[30:].reshape(2, 5)}


def brute_force(first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[float, float]:
    one, two = ([bool(x) for mask in of.values() for x in mask.flatten().tolist()] for of in (first, second))
    differing = sum(a != b for a, b in zip(one, two, strict=True))
    return differing / len(one), differing / min(len(one), sum(one) + sum(two))


def test_distances_against_counting_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for size_a, size_b in itertools.product((1, 4, 20, 33, 40), repeat=2):
        drawn = [set(torch.randperm(40, generator=generator)[:size].tolist()) for size in (size_a, size_b)]
        first, second = masks(drawn[0]), masks(drawn[1])
        assert (hamming_distance(first, second), mask_distance(first, second)) == brute_force(first, second)
        assert hamming_distance(first, first) == mask_distance(first, first) == 0.0


def test_sparse_masks_that_share_nothing_are_far_apart() -> None:
    first, second = masks({0, 1}), masks({2, 3})
    # 95 % sparsity: the paper's distance is no more than its own threshold
    assert hamming_distance(first, second) == pytest.approx(0.1)
    assert mask_distance(first, second) == 1.0
    # at 50 % sparsity they are the same
    half, other = masks(set(range(20))), masks(set(range(5, 25)))
    assert hamming_distance(half, other) == mask_distance(half, other) == 0.25


def test_masks_of_different_networks_have_no_distance() -> None:
    with pytest.raises(ModelError, match="no distance"):
        mask_distance(masks({1}), {"a": masks({1})["a"]})


def scripted(kept: set[int]) -> nn.Module:
    """A network whose magnitude mask at 75 % sparsity keeps exactly these weights."""
    net = nn.Sequential(nn.Linear(8, 5, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([2.0 if index in kept else 1.0 for index in range(40)]).reshape(5, 8))
    return net


def test_the_search_ends_when_a_full_window_of_distances_is_small() -> None:
    base = set(range(10))
    moves = [0, 3, 1, 0, 4, 1, 1, 0, 2, 0]  # weights exchanged at each epoch; one of them is a distance of 0.1
    search = EarlyBirdSearch(0.75, threshold=0.15, window=3)
    ends, fresh = [], itertools.count(10)
    for move in moves:
        for _ in range(move):
            base.remove(min(base))
            base.add(next(fresh))
        ends.append(search.see(scripted(set(base))))
    assert search.distances == pytest.approx([m / 10 for m in moves[1:]])
    wanted = [i >= 3 and max(moves[i - 2 : i + 1]) < 1.5 for i in range(len(moves))]
    assert ends == wanted and wanted.index(True) == 7
    assert search.masks is not None and set(search.masks["0"].flatten().nonzero().flatten().tolist()) == base


def test_the_ticket_has_mask_and_weights_of_the_epoch_that_ended_the_search() -> None:
    chosen = settings(12)
    search = EarlyBirdSearch(0.5, threshold=0.12, window=2)
    told: list[float] = []
    found = find_early_bird(network(), events(), chosen, search, start_step=3, on_epoch=told.append)
    assert found.settled and 3 <= found.epochs < 12 and len(told) == found.epochs
    assert max(found.distances[-2:]) < 0.12
    # no window before that one was small
    assert all(max(found.distances[i : i + 2]) >= 0.12 for i in range(len(found.distances) - 2))
    # every epoch's mask drawn from a training of its own, which stops there
    drawn = []
    for epoch in range(1, found.epochs + 1):
        net = network()
        train_steps(net, events(), chosen, stop=7 * epoch)
        drawn.append(magnitude_masks(net, full_masks(net), 0.5, "global"))
    assert found.distances == pytest.approx([mask_distance(a, b) for a, b in itertools.pairwise(drawn)])
    assert all(torch.equal(found.ticket.masks[name], drawn[-1][name]) for name in drawn[-1])
    state = network_state(net)
    assert all(torch.equal(found.ticket.state[name], state[name]) for name in state)
    assert (found.ticket.search_steps, found.ticket.start_step) == (7 * found.epochs, 3)


def test_a_mask_that_does_not_settle_is_said_so() -> None:
    found = find_early_bird(network(), events(), settings(3), EarlyBirdSearch(0.5, threshold=1e-6, window=5))
    assert not found.settled and found.epochs == 3 and found.ticket.search_steps == 21


@pytest.mark.parametrize(("threshold", "window"), [(0.0, 5), (1.0, 5), (0.1, 0)])
def test_senseless_searches_are_refused(threshold: float, window: int) -> None:
    with pytest.raises(ConfigError, match="makes no sense"):
        EarlyBirdSearch(0.5, "global", threshold, window)
