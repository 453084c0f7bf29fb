import math
import re

import numpy as np
import pytest
from scipy import stats

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.prune.lottery.conditions import paired_difference, three_condition_verdict


@pytest.mark.parametrize("confidence", [0.68, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 11])
def test_the_interval_is_scipys(n: int, confidence: float) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.7, 0.01, n), rng.normal(0.69, 0.02, n)
    found = paired_difference(first.tolist(), second.tolist(), ("a", "b"), confidence)
    wanted = stats.ttest_rel(first, second).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert found.mean == pytest.approx(np.mean(first - second), abs=1e-12)
    assert found.values == pytest.approx((first - second).tolist())


def test_a_difference_common_to_all_seeds_is_seen_below_their_scatter() -> None:
    # seeds scatter by 0.05, the difference by 0.001: pairing finds 0.005, unpaired samples would not
    rng = np.random.default_rng(1)
    level = rng.normal(0.7, 0.05, 6)
    first, second = level + 0.005 + rng.normal(0, 0.001, 6), level
    assert paired_difference(first.tolist(), second.tolist(), ("a", "b")).sign == 1
    assert stats.ttest_ind(first, second).pvalue > 0.5


def test_one_seed_and_equal_differences() -> None:
    one = paired_difference([0.5], [0.4], ("a", "b"))
    assert one.mean == pytest.approx(0.1) and math.isnan(one.low) and one.sign == 0
    same = paired_difference([2.0, 3.0], [1.0, 2.0], ("a", "b"))
    assert (same.low, same.high, same.sign) == (1.0, 1.0, 1)
    assert paired_difference([2.0, 3.0], [2.0, 3.0], ("a", "b")).sign == 0


def test_figures_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="a has 2 seeds, b 1"):
        paired_difference([1.0, 2.0], [1.0], ("a", "b"))
    with pytest.raises(DataError, match="not finite"):
        paired_difference([1.0, math.nan], [1.0, 2.0], ("a", "b"))
    with pytest.raises(ConfigError, match="confidence"):
        paired_difference([1.0, 2.0], [1.0, 1.0], ("a", "b"), 1.0)


DENSE = [0.75, 0.76, 0.74, 0.75, 0.77, 0.75]
NOISE = {
    "ticket": [0.001, -0.001, 0.0005, 0.0, -0.0005, 0.0008],
    "redrawn": [-0.0005, 0.001, 0.0, -0.001, 0.0008, 0.0005],
    "random": [0.0, 0.0005, -0.001, 0.0008, 0.001, -0.0005],
}


def shifted(condition: str, by: float, n: int = 6) -> list[float]:
    """Merits that lie ``by`` above the dense network's but for noise of a mean well below its scatter."""
    return [value + by + noise for value, noise in zip(DENSE[:n], NOISE[condition], strict=False)]


@pytest.mark.parametrize(
    ("ticket", "redrawn", "random", "outcome", "words"),
    [
        (0.0, -0.02, -0.03, "winning", "Winning ticket: over 6 seeds .* No difference to the dense network is shown"),
        (0.01, -0.02, -0.03, "winning", "It is better than the dense network"),
        (-0.02, -0.04, -0.05, "below_dense", "no winning ticket.* It falls short of the dense network"),
        (-0.02, -0.02, -0.05, "mask", "The mask matters"),
        (-0.02, -0.05, -0.02, "weights", "The early weights matter"),
        (0.0, 0.0, 0.0, "no_difference", "No lottery ticket is shown"),
        (-0.02, 0.0, -0.05, "worse", "a control is better"),
        (-0.02, -0.05, 0.0, "worse", "a control is better"),
    ],
)
def test_known_differences_give_the_known_verdict(
    ticket: float, redrawn: float, random: float, outcome: str, words: str
) -> None:
    found = three_condition_verdict(
        shifted("ticket", ticket), shifted("redrawn", redrawn), shifted("random", random), DENSE
    )
    assert found.outcome == outcome
    assert re.search(words, found.text), found.text
    assert found.against_random.mean == pytest.approx(ticket - random, abs=0.001)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_than_five_seeds_are_no_verdict(n: int) -> None:
    found = three_condition_verdict(
        shifted("ticket", 0.0, n), shifted("redrawn", -0.1, n), shifted("random", -0.1, n), DENSE[:n]
    )
    assert found.outcome == "too_few_seeds"
    assert found.text == f"Not a verdict: {n} of at least 5 seeds; set lottery.seeds."


def test_a_ticket_rewound_to_late_weights_gets_no_verdict() -> None:
    merits = [shifted("ticket", 0.0), shifted("redrawn", -0.1), shifted("random", -0.1), DENSE]
    assert three_condition_verdict(*merits, rewound_to=0.25).outcome == "winning"
    found = three_condition_verdict(*merits, rewound_to=0.95)
    assert found.outcome == "late_rewind"
    assert found.text.startswith("Not a verdict: the ticket is rewound to 95 % of the training")
    assert found.against_redrawn.sign == 1


def test_the_verdict_is_wrong_as_rarely_as_its_confidence_says() -> None:
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(600):
        level = rng.normal(0.7, 0.02, 5)
        ticket, redrawn = level + rng.normal(0, 0.003, (2, 5))
        wrong += paired_difference(ticket.tolist(), redrawn.tolist(), ("a", "b"), 0.9).sign != 0
    # 10 % of 600, four standard deviations
    assert abs(wrong - 60) < 30
