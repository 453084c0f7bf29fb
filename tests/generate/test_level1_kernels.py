"""Compiled loops of the toy detector against slow numpy code and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("numba", reason="the generators need numba: pip install 'trigger_prune[generate]'")

from trigger_prune.generate.level1 import detector, geometry
from trigger_prune.generate.level1.digitise import digitise, region_sums
from trigger_prune.generate.level1.egamma import MAX_EGAMMAS, find_egammas
from trigger_prune.generate.level1.jets import MAX_JETS, chunky_donut, find_jets
from trigger_prune.generate.level1.particles import Collision
from trigger_prune.generate.level1.pileup import PoolArrays, overlay

N_ETA, N_PHI = 64, 72


def random_towers(seed: int, occupancy: float = 0.4, ties: bool = False) -> np.ndarray:
    """Towers in steps: many soft ones, some hard ones; with ``ties`` hard ones of equal height."""
    rng = np.random.default_rng(seed)
    towers = np.where(rng.random((N_ETA, N_PHI)) < occupancy, rng.geometric(0.4, (N_ETA, N_PHI)), 0)
    hard = rng.random((N_ETA, N_PHI)) < 0.02
    towers[hard] = 20 if ties else rng.integers(8, 200, hard.sum())
    return towers.astype(np.int32)


def slow_jets(towers: np.ndarray) -> list[tuple[int, int, int]]:
    """Sliding window with padded arrays and slices; (steps, ring, column), hardest first."""
    wide = np.concatenate([towers[:, -7:], towers, towers[:, :7]], axis=1)
    jets = []
    for ring in range(4, N_ETA - 4):
        for column in range(N_PHI):
            c = column + 7
            window = wide[ring - 4 : ring + 5, c - 4 : c + 5]
            seed = int(towers[ring, column])
            flat = window.ravel()
            # in reading order: those before the centre must be lower, those after not higher
            if seed < 8 or (flat[:40] >= seed).any() or (flat[41:] > seed).any():
                continue
            strips = [
                wide[ring - 4 : ring + 5, c + 5 : c + 8].sum(),
                wide[ring - 4 : ring + 5, c - 7 : c - 4].sum(),
            ]
            if ring + 7 < N_ETA:
                strips.append(wide[ring + 5 : ring + 8, c - 4 : c + 5].sum())
            if ring - 7 >= 0:
                strips.append(wide[ring - 7 : ring - 4, c - 4 : c + 5].sum())
            steps = int(window.sum()) - int(sum(sorted(strips)[:3]))
            if steps > 16:
                jets.append((steps, ring, column))
    return sorted(jets, key=lambda jet: -jet[0])


@pytest.mark.parametrize("ties", [False, True])
def test_sliding_window_and_donut_equal_slow_code(ties):
    found = 0
    for seed in range(15):
        towers = random_towers(seed, occupancy=0.1 + 0.04 * seed, ties=ties)
        jets = np.zeros((MAX_JETS, 3), np.int32)
        n = find_jets(towers, jets)
        assert [tuple(jet) for jet in jets[:n].tolist()] == slow_jets(towers)
        found += n
    assert found > 200


def test_equal_neighbours_give_one_jet():
    towers = np.zeros((N_ETA, N_PHI), np.int32)
    towers[30:32, 71] = 40
    towers[30:32, 0] = 40
    jets = np.zeros((MAX_JETS, 3), np.int32)
    assert find_jets(towers, jets) == 1
    assert jets[0].tolist() == [160, 30, 71]


def test_flat_pile_up_is_subtracted_completely():
    towers = np.full((N_ETA, N_PHI), 3, np.int32)
    towers[20, 10] = 63
    jets = np.zeros((MAX_JETS, 3), np.int32)
    assert find_jets(towers, jets) == 1
    assert jets[0].tolist() == [60, 20, 10]
    # one disturbed strip of the four changes nothing
    towers[20, 16] = 50
    assert chunky_donut(towers, 20, 10) == 3 * 81


def test_egammas_equal_slow_code():
    found = isolated = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        ecal = random_towers(seed, ties=seed % 2 == 0)
        hcal = np.where(rng.random((N_ETA, N_PHI)) < 0.3, rng.integers(0, 4, (N_ETA, N_PHI)), 0).astype(np.int32)
        total = ecal + hcal
        expected = []
        for ring in range(7, 57):
            for column in np.flatnonzero(ecal[ring] >= 6):
                columns = np.arange(column - 2, column + 3) % N_PHI
                near = ecal[ring - 1 : ring + 2][:, columns[1:4]].ravel()
                seed_steps = near[4]
                if hcal[ring, column] >= 0.1 * seed_steps:
                    continue
                if (near[:4] >= seed_steps).any() or (near[5:] > seed_steps).any():
                    continue
                steps = int(seed_steps + np.delete(near, 4).max())
                around = int(total[ring - 2 : ring + 3][:, columns].sum()) - steps
                expected.append((steps, ring, int(column), int(around < 0.15 * steps + 12)))
        egammas = np.zeros((MAX_EGAMMAS, 4), np.int32)
        n = find_egammas(ecal, hcal, egammas)
        assert n == min(len(expected), MAX_EGAMMAS)
        expected = sorted(expected[:MAX_EGAMMAS], key=lambda candidate: -candidate[0])
        assert [tuple(candidate) for candidate in egammas[:n].tolist()] == expected
        found += n
        isolated += egammas[:n, 3].sum()
    assert found > 100
    assert 0 < isolated < found


def test_digitisation_rounds_down_and_saturates():
    rng = np.random.default_rng(1)
    calorimeter = rng.exponential(20.0, (N_ETA, N_PHI, 2))
    calorimeter[0, 0] = 0.49999, 0.5
    calorimeter[0, 1] = 127.49, 1e4
    ecal, hcal, towers = (np.zeros((N_ETA, N_PHI), np.int32) for _ in range(3))
    digitise(calorimeter, ecal, hcal, towers)
    expected = np.minimum(255, np.floor(calorimeter / 0.5)).astype(int)
    np.testing.assert_array_equal(np.stack([ecal, hcal], axis=2), expected)
    np.testing.assert_array_equal(towers, expected.sum(axis=2))
    assert (ecal[0, 0], hcal[0, 0], ecal[0, 1], hcal[0, 1]) == (0, 1, 254, 255)


def test_regions_are_sums_of_4x4_towers_below_eta_3():
    towers = random_towers(3)
    regions = np.zeros((18, 14), np.uint16)
    region_sums(towers, regions)
    expected = towers[4:60].reshape(14, 4, 18, 4).sum(axis=(1, 3)).T
    np.testing.assert_array_equal(regions, expected)
    assert regions.sum() == towers[4:60].sum()
    # the outermost region ends where |eta| = 3 does, and the edges are symmetric
    np.testing.assert_allclose(geometry.REGION_ETA_EDGES, -geometry.REGION_ETA_EDGES[::-1])
    assert geometry.REGION_ETA_EDGES[-1] == 3.0
    assert len(geometry.REGION_ETA_EDGES) == 15
    for column, edge in enumerate(geometry.REGION_ETA_EDGES[:-1]):
        assert (detector.ring_of(edge + 1e-6) - 4) // 4 == column


def test_rings_and_columns_agree_with_the_edges():
    eta = np.linspace(-5.2, 5.2, 2001)
    edges = np.concatenate([-geometry.RING_EDGES[:0:-1], geometry.RING_EDGES])
    expected = np.where(np.abs(eta) < 5.0, np.searchsorted(edges, eta, side="right") - 1, -1)
    assert [detector.ring_of(value) for value in eta] == expected.tolist()
    width = 2 * math.pi / N_PHI
    for phi, column in ((0.0, 0), (width * 1.01, 1), (-1e-6, 71), (2 * math.pi + 0.5 * width, 0), (-math.pi, 36)):
        assert detector.column_of(phi) == column


def collision(pt: object, eta: object, phi: object, pid: int, charge: int) -> Collision:
    """Particles of one kind."""
    pt, eta, phi = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in (pt, eta, phi)))
    n = len(pt)
    return Collision(*(np.array(v) for v in (pt, eta, phi)), np.full(n, pid), np.full(n, charge, np.int8))


def deposited(particles: Collision, sign: float = 1.0, turn: float = 0.0, seed: int = 1) -> np.ndarray:
    """Calorimeter after one collision."""
    calorimeter = np.zeros((N_ETA, N_PHI, 2))
    muons = np.zeros((detector.MAX_MUONS, 3))
    assert detector.deposit(particles, sign, turn, calorimeter, muons, np.random.default_rng(seed)) == 0
    return calorimeter


@pytest.mark.parametrize(
    ("pid", "response", "ecal_part"),
    # hadrons: half of them leave a uniform part up to 0.6 in the electromagnetic section
    [(22, 1.0, 1.0), (-11, 1.0, 1.0), (130, 0.85, 0.15), (2112, 0.85, 0.15)],
)
def test_energy_is_conserved_up_to_the_response(pid, response, ecal_part):
    n = 20_000
    rng = np.random.default_rng(2)
    particles = collision(np.full(n, 50.0), rng.uniform(-1.5, 1.5, n), rng.uniform(-9, 9, n), pid, 0)
    calorimeter = deposited(particles)
    total = calorimeter.sum()
    # relative spread below 16 % per particle at 50 GeV (1/sqrt(E) + 5 %), so the mean is good to 5 sigma = 0.6 %
    assert total == pytest.approx(response * 50.0 * n, rel=0.006)
    assert calorimeter[..., 0].sum() / total == pytest.approx(ecal_part, abs=0.01)


def test_resolutions_are_those_of_the_closed_form():
    rng = np.random.default_rng(3)
    for energy in (2.0, 20.0, 200.0):
        photons = np.array([detector.measure_electromagnetic(energy, energy, rng) for _ in range(4000)])
        expected = math.sqrt(0.03**2 / energy + (0.15 / energy) ** 2 + 0.005**2)
        assert photons.std() / energy == pytest.approx(expected, rel=0.06)
        assert photons.mean() == pytest.approx(energy, rel=5 * expected / math.sqrt(4000))
    hadrons = np.array([detector.measure_hadron(100.0, 100.0, rng) for _ in range(4000)])
    assert hadrons.std() / 85.0 == pytest.approx(math.hypot(0.1, 0.05), rel=0.06)
    assert min(detector.measure_hadron(0.1, 0.1, rng) for _ in range(100)) == 0.0


def test_what_the_calorimeter_does_not_see():
    ones = np.full(50, 20.0)
    assert deposited(collision(ones, 0.0, 0.0, 14, 0)).sum() == 0.0
    assert deposited(collision(ones, 5.1, 0.0, 22, 0)).sum() == 0.0
    # a charged particle below 0.735 GeV never reaches it, a neutral one does
    soft = np.full(50, 0.73)
    assert deposited(collision(soft, 0.0, 0.0, 211, 1)).sum() == 0.0
    assert deposited(collision(soft, 0.0, 0.0, 130, 0)).sum() > 0.0


def test_charged_particles_bend_by_asin_of_0735_over_pt():
    for charge in (1, -1):
        for pt in (0.8, 1.5, 5.0):
            phi = 1.0
            where = np.argwhere(deposited(collision(np.full(30, pt), 0.3, phi, 211 * charge, charge)).sum(axis=2))
            expected = (phi - charge * math.asin(0.735 / pt)) % (2 * math.pi) // (2 * math.pi / N_PHI)
            assert where.tolist() == [[32 + 3, int(expected)]]


def test_mirror_and_turn_move_the_same_energy():
    rng = np.random.default_rng(4)
    pt, eta, phi = rng.exponential(5.0, 300), rng.uniform(-4.9, 4.9, 300), rng.uniform(0, 2 * math.pi, 300)
    plain = deposited(collision(pt, eta, phi, 22, 0), seed=9)
    width = 2 * math.pi / N_PHI
    moved = deposited(collision(pt, eta, phi, 22, 0), sign=-1.0, turn=5 * width, seed=9)
    np.testing.assert_allclose(moved, np.roll(plain[::-1], 5, axis=1), atol=1e-12)


def test_muons_are_measured_with_the_stated_efficiency_and_resolution():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(600):
        muons = np.zeros((detector.MAX_MUONS, 3))
        n = detector.deposit(
            collision(np.full(8, 20.0), -1.2, 0.5, 13, -1), 1.0, 0.0, np.zeros((N_ETA, N_PHI, 2)), muons, rng
        )
        found.append(muons[:n].copy())
    measured = np.concatenate(found)
    assert len(measured) / 4800 == pytest.approx(0.9, abs=0.02)
    assert np.log(measured[:, 0] / 20.0).std() == pytest.approx(0.2, rel=0.06)
    assert np.log(measured[:, 0] / 20.0).mean() == pytest.approx(0.0, abs=0.016)
    np.testing.assert_allclose(measured[:, 1:].mean(axis=0), [-1.2, 0.5], atol=0.001)
    np.testing.assert_allclose(measured[:, 1:].std(axis=0), 0.01, rtol=0.06)
    for pt, eta in ((2.4, 0.0), (20.0, 2.45)):
        calorimeter = deposited(collision(np.full(20, pt), eta, 0.0, -13, 1))
        assert calorimeter.sum() == 0.0


def small_pool(seed: int) -> PoolArrays:
    """Five collisions of different length, with three muons."""
    rng = np.random.default_rng(seed)
    lengths = np.array([40, 0, 120, 7, 300])
    towers = np.concatenate([rng.choice(N_ETA * N_PHI, n, replace=False) for n in lengths])
    return PoolArrays(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        (towers // N_PHI).astype(np.uint8),
        (towers % N_PHI).astype(np.uint8),
        rng.exponential(0.4, (len(towers), 2)).astype(np.float32),
        np.array([0, 1, 1, 1, 3, 3], np.int64),
        np.array([[5.0, 1.5, 0.1], [9.0, -2.0, 3.0], [4.0, 0.2, -1.0]], np.float32),
    )


def test_overlay_equals_dense_sums_and_conserves_energy():
    pool = small_pool(1)
    for seed in range(10):
        calorimeter = np.full((N_ETA, N_PHI, 2), 0.25)
        muons = np.zeros((detector.MAX_MUONS, 3))
        n_muons, n_collisions = overlay(calorimeter, muons, 0, 3.0, pool, np.random.default_rng(seed))
        # the same stream of random numbers, drawn by numpy itself
        rng = np.random.default_rng(seed)
        expected = np.full((N_ETA, N_PHI, 2), 0.25)
        expected_muons = []
        energy = expected.sum()
        assert n_collisions == rng.poisson(3.0)
        for _ in range(n_collisions):
            k, mirrored, shift = np.unravel_index(rng.integers(0, 5 * 2 * N_PHI), (5, 2, N_PHI))
            dense = np.zeros((N_ETA, N_PHI, 2))
            own = slice(pool.tower_offsets[k], pool.tower_offsets[k + 1])
            dense[pool.rings[own], pool.columns[own]] = pool.energies[own]
            energy += pool.energies[own].astype(float).sum()
            expected += np.roll(dense[::-1] if mirrored else dense, shift, axis=1)
            for pt, eta, phi in pool.muons[pool.muon_offsets[k] : pool.muon_offsets[k + 1]].astype(float):
                expected_muons.append((pt, -eta if mirrored else eta, phi + shift * 2 * math.pi / N_PHI))
        np.testing.assert_allclose(calorimeter, expected, atol=1e-12)
        assert calorimeter.sum() == pytest.approx(energy, rel=1e-12)
        np.testing.assert_allclose(muons[:n_muons], np.array(expected_muons[:8]).reshape(-1, 3), atol=1e-12)


def test_overlay_never_pushes_out_the_muons_of_the_hard_scatter():
    pool = small_pool(2)
    muons = np.full((detector.MAX_MUONS, 3), 7.0)
    n_muons, n_collisions = overlay(np.zeros((N_ETA, N_PHI, 2)), muons, 7, 100.0, pool, np.random.default_rng(1))
    assert n_muons == detector.MAX_MUONS
    assert n_collisions > 50
    assert (muons[:7] == 7.0).all()
    assert muons[7, 0] in (5.0, 9.0, 4.0)
