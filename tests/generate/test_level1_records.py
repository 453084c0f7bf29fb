"""The 80 words of a crossing, against values worked out by hand and with numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("numba", reason="the generators need numba: pip install 'trigger_prune[generate]'")

from trigger_prune.data.level1.words import WORDS
from trigger_prune.generate.level1.crossing import CrossingSimulator
from trigger_prune.generate.level1.geometry import RING_CENTRES
from trigger_prune.generate.level1.particles import Particles
from trigger_prune.generate.level1.pileup import PoolArrays
from trigger_prune.generate.level1.record import write_words

POSITION = {word.name: word.position for word in WORDS}
EMPTY_POOL = PoolArrays(
    np.zeros(2, np.int64),
    np.zeros(0, np.uint8),
    np.zeros(0, np.uint8),
    np.zeros((0, 2), np.float32),
    np.zeros(2, np.int64),
    np.zeros((0, 3), np.float32),
)


def words_of(towers=None, jets=(), egammas=(), muons=()) -> np.ndarray:
    """Words of lists as the finders give them."""
    words = np.zeros(80, np.int16)
    write_words(
        np.zeros((64, 72), np.int32) if towers is None else towers,
        np.array(jets, np.int32).reshape(-1, 3),
        np.array(egammas, np.int32).reshape(-1, 4),
        np.array(muons, np.float64).reshape(-1, 3),
        words,
    )
    return words


def test_jets_are_calibrated_and_only_hard_central_ones_enter_ht():
    # 47 * 5/4 is 29.375 GeV: below 30; ring 59 lies at |eta| 2.825, ring 57 at 2.411 (the last within 2.5)
    words = words_of(jets=[(5000, 32, 0), (101, 59, 3), (101, 57, 71), (48, 8, 5), (47, 32, 9)])
    assert words[:15].tolist() == [2047, 1, 1, 126, 65, 7, 126, 55, 143, 60, -48, 11, 58, 1, 19]
    assert words[15:30].tolist() == [0] * 15
    assert words[POSITION["ht"]] == 4095
    assert words[POSITION["n_jets"]] == 5
    words = words_of(jets=[(101, 57, 71), (101, 59, 3), (49, 32, 1), (48, 32, 2), (47, 32, 3)])
    assert words[POSITION["ht"]] == math.floor(1.25 * 101 + 1.25 * 49 + 1.25 * 48)
    np.testing.assert_allclose(RING_CENTRES[[59, 57]], [2.825, 2.411])


def test_at_most_ten_jets_and_eight_egammas_are_written_but_all_jets_count():
    words = words_of(jets=[(100 - k, 32, k) for k in range(14)], egammas=[(60 - k, 32, k, 1) for k in range(11)])
    assert words[27] == 91 * 5 // 4
    assert words[POSITION["n_jets"]] == 14
    assert words[30:62:4].tolist() == [60 - k for k in range(8)]
    assert words[62:74].tolist() == [0] * 12


def test_muons_are_sorted_and_their_angles_wrapped():
    width = 2 * math.pi / 576
    muons = [(3.3, -2.0, 10.5 * width), (20.26, 0.0163, -0.5 * width), (400.0, 0.0, 2 * math.pi + 2.5 * width)]
    assert words_of(muons=muons)[62:74].tolist() == [511, 0, 2, 40, 1, 575, 6, -184, 10, 0, 0, 0]


def test_sums_equal_numpy():
    rng = np.random.default_rng(1)
    phi = (np.arange(72) + 0.5) * 2 * math.pi / 72
    for _ in range(20):
        towers = (rng.random((64, 72)) < 0.3) * rng.integers(1, 30, (64, 72))
        words = words_of(towers=towers.astype(np.int32))
        x, y = -(towers * np.cos(phi)).sum(), -(towers * np.sin(phi)).sum()
        assert words[POSITION["total_et"]] == min(32767, towers.sum())
        assert words[POSITION["met_pt"]] == int(np.hypot(x, y))
        assert words[POSITION["met_phi"]] == int(np.arctan2(y, x) % (2 * math.pi) / (2 * math.pi) * 144)
        assert words[POSITION["n_towers"]] == (towers[11:53] > 0).sum()


def test_one_photon_all_the_way_to_the_words():
    # 100 GeV at eta 0.5 (ring 37, word 11), phi 1.0 (column 11, word 23); resolution 0.6 %
    particles = Particles(*(np.array([v]) for v in (100.0, 0.5, 1.0, 22)), np.zeros(1, np.int8), np.array([0, 1]))
    crossings = CrossingSimulator(EMPTY_POOL, 0.0, True).with_scatters(particles, 1, np.random.default_rng(1))
    words = crossings.words[0].astype(int)
    steps = words[POSITION["total_et"]]
    assert abs(steps - 200) < 10
    assert words[0:3].tolist() == [steps * 5 // 4, 11, 23]
    assert words[30:34].tolist() == [steps, 11, 23, 1]
    assert words[POSITION["ht"]] == steps * 5 // 4
    # the direction opposite to column 11
    assert abs(words[POSITION["met_pt"]] - steps) <= 1
    assert words[POSITION["met_phi"]] == 23 + 72
    assert words[POSITION["n_towers"]] == 1
    assert crossings.regions is not None
    assert np.argwhere(crossings.regions[0]).tolist() == [[11 // 4, (37 - 4) // 4]]
    assert crossings.regions[0].sum() == steps


def test_reuse_keeps_the_first_orientation_and_turns_the_others():
    n_scatters, reuse = 40, 25
    particles = Particles(
        np.full(n_scatters, 100.0),
        np.full(n_scatters, 0.5),
        np.full(n_scatters, 1.0),
        np.full(n_scatters, 22),
        np.zeros(n_scatters, np.int8),
        np.arange(n_scatters + 1),
    )
    simulator = CrossingSimulator(EMPTY_POOL, 0.0, False)
    crossings = simulator.with_scatters(particles, reuse, np.random.default_rng(2))
    assert crossings.regions is None
    eta = crossings.words[:, 1].reshape(n_scatters, reuse)
    phi = crossings.words[:, 2].reshape(n_scatters, reuse)
    assert (eta[:, 0] == 11).all()
    assert (phi[:, 0] == 23).all()
    assert (np.abs(eta) == 11).all()
    # 960 turned ones: mirrored half of the time, each sixth of the circle filled equally (5 sigma)
    assert (eta[:, 1:] < 0).mean() == pytest.approx(0.5, abs=0.08)
    sixths = np.bincount(phi[:, 1:].ravel() // 24, minlength=6)
    np.testing.assert_allclose(sixths, 160, atol=58)
    # detector noise is new every time
    assert len(np.unique(crossings.words[:, 0])) > 3
