import math

import pytest

from trigger_prune.prune.schedule import density_between, next_density


@pytest.mark.parametrize("ratio", [1.0001, 1.1, 2.0, 50.0, math.inf])
@pytest.mark.parametrize("previous", [None, (0.8, 60.0), (0.8, math.inf), (0.5, 60.0), (0.8, 0.5)])
def test_every_round_makes_progress_and_no_round_cuts_too_deep(
    ratio: float, previous: tuple[float, float] | None
) -> None:
    density = next_density(0.5, ratio, previous, 0.6)
    assert 0.6 * 0.5 <= density <= 0.97 * 0.5


@pytest.mark.parametrize("power", [0.5, 0.7, 1.0, 1.3, 1.7, 2.0])
@pytest.mark.parametrize("first_ratio", [1.01, 1.1, 1.3, 1.5, 1.8, 2.0, 2.5, 3.0, 5.0])
def test_reaches_the_budget_without_much_overshoot(power: float, first_ratio: float) -> None:
    """Costs that follow a power of the density; the first round is at density 0.5."""
    rounds, density, ratio = 1, 0.5, first_ratio
    previous: tuple[float, float] | None = None
    while ratio > 1.0:
        following = next_density(density, ratio, previous, 0.6)
        previous = (density, ratio)
        density, ratio = following, first_ratio * (following / 0.5) ** power
        rounds += 1
    fewest = math.ceil(math.log(first_ratio) / (power * -math.log(0.6)))  # full cuts only
    assert rounds <= max(3, fewest + 3)
    if first_ratio <= 3:
        assert rounds <= 8
    assert ratio >= 0.7


@pytest.mark.parametrize("power", [0.5, 1.0, 2.7])
def test_the_density_between_two_networks_is_exact_for_a_power_law(power: float) -> None:
    def cost(density: float) -> float:
        return 30.0 * density**power

    above = 0.9
    below = 0.001
    wanted = density_between((above, cost(above)), (below, cost(below)), margin=0.97)
    assert cost(wanted) == pytest.approx(0.97, rel=1e-9)


def test_the_density_between_stays_between() -> None:
    assert density_between((0.4, 1.2), (0.3, 0.99)) == pytest.approx(0.3)
    assert density_between((0.4, 1.2), (0.3, 0.0)) == 0.3
    assert density_between((0.3, 1.2), (0.3, 0.9)) == 0.3
    assert 0.3 < density_between((0.4, 1.2), (0.3, 0.5)) < 0.4
