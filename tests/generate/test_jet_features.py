"""From particles of collisions to the kept jets: selection, edges, constituents."""

from __future__ import annotations

import fastjet
import numpy as np
import pytest
from jet_toys import PION_MASS_GEV, event, particle, shower

from trigger_prune.data.builtin_events import load_builtin
from trigger_prune.errors import DataError
from trigger_prune.generate.jets.features import FEATURES, JetSelection, find_jets, visible_particles
from trigger_prune.generate.jets.kernels import jet_features


def several(events):
    return np.concatenate(events), np.concatenate([[0], np.cumsum([len(e) for e in events])])


def test_the_columns_are_those_of_the_shipped_sample():
    assert load_builtin("jets16", 100).feature_names == FEATURES


def test_jets_are_those_that_fastjet_finds_and_the_cuts_keep():
    rng = np.random.default_rng(1)
    events = [event(rng) for _ in range(12)]
    selection = JetSelection(min_pt_gev=940.0, max_pt_gev=1005.0, max_abs_rapidity=1.2)
    found = find_jets(*several(events), selection)
    expected = []
    for i, momenta in enumerate(events):
        particles = [fastjet.PseudoJet(*map(float, row)) for row in momenta]
        for j, one in enumerate(particles):
            one.set_user_index(j)
        sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, 0.8))
        for jet in fastjet.sorted_by_pt(sequence.inclusive_jets())[:2]:
            if 940.0 < jet.pt() < 1005.0 and abs(jet.rap()) < 1.2:
                inside = momenta[[c.user_index() for c in jet.constituents()]]
                expected.append((i, jet.pt(), jet.rap(), jet.phi_std(), inside))
    assert 0 < len(expected) < 2 * len(events)
    assert list(found.collision) == [row[0] for row in expected]
    np.testing.assert_allclose(found.kinematics, [row[1:4] for row in expected], rtol=1e-10)
    for features, row in zip(found.features, expected, strict=True):
        np.testing.assert_allclose(features, jet_features(row[4], 0.1), rtol=1e-8)


def test_events_without_particles_and_without_jets_are_passed_over():
    rng = np.random.default_rng(2)
    jet = shower(rng, 1000.0, 0.0, 0.0, 30)
    soft = np.array([particle(1.0, 0.1 * i, 0.5, PION_MASS_GEV) for i in range(10)])
    empty = np.zeros((0, 4))
    found = find_jets(*several([empty, soft, jet, empty, empty, jet, empty]))
    assert list(found.collision) == [2, 5]
    np.testing.assert_array_equal(found.features[0], found.features[1])
    none = find_jets(*several([empty, empty]))
    assert none.features.shape == (0, 16) and none.constituents.shape == (0, 16, 3)


def test_leading_constituents_are_relative_to_the_jet_across_pi():
    momenta = np.array(
        [particle(100.0, 0.3, -np.pi + 0.05), particle(600.0, 0.5, np.pi - 0.05), particle(200.0, 0.4, np.pi - 0.1)]
    )
    found = find_jets(*several([momenta]))
    pt, rapidity, phi = found.kinematics[0]
    kept = found.constituents[0]
    np.testing.assert_allclose(kept[:3, 0], [600.0, 200.0, 100.0], rtol=1e-12)
    # the pseudorapidity of a massless particle is its rapidity
    np.testing.assert_allclose(kept[:3, 1] + rapidity, [0.5, 0.4, 0.3], rtol=1e-9)
    np.testing.assert_allclose(
        np.mod(kept[:3, 2] + phi, 2 * np.pi), [np.pi - 0.05, np.pi - 0.1, np.pi + 0.05], rtol=1e-9
    )
    assert np.abs(kept[:3, 2]).max() < 0.2
    assert not kept[3:].any()
    assert pt == pytest.approx(900.0, rel=0.01)


def test_only_the_sixteen_hardest_constituents_are_kept():
    momenta = shower(np.random.default_rng(3), 1000.0, 0.0, 1.0, 40)
    kept = find_jets(*several([momenta])).constituents[0]
    np.testing.assert_allclose(kept[:, 0], np.sort(np.hypot(momenta[:, 0], momenta[:, 1]))[::-1][:16], rtol=1e-12)


def test_pseudorapidity_of_a_massive_constituent():
    momenta = np.array([particle(900.0, 2.0, 0.0, 500.0)])
    kept = find_jets(*several([momenta])).constituents[0, 0]
    assert kept[1] == pytest.approx(np.arcsinh(momenta[0, 2] / 900.0) - 2.0, rel=1e-10)


def test_neutrinos_forward_and_zero_energy_particles_are_not_visible():
    momenta = np.array(
        [
            particle(10.0, 0.0, 0.0),
            particle(10.0, 0.0, 0.0),
            particle(10.0, 3.99, 0.0),
            particle(10.0, 4.01, 0.0),
            particle(10.0, -4.01, 0.0),
            [0.0, 0.0, 0.0, 0.0],
            particle(0.9e-3, 0.0, 0.0),
            particle(1.1e-3, 0.0, 0.0),
            [0.0, 0.0, 7.0, 7.0],
        ]
    )
    pid = np.array([22, -14, 22, 22, 22, 22, 22, 22, 2212])
    assert list(visible_particles(momenta, pid, JetSelection())) == [True, False, True, *[False] * 4, True, False]


def test_zero_energy_photons_are_refused_and_harmless_once_cut():
    momenta = np.concatenate([shower(np.random.default_rng(4), 1000.0, 0.0, 0.0, 20), np.zeros((2, 4))])
    with pytest.raises(DataError, match=r"particle 20 \(collision 0\).*no pT"):
        find_jets(momenta, np.array([0, 22]))
    visible = visible_particles(momenta, np.full(22, 22), JetSelection())
    found = find_jets(momenta[visible], np.array([0, 20]))
    assert found.features[0, FEATURES.index("multiplicity")] == 20
    assert np.isfinite(found.features).all()


@pytest.mark.parametrize("offsets", [[], [0, 3], [1, 5], [0, 4, 2, 5]])
def test_offsets_that_do_not_divide_the_particles(offsets):
    momenta = np.array([particle(10.0, 0.0, 0.1 * i) for i in range(5)])
    with pytest.raises(DataError, match="do not divide 5 particles"):
        find_jets(momenta, np.array(offsets, dtype=np.int64))


def test_not_a_number_names_the_collision():
    momenta = np.array([particle(10.0, 0.0, 0.1 * i) for i in range(5)])
    momenta[3, 2] = np.nan
    with pytest.raises(DataError, match=r"particle 3 \(collision 2\)"):
        find_jets(momenta, np.array([0, 2, 2, 5]))
