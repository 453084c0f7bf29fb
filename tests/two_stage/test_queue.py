"""The exact chain against closed forms, dense matrices and object-by-object simulation."""

import math

import numpy as np
import pytest

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import CollidingBunches, mask_from_values, named_filling
from trigger_prune.two_stage.monte_carlo import simulate_queue
from trigger_prune.two_stage.queue import least_overflow, solve_queue
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine

CONTINUOUS = BeamStructure.from_filling(named_filling("continuous"))


def geo_d_1_k_loss(p, service, depth):
    """Loss of Geo/D/1/K in slots, from the chain embedded at departures (what stays behind when an object leaves).

    Arrivals come at the start of a slot, behind the departure there. A busy engine sees ``service`` arrival slots, one
    that was idle ``service - 1`` after the object that woke it.
    """

    def binomial(n):
        return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] + [0.0] * (depth + 2)

    busy, woken = binomial(service), binomial(service - 1)
    left = [1.0]
    for k in range(depth):
        arriving = sum(left[j] * busy[k + 1 - j] for j in range(1, k + 1))
        left.append((left[k] - left[0] * woken[k] - arriving) / busy[0])
    empty = left[0] / sum(left)
    return 1 - 1 / (service + empty * (1 - p) / p) / p


@pytest.mark.parametrize("p", [0.02, 0.1, 0.24, 0.4])
@pytest.mark.parametrize("service", [2, 4, 7])
@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_continuous_beam_is_geo_d_1_k(p, service, depth):
    """Relative 1e-9; the closed form itself loses digits where losses are tiny, those it may not judge."""
    for multiple in (1, 9):
        found = solve_queue(CONTINUOUS, Arrivals.single(p), Engine(service * multiple, multiple, depth))
        wanted = geo_d_1_k_loss(p, service, depth)
        assert found.overflow_per_object == pytest.approx(wanted, rel=1e-9, abs=1e-13)
        assert found.overflow_per_crossing == pytest.approx(p * wanted, rel=1e-9, abs=1e-13)


def test_no_wait_room_and_one_long_service_is_erlang_like():
    """Without a FIFO the engine alternates: busy for m crossings, idle for a geometric time."""
    p, m = 0.3, 5
    found = solve_queue(CONTINUOUS, Arrivals.single(p), Engine(m, 1, 0))
    assert found.overflow_per_object == pytest.approx(1 - 1 / (p * (m + (1 - p) / p)), rel=1e-12)
    assert found.utilisation == pytest.approx(m / (m + (1 - p) / p), rel=1e-12)
    assert found.worst_wait_cycles == 0


def brute_force(filled, batch, engine):
    """Everything from dense one-cycle steps of (objects waiting, cycles left in service) and an eigenvector."""
    ii, multiple, depth = engine.ii_cycles, engine.clock_multiple, engine.fifo_depth
    states = [(0, 0)] + [(waiting, left) for waiting in range(depth + 1) for left in range(1, ii + 1)]
    index = {state: i for i, state in enumerate(states)}
    tick = np.zeros((len(states), len(states)))
    for (waiting, left), i in index.items():
        left = max(left - 1, 0)
        if left == 0 and waiting > 0:
            waiting, left = waiting - 1, ii
        tick[i, index[waiting, left]] = 1
    rest = np.linalg.matrix_power(tick, multiple)

    def join(state, size):
        waiting, left = state
        waits, lost = [], 0
        for _ in range(size):
            if left == 0:
                left = ii
                waits.append(0)
            elif waiting < depth:
                waits.append(left + waiting * ii)
                waiting += 1
            else:
                lost += 1
        return (waiting, left), waits, lost

    arrive = np.zeros_like(tick)
    for state, i in index.items():
        for size, probability in enumerate(batch):
            arrive[i, index[join(state, size)[0]]] += probability
    orbit = np.eye(len(states))
    for slot in filled:
        orbit = orbit @ (arrive if slot else np.eye(len(states))) @ rest
    system = np.vstack([orbit.T - np.eye(len(states)), np.ones(len(states))])
    state = np.linalg.lstsq(system, np.append(np.zeros(len(states)), 1.0), rcond=None)[0]
    possible = np.arange(len(states)) == 0
    for _ in range(200):
        possible |= possible @ orbit > 0
    worst = 0
    lost, crossings_lost, waits, waiting_by_slot = 0.0, 0.0, np.zeros(depth * ii + 1), []
    room = np.zeros(depth + 2)
    for slot in filled:
        if slot:
            for i, start in enumerate(states):
                room[depth + 1 - start[0] - (start[1] > 0)] += state[i]
                for size, probability in enumerate(batch):
                    _, own, gone = join(start, size)
                    lost += state[i] * probability * gone
                    crossings_lost += state[i] * probability * (gone > 0)
                    for wait in own:
                        waits[wait] += state[i] * probability
                        worst = max(worst, wait if possible[i] and probability else 0)
            state = state @ arrive
            possible = possible @ arrive > 0
        waiting_by_slot.append(sum(x * s[0] for x, s in zip(state, states, strict=True)))
        possible = possible @ rest > 0
        state = state @ rest
    n = sum(filled)
    return lost / n, crossings_lost / n, room / n, waits / waits.sum(), np.array(waiting_by_slot), worst


SMALL = [
    ([1, 1, 1, 0, 1, 1, 0, 0], (0.7, 0.3), Engine(5, 3, 2)),
    ([1, 0, 1, 1], (0.2, 0.5, 0.2, 0.1), Engine(4, 6, 3)),
    ([0, 1, 1, 1, 1, 0], (0.5, 0.2, 0.0, 0.3), Engine(3, 4, 1)),
    ([1], (0.6, 0.3, 0.1), Engine(4, 3, 2)),
    ([1], (0.3, 0.7), Engine(7, 5, 4)),
    ([1, 1, 0], (0.1, 0.2, 0.3, 0.4), Engine(2, 9, 0)),
    ([1, 0, 0, 1, 1, 1, 1, 1, 1, 1], (0.4, 0.6), Engine(6, 4, 3)),
]


@pytest.mark.parametrize(("filled", "batch", "engine"), SMALL)
def test_small_orbits_against_dense_matrices(filled, batch, engine):
    """A second formulation, cycle by cycle with objects instead of work, gives the same everywhere."""
    lost, crossings_lost, room, waits, waiting, worst = brute_force(filled, batch, engine)
    found = solve_queue(BeamStructure("small", np.array(filled, bool)), Arrivals(batch), engine)
    mean = sum(k * x for k, x in enumerate(batch))
    assert found.objects_per_crossing == pytest.approx(mean)
    assert found.overflow_per_object == pytest.approx(lost / mean, abs=1e-11)
    assert found.overflow_per_crossing == pytest.approx(crossings_lost, abs=1e-11)
    np.testing.assert_allclose(found.room_probability, room, atol=1e-11)
    spread = np.zeros_like(waits)
    spread[:: found.wait_step_cycles] = found.wait_probability
    np.testing.assert_allclose(spread, waits, atol=1e-11)
    np.testing.assert_allclose(found.mean_waiting, waiting, atol=1e-11)
    assert found.worst_wait_cycles == worst <= engine.wait_bound_cycles
    accepted = mean * (1 - found.overflow_per_object) * sum(filled)
    assert found.utilisation == pytest.approx(accepted * engine.ii_cycles / len(filled) / engine.clock_multiple)
    assert found.overflow_by_slot.sum() / sum(filled) == pytest.approx(found.overflow_per_object)
    assert not found.overflow_by_slot[~np.array(filled, bool)].any()
    assert found.mean_wait_cycles == pytest.approx(float(waits @ np.arange(len(waits))))


TRAINS = [
    ("72b", Arrivals.single(0.1), Engine(36, 9, 2), 7),
    ("36b", Arrivals.single(0.3), Engine(25, 9, 3), 2),
    ("48b", Arrivals.thinned([0.0] * 10 + [1.0], 0.12), Engine(7, 9, 8), 3),
]


@pytest.mark.parametrize(("name", "arrivals", "engine", "orbits"), TRAINS)
def test_trains_against_monte_carlo(name, arrivals, engine, orbits):
    """Loss per object and per crossing within three clustered errors, these below five percent, and the waits."""
    beam = BeamStructure.from_filling(named_filling(name))
    exact = solve_queue(beam, arrivals, engine)
    drawn = simulate_queue(beam, arrivals, engine, orbits=orbits, streams=128, seed=3, compiled=False)
    for value, wanted, error in (
        (drawn.overflow_per_object, exact.overflow_per_object, drawn.overflow_error),
        (drawn.overflow_per_crossing, exact.overflow_per_crossing, drawn.overflow_per_crossing_error),
    ):
        assert abs(value - wanted) < 3 * error < 0.15 * wanted
    waits = drawn.wait_counts / drawn.wait_counts.sum()
    cycles = np.arange(len(waits))
    assert set(np.flatnonzero(waits) % exact.wait_step_cycles) == {0}
    assert float(waits @ cycles) == pytest.approx(exact.mean_wait_cycles, rel=0.02)
    np.testing.assert_allclose(
        np.cumsum(waits[:: exact.wait_step_cycles]), np.cumsum(exact.wait_probability), atol=5e-3
    )


@pytest.mark.parametrize(("filled", "batch", "engine"), [SMALL[1], SMALL[2], SMALL[6]])
def test_small_orbits_against_monte_carlo(filled, batch, engine):
    """Orbits whose queue runs over into the next one."""
    beam = BeamStructure("small", np.array(filled, bool))
    exact = solve_queue(beam, Arrivals(batch), engine)
    drawn = simulate_queue(beam, Arrivals(batch), engine, 100, streams=500, seed=2, warm_up_orbits=20, compiled=False)
    deviation = abs(drawn.overflow_per_object - exact.overflow_per_object)
    assert deviation < 3 * drawn.overflow_error < 0.5 * exact.overflow_per_object


def test_numba_and_numpy_draw_the_same_numbers():
    """Integer for integer, waits included."""
    pytest.importorskip("numba", reason="numba comes with the extra generate")
    beam = BeamStructure.from_filling(named_filling("36b"))
    for _, arrivals, engine, _ in TRAINS:
        fast, plain = (
            simulate_queue(beam, arrivals, engine, orbits=1, streams=4, seed=1, compiled=compiled)
            for compiled in (True, False)
        )
        for name in ("offered", "lost", "crossings_with_loss", "wait_counts"):
            np.testing.assert_array_equal(getattr(fast, name), getattr(plain, name))


def test_a_user_mask_is_solved_slot_by_slot():
    """Isolated bunches never queue: nothing is lost, nothing waits; a pair loses exactly what comes second."""
    alone = BeamStructure.from_filling(mask_from_values("alone", [100, 200, 300]))
    engine = Engine(36, 9, 0)
    assert solve_queue(alone, Arrivals.single(0.4), engine).overflow_per_object == 0
    pair = BeamStructure.from_filling(mask_from_values("pair", [100, 101]))
    found = solve_queue(pair, Arrivals.single(0.4), engine)
    assert found.overflow_by_slot[[100, 101]] == pytest.approx([0, 0.4])
    assert found.overflow_per_object == pytest.approx(0.2)
    assert found.orbits == 1


def test_continuous_beam_bounds_the_trains():
    """Continuous beam loses most, the shorter the trains the less."""
    losses = [
        solve_queue(
            BeamStructure.from_filling(named_filling(name)), Arrivals.single(0.2), Engine(36, 9, 3)
        ).overflow_per_object
        for name in ("continuous", "72b", "48b", "36b")
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 1.05 * losses[-1]


def test_the_gap_does_not_matter_where_the_list_of_slots_starts():
    """Turning the mask turns the results, also for a FIFO that no gap empties."""
    filled = named_filling("72b").filled
    for engine in (Engine(36, 9, 2), Engine(35, 9, 120)):
        plain = solve_queue(BeamStructure("a", filled), Arrivals.single(0.25), engine)
        turned = solve_queue(BeamStructure("b", np.roll(filled, 1234)), Arrivals.single(0.25), engine)
        np.testing.assert_allclose(turned.overflow_by_slot, np.roll(plain.overflow_by_slot, 1234), rtol=1e-6)
        np.testing.assert_allclose(turned.mean_waiting, np.roll(plain.mean_waiting, 1234), rtol=1e-9)
    assert plain.orbits > 1


def test_an_overloaded_fifo_serves_without_a_pause():
    """Far too much work, and no gap empties the FIFO: what is not lost is what the engine can do in an orbit."""
    beam = BeamStructure("short", np.array([True] * 41 + [False] * 6))
    arrivals = Arrivals.thinned([0.0] * 10 + [1.0], 0.1)
    for ii in (36, 25):
        engine = Engine(ii, 9, 40)
        found = solve_queue(beam, arrivals, engine)
        assert found.overflow_per_object == pytest.approx(1 - 47 * 9 / ii / 41, rel=1e-6)
        assert least_overflow(beam, arrivals, engine) == pytest.approx(1 - 47 * 9 / ii / 41)
        assert found.utilisation == pytest.approx(1, rel=1e-6) and found.offered_load == pytest.approx(ii / 9)
    assert least_overflow(beam, arrivals, Engine(9, 9, 40)) == 0


def test_tiny_losses_keep_their_digits():
    """Losses far below what Monte Carlo or a linear solver sees: log-linear in the depth."""
    losses = [
        solve_queue(CONTINUOUS, Arrivals.single(0.1), Engine(36, 9, depth)).overflow_per_object
        for depth in (20, 24, 28, 32)
    ]
    steps = np.diff(np.log(losses))
    assert losses[-1] < 1e-17
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_orbits_and_elimination_agree(monkeypatch):
    """Continuous beam orbit by orbit reaches what the linear system says; the shifts do what the products do."""
    arrivals, engine = Arrivals.thinned([0, 0.2, 0.3, 0.5], 0.3), Engine(11, 9, 12)
    direct = solve_queue(CONTINUOUS, arrivals, engine)
    monkeypatch.setattr("trigger_prune.two_stage.queue.MAX_ELIMINATED", 0)
    monkeypatch.setattr("trigger_prune.two_stage.chain.PRODUCT_PER_SHIFT", 0)
    monkeypatch.setattr("trigger_prune.two_stage.chain.CHUNK_NUMBERS", 1000)
    stepped = solve_queue(CONTINUOUS, arrivals, engine)
    assert direct.orbits == 0 < stepped.orbits
    assert stepped.overflow_per_object == pytest.approx(direct.overflow_per_object, rel=1e-7)
    np.testing.assert_allclose(stepped.wait_probability, direct.wait_probability, rtol=1e-6)
    np.testing.assert_allclose(stepped.mean_waiting, direct.mean_waiting, rtol=1e-8)


def test_wait_quantiles():
    """Half of the objects meet an idle engine, the rest waits."""
    found = solve_queue(
        BeamStructure("two", np.array([True] + [False] * 9)), Arrivals((0.5, 0.0, 0.5)), Engine(6, 4, 1)
    )
    assert found.wait_quantile_cycles(0.5) == 0
    assert found.wait_quantile_cycles(0.51) == 6 == found.worst_wait_cycles


def test_thinning_is_binomial():
    """Three objects kept with 0.2; a crossing with none stays empty."""
    found = Arrivals.thinned([0.5, 0, 0, 0.5], 0.2)
    wanted = [0.5 + 0.5 * 0.512, 0.5 * 3 * 0.2 * 0.64, 0.5 * 3 * 0.04 * 0.8, 0.5 * 0.008]
    assert found.batch_probability == pytest.approx(wanted)
    assert found.mean == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Arrivals((0.5, 0.4)), "add up to 0.9"),
        (lambda: Arrivals((1.0, 0.0)), "nothing|no crossing"),
        (lambda: Arrivals((1.5, -0.5)), "numbers >= 0"),
        (lambda: Arrivals((0.5, *[0.0] * 16, 0.5)), "at most 16"),
        (lambda: Arrivals.thinned([0, 1], 1.2), "1.2"),
        (lambda: BeamStructure("x", np.zeros(5, bool)), "no slot"),
        (lambda: BeamStructure("x", np.ones(5)), "booleans"),
        (lambda: simulate_queue(CONTINUOUS, Arrivals.single(0.1), Engine(9, 9, 1), orbits=0), "orbits"),
        (lambda: solve_queue(CONTINUOUS, Arrivals.single(1.0), Engine(10, 9, 3)), "full for ever"),
    ],
)
def test_bad_input(make, message):
    """Every refusal says what is wrong."""
    with pytest.raises(DataError, match=message):
        make()


def test_bad_configuration():
    """Engines that cannot be, and a beam without a pattern."""
    for wrong in ((0, 9, 1), (9, 0, 1), (9, 9, -1)):
        with pytest.raises(ConfigError):
            Engine(*wrong)
    with pytest.raises(ConfigError, match="continuous is a safe"):
        BeamStructure.from_filling(CollidingBunches(2760))
