import math

import numpy as np
import pytest
import torch
from test_fine_tune import events, masks, network, settings

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.prune.fine_tune import RampPlan, ramp
from trigger_prune.prune.search import largest_sparsity, search_sparsity
from trigger_prune.structure.masks import masked_fraction
from trigger_prune.train.evaluate import evaluate


@pytest.mark.parametrize("resolution", [0.1, 0.01, 1e-4])
@pytest.mark.parametrize("tolerance", [0.0, 0.003, 0.02, 0.3])
@pytest.mark.parametrize("power", [0.5, 1, 4, 20])
def test_finds_the_crossing_of_a_closed_form(power: float, tolerance: float, resolution: float) -> None:
    tried: list[float] = []

    def merit(sparsity: float) -> tuple[float, str]:
        tried.append(sparsity)
        return -(sparsity**power), f"at {sparsity}"

    result = largest_sparsity(merit, tolerance, 0.0, resolution)
    exact = tolerance ** (1 / power)
    assert result.best is not None and result.best.state == f"at {result.best.sparsity}"
    assert exact - resolution <= result.best.sparsity <= exact + 1e-9
    assert [trial.sparsity for trial in result.trials] == tried and len(set(tried)) == len(tried)
    assert len(tried) <= 2 + math.ceil(math.log2(1 / resolution))
    # every half of the bracket is between an accepted and a rejected sparsity
    inside, outside = 0.0, 1.0
    for trial in result.trials[1:]:
        if trial.sparsity == 0.0:
            continue
        assert trial.sparsity == (inside + outside) / 2 and trial.accepted == (trial.sparsity**power <= tolerance)
        inside, outside = (trial.sparsity, outside) if trial.accepted else (inside, trial.sparsity)
    assert outside - inside <= resolution


def test_the_highest_is_tried_first_and_is_enough() -> None:
    result = largest_sparsity(lambda s: (1.0, None), 0.0, 1.0, 0.01, highest=0.97)
    assert [trial.sparsity for trial in result.trials] == [0.97] and result.best == result.trials[0]


def test_the_lowest_is_tried_when_nothing_else_holds() -> None:
    result = largest_sparsity(lambda s: (1.0 if s <= 0.25 else 0.0, None), 0.1, 1.0, 0.3, lowest=0.25)
    assert result.best is not None and result.best.sparsity == 0.25 == result.trials[-1].sparsity
    nothing = largest_sparsity(lambda s: (math.nan, None), 0.1, 1.0, 0.3)
    assert nothing.best is None and nothing.trials[-1].sparsity == 0.0
    alone = largest_sparsity(lambda s: (0.0, None), 0.1, 1.0, 0.3, lowest=0.5, highest=0.5)
    assert alone.best is None and len(alone.trials) == 1


def test_a_merit_that_is_not_monotone_gives_an_accepted_edge() -> None:
    """Accepted up to 0.2 and again from 0.55 to 0.8: either is an answer, and nothing rejected ever is."""

    def merit(sparsity: float) -> tuple[float, None]:
        return (1.0 if sparsity <= 0.2 or 0.55 <= sparsity <= 0.8 else 0.0), None

    found = set()
    for highest in np.linspace(0.81, 1.0, 20):
        result = largest_sparsity(merit, 0.1, 1.0, 0.01, highest=float(highest))
        best = result.best
        assert best is not None and best.accepted and merit(best.sparsity)[0] == 1.0
        above = [trial.sparsity for trial in result.trials if not trial.accepted and trial.sparsity > best.sparsity]
        assert 0 < min(above) - best.sparsity <= 0.01
        found.add(round(best.sparsity, 1))
    assert found <= {0.2, 0.8} and found


@pytest.mark.parametrize(
    ("tolerance", "resolution", "lowest", "highest"),
    [
        (-0.1, 0.1, 0, 1),
        (math.nan, 0.1, 0, 1),
        (0.1, 0.0, 0, 1),
        (0.1, 0.1, 0.6, 0.5),
        (0.1, 0.1, -0.1, 1),
        (0.1, 0.1, 0, 1.1),
    ],
)
def test_bounds_without_meaning_are_refused(tolerance: float, resolution: float, lowest: float, highest: float) -> None:
    with pytest.raises(ConfigError, match="search for the sparsity"):
        largest_sparsity(lambda s: (1.0, None), tolerance, 1.0, resolution, lowest=lowest, highest=highest)


def test_a_search_trains_copies_and_keeps_the_sparsest_within_the_tolerance() -> None:
    net = network()
    ramp(net, events(), events(), settings(15), RampPlan(0.2))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    result = search_sparsity(net, events(), events(), settings(6), RampPlan(0.0, scope="layer"), 0.1, resolution=0.1)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert result.baseline == evaluate(net, events(), "classify").merit
    n = masks(net).numel()
    for trial in result.trials:
        pruned = trial.state.network
        assert abs(masked_fraction(pruned) - trial.sparsity) <= 1 / n
        assert evaluate(pruned, events(), "classify").merit == pytest.approx(trial.merit, abs=1e-6)
        assert trial.accepted == (result.baseline - trial.merit <= 0.1)
        # weights gone before stay gone
        assert bool((masks(pruned) <= masks(net)).all())
    assert any(not trial.accepted for trial in result.trials)
    assert result.best.sparsity == max(trial.sparsity for trial in result.trials if trial.accepted) > 0.3


def test_a_tolerance_that_nothing_meets_says_how_near_it_came() -> None:
    with pytest.raises(ModelError, match=r"no sparsity from 0 to 0\.9 keeps the merit"):
        search_sparsity(
            network(), events(), events(), settings(1), RampPlan(0.0), 0.1, baseline=5.0, resolution=0.5, highest=0.9
        )


def test_there_is_nothing_to_search_when_every_layer_has_its_own_sparsity() -> None:
    plan = RampPlan(0.0, layer_sparsity={"0": 0.5, "2": 0.5})
    with pytest.raises(ConfigError, match="names every layer"):
        search_sparsity(network(), events(), events(), settings(1), plan, 0.1)
