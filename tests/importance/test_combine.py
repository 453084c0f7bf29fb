"""Combinations of criteria against scipy's ranks, and the expressions that describe them."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from scored_networks import MIXED_LAYERS, events, mixed_network, mlp_network

from trigger_prune.errors import ConfigError
from trigger_prune.importance import Combine, Movement, Term, criterion_by_name, score_groups
from trigger_prune.importance._base import Accumulating
from trigger_prune.importance.combine import ranks
from trigger_prune.importance.random_score import RandomScore
from trigger_prune.quantize.graph import trace
from trigger_prune.structure._base import Groups


def single_ranks(name: str, by_layer: bool) -> dict[str, np.ndarray]:
    """rankdata / n over the kept weights of all layers, or of each; zero at masked weights."""
    network, data = mixed_network(), events((2, 8, 8), 60)
    scores = criterion_by_name(name, with_data=True).score(network, MIXED_LAYERS, data)
    masks = {layer: network.get_submodule(layer).weight_mask.numpy() != 0 for layer in MIXED_LAYERS}
    kept = {layer: scores[layer].numpy()[masks[layer]] for layer in MIXED_LAYERS}
    joined = rankdata(np.concatenate(list(kept.values()))) / sum(map(len, kept.values()))
    ends = np.cumsum([len(v) for v in kept.values()])[:-1]
    over_all = dict(zip(MIXED_LAYERS, np.split(joined, ends), strict=True))
    result = {}
    for layer in MIXED_LAYERS:
        result[layer] = np.zeros(masks[layer].shape)
        result[layer][masks[layer]] = rankdata(kept[layer]) / len(kept[layer]) if by_layer else over_all[layer]
    return result


@pytest.mark.parametrize("by_layer", [False, True])
def test_weighted_mean_and_product_of_ranks(by_layer: bool) -> None:
    fisher, wanda, apoz = (single_ranks(name, by_layer) for name in ("taylor_fisher", "wanda", "apoz"))
    suffix = " by layer" if by_layer else ""
    for text, expected in (
        ("taylor_fisher + 2 wanda", lambda k: (fisher[k] + 2 * wanda[k]) / 3),
        ("taylor_fisher * wanda", lambda k: fisher[k] * wanda[k]),
        ("0.5 * taylor_fisher*apoz+1.5wanda", lambda k: (0.5 * fisher[k] * apoz[k] + 1.5 * wanda[k]) / 2),
    ):
        criterion = criterion_by_name(text + suffix, with_data=True)
        scores = criterion.score(mixed_network(), MIXED_LAYERS, events((2, 8, 8), 60))
        assert list(scores) == MIXED_LAYERS
        for layer in MIXED_LAYERS:
            np.testing.assert_allclose(scores[layer].numpy(), expected(layer), rtol=1e-12, atol=0)


def test_ranks_are_over_the_whole_network_whatever_is_asked_for() -> None:
    data = events((2, 8, 8), 60)
    criterion = criterion_by_name("magnitude_l1 + wanda", with_data=True)
    whole = criterion.score(mixed_network(), MIXED_LAYERS, data)
    alone = criterion.score(mixed_network(), ["left"], data)
    assert torch.equal(alone["left"], whole["left"]) and list(alone) == ["left"]


def test_scores_equal_but_for_the_order_of_summation_share_their_rank() -> None:
    """Twin weights differ in the last digit with the batch size; a rank must not."""
    close = torch.tensor([0.3, 0.3 * (1 + 1e-15), 0.3 * (1 + 1e-7), -torch.inf, 0.1], dtype=torch.float64)
    assert ranks(close).tolist() == [0.7, 0.7, 1.0, 0.2, 0.4]
    network = mlp_network()
    with torch.no_grad():
        network[3].weight[1] = network[3].weight[0]
        network[3].bias[1] = network[3].bias[0]
    data = events((5,), 150)
    criterion = criterion_by_name("wanda + magnitude_l1", with_data=True)
    whole = criterion.score(network, ["0", "3"], data)
    for size in (7, 64):
        parts = criterion.score(network, ["0", "3"], type(data)(data.batches, data.task, size))
        assert all(torch.equal(parts[layer], whole[layer]) for layer in whole)
    kept = network[3].weight_mask[0] == network[3].weight_mask[1]
    assert torch.equal(whole["3"][0, kept], whole["3"][1, kept])


def test_names_read_back_as_the_same_combination() -> None:
    for text in ("taylor_fisher + 2 wanda", "lamp * wanda by layer", "0.25 lamp + random * wanda * apoz"):
        assert criterion_by_name(text, with_data=True).name == text
        again = criterion_by_name(criterion_by_name(text, with_data=True).name, with_data=True)
        assert again == criterion_by_name(text, with_data=True)


def test_data_is_needed_when_one_criterion_needs_it() -> None:
    assert criterion_by_name("lamp + 2 magnitude_l1").score(mlp_network(), ["0"])["0"].shape == (6, 5)
    with pytest.raises(ConfigError, match=r"'wanda' needs events.*\(in 'lamp \+ wanda'\)"):
        criterion_by_name("lamp + wanda")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("taylor_fisher + 2 wnda", r"unknown importance criterion 'wnda'; did you mean 'wanda'\? \(in 'taylor"),
        ("lamp wanda", "'wanda' does not belong there"),
        ("lamp + + wanda", r"'\+' does not belong there"),
        ("lamp +", "the end does not belong there"),
        ("* lamp", r"'\*' does not belong there"),
        ("lamp * 2", "'2' does not belong there"),
        ("lamp * 2 wanda", "'2' does not belong there"),
        ("2 3 lamp", "'3' does not belong there"),
        ("2 * * lamp", r"'\*' does not belong there"),
        ("lamp - wanda", "'-' does not belong there"),
        ("0 lamp + wanda", "'0' does not belong there; a weight is above zero"),
        ("(lamp + wanda)", r"'\(' does not belong there"),
        ("", "the end does not belong there"),
        ("3", "the end does not belong there"),
        ("lamp by layer wanda", "'by' does not belong there"),
    ],
)
def test_what_is_wrong_with_an_expression_is_named(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        criterion_by_name(text, with_data=True)


def test_combinations_made_by_hand() -> None:
    network = mlp_network()
    one, two = RandomScore(seed=1), RandomScore(seed=2)
    scores = Combine((Term((one,)), Term((two,), 3.0))).score(network, ["0", "3"])
    ranked = [Combine((Term((each,)),)).score(network, ["0", "3"]) for each in (one, two)]
    for layer in scores:
        torch.testing.assert_close(scores[layer], (ranked[0][layer] + 3 * ranked[1][layer]) / 4, rtol=1e-12, atol=0)
    with pytest.raises(ConfigError, match="needs a criterion in every term"):
        Combine(())
    with pytest.raises(ConfigError, match="weight -1 of 'random'"):
        Combine((Term((one,), -1.0),))


def test_groups_are_ranked_as_groups_by_each_criterions_own_rule() -> None:
    network = trace(mlp_network())
    with torch.no_grad():
        network.get_submodule("0").weight_mask[4] = 0
    ids = {"0": torch.arange(6).unsqueeze(1).expand(6, 5), "3": torch.full((3, 6), -1)}
    ids["3"][:, 2] = 6
    groups = Groups("some", ids, 7)
    data = events((5,), 60)
    scores = score_groups(criterion_by_name("magnitude_l2 + 2 apoz", with_data=True), network, groups, data).numpy()
    kept = np.arange(7) != 4
    expected = np.zeros(7)
    for name, weight in (("magnitude_l2", 1), ("apoz", 2)):
        single = score_groups(criterion_by_name(name, with_data=True), network, groups, data).numpy()
        expected[kept] += weight * rankdata(single[kept]) / 6 / 3
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    by_layer = score_groups(criterion_by_name("lamp + lamp by layer", with_data=True), network, groups, data)
    assert float(by_layer[6]) == 1.0 and float(by_layer[:6].max()) == 1.0


def test_a_combination_with_movement_watches_the_training() -> None:
    network = mlp_network()
    criterion = criterion_by_name("movement + magnitude_l1")
    assert isinstance(criterion, Accumulating)
    x = events((5,), 64).batches.features
    with criterion.watch(network) as seen, Movement(network) as movement:
        network(x).square().sum().backward()
        expected = Combine((Term((movement,)), Term((criterion_by_name("magnitude_l1"),))))
        for layer, values in seen.score(network, ["0", "3"]).items():
            assert torch.equal(values, expected.score(network, ["0", "3"])[layer])
            assert not torch.equal(values, criterion.score(network, ["0", "3"])[layer])
