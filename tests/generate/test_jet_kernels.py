"""Clustering, grooming and the 16 features against fastjet and against sums written out in numpy."""

from __future__ import annotations

import itertools

import fastjet
import numpy as np
import pytest
from jet_toys import PION_MASS_GEV, event, particle, shower

from trigger_prune.generate.jets.features import FEATURES
from trigger_prune.generate.jets.kernels import cluster, constituents, groom_mmdt, jet_features

ALGORITHMS = {-1: fastjet.antikt_algorithm, 0: fastjet.cambridge_algorithm, 1: fastjet.kt_algorithm}


def pseudojets(momenta):
    found = []
    for i, row in enumerate(momenta):
        found.append(fastjet.PseudoJet(*(float(x) for x in row)))
        found[-1].set_user_index(i)
    return found


def fastjet_cluster(momenta, radius, power):
    """The cluster sequence, which must outlive its jets, and the jets, hardest first."""
    sequence = fastjet.ClusterSequence(pseudojets(momenta), fastjet.JetDefinition(ALGORITHMS[power], radius))
    return sequence, list(fastjet.sorted_by_pt(sequence.inclusive_jets()))


def fastjet_mmdt(momenta, z_cut=0.1):
    """Particles left and their mass: the declustering of fastjet's tree, followed here step by step."""
    _sequence, jets = fastjet_cluster(momenta, 1000.0, 0)
    assert len(jets) == 1
    current = jets[0]
    while True:
        first, second = fastjet.PseudoJet(), fastjet.PseudoJet()
        if not current.has_parents(first, second):
            break
        if min(first.pt(), second.pt()) / (first.pt() + second.pt()) > z_cut:
            break
        current = first if first.pt() > second.pt() else second
    return sorted(c.user_index() for c in current.constituents()), current.m()


def written_out_features(momenta):
    """The 16 features by plain sums over tuples, in the words of the data card; grooming by fastjet."""
    everything = pseudojets(momenta)
    pt = np.array([p.pt() for p in everything])
    z = pt / pt.sum()
    left, mass = fastjet_mmdt(momenta)
    groomed = [everything[i] for i in left]
    share = np.array([p.pt() for p in groomed])
    share /= share.sum()
    angles = np.array([[a.delta_R(b) for b in groomed] for a in groomed])
    pairs = list(itertools.combinations(range(len(left)), 2))
    triples = list(itertools.combinations(range(len(left)), 3))

    def e2(b):
        return sum(share[i] * share[j] * (angles[i, j] ** b if b else 1.0) for i, j in pairs)

    def e3(b, n_angles):
        total = 0.0
        for i, j, k in triples:
            smallest = sorted((angles[i, j], angles[i, k], angles[j, k]))[:n_angles]
            total += share[i] * share[j] * share[k] * np.prod(smallest) ** b
        return total

    out = dict.fromkeys(FEATURES, 0.0)
    out["zlogz"] = float((z * np.log(z)).sum())
    out["multiplicity"] = len(momenta)
    out["mass_mmdt"] = mass
    for b in (0, 1, 2):
        out[f"c1_b{b}_mmdt"] = e2(b)
    if len(left) > 1 and e2(2) > 0:
        for b in (1, 2):
            out[f"c2_b{b}_mmdt"] = e3(b, 3) / e2(b) ** 2
            out[f"d2_b{b}_mmdt"] = e3(b, 3) / e2(b) ** 3
            out[f"d2_a1_b{b}_mmdt"] = e3(1, 3) / e2(b) ** (3 / b)
            out[f"m2_b{b}_mmdt"] = e3(b, 1) / e2(b)
            out[f"n2_b{b}_mmdt"] = e3(b, 2) / e2(b) ** 2
    return np.array([out[name] for name in FEATURES])


@pytest.mark.parametrize("power", [-1, 0, 1])
@pytest.mark.parametrize("radius", [0.4, 0.8])
def test_clustering_finds_the_jets_of_fastjet(power, radius):
    rng = np.random.default_rng(5)
    for _ in range(8):
        momenta = event(rng)
        p, axes, first, second, jets = cluster(momenta, radius, power)
        _sequence, expected = fastjet_cluster(momenta, radius, power)
        assert len(jets) == len(expected)
        for jet, oracle in zip(jets, expected, strict=True):
            assert sorted(constituents(jet, first, second)) == sorted(c.user_index() for c in oracle.constituents())
            np.testing.assert_allclose(
                p[jet], [oracle.px(), oracle.py(), oracle.pz(), oracle.e()], rtol=1e-10, atol=1e-10
            )
            np.testing.assert_allclose(axes[jet, :2], [oracle.pt(), oracle.rap()], rtol=1e-10, atol=1e-10)
            turn = axes[jet, 2] - oracle.phi_std()
            assert abs(turn - 2 * np.pi * round(turn / (2 * np.pi))) < 1e-10


def test_every_particle_is_in_exactly_one_jet():
    momenta = event(np.random.default_rng(6))
    p, _, first, second, jets = cluster(momenta, 0.8, -1)
    inside = np.concatenate([constituents(jet, first, second) for jet in jets])
    assert sorted(inside) == list(range(len(momenta)))
    np.testing.assert_allclose(p[jets].sum(axis=0), momenta.sum(axis=0), rtol=1e-12, atol=1e-9)


def test_grooming_leaves_what_fastjet_leaves():
    rng = np.random.default_rng(7)
    groomed_away = 0
    for n in (2, 3, 5, 20, 60, 60, 60, 60):
        momenta = shower(rng, 1000.0, 0.3, 3.1, n)
        momenta = np.concatenate([momenta, [particle(2.0, 0.9, 3.3), particle(1.0, -0.2, -3.0, PION_MASS_GEV)]])
        left, mass = groom_mmdt(momenta, 0.1)
        expected, expected_mass = fastjet_mmdt(momenta)
        assert sorted(left) == expected
        assert mass == pytest.approx(expected_mass, rel=1e-8)
        groomed_away += len(momenta) - len(left)
    assert groomed_away > 8


def test_groomed_mass_is_the_soft_drop_mass_of_the_contrib():
    awkward = pytest.importorskip("awkward")
    rng = np.random.default_rng(8)
    jets = [shower(rng, 1000.0, 0.3, 3.1, n) for n in (10, 30, 60)]
    particles = awkward.zip(
        {name: awkward.Array([jet[:, i] for jet in jets]) for i, name in enumerate(("px", "py", "pz", "E"))},
        with_name="Momentum4D",
    )
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0))
    groomed = sequence.exclusive_jets_softdrop_grooming(
        njets=1, beta=0, symmetry_cut=0.1, symmetry_measure="scalar_z", R0=0.8
    )
    expected = awkward.to_numpy(awkward.flatten(groomed.msoftdrop, axis=None))
    np.testing.assert_allclose([groom_mmdt(jet, 0.1)[1] for jet in jets], expected, rtol=1e-8)


@pytest.mark.parametrize("n", [3, 4, 8, 20, 40])
def test_all_features_are_the_sums_written_out(n):
    rng = np.random.default_rng(n)
    for _ in range(3):
        momenta = shower(rng, 1000.0, rng.normal(), np.pi + rng.normal(0, 0.1), n)
        np.testing.assert_allclose(jet_features(momenta, 0.1), written_out_features(momenta), rtol=1e-8)


def test_features_do_not_change_with_order_or_azimuth():
    rng = np.random.default_rng(9)
    momenta = shower(rng, 1000.0, 0.4, 0.0, 50)
    before = jet_features(momenta, 0.1)
    turned = momenta.copy()
    # half of the jet lies on either side of phi = pi
    turned[:, :2] *= -1
    for other in (turned, momenta[rng.permutation(50)]):
        np.testing.assert_allclose(jet_features(other, 0.1), before, rtol=1e-8)


def test_one_particle():
    found = dict(zip(FEATURES, jet_features(np.array([particle(900.0, 1.0, 2.0, 91.2)]), 0.1), strict=True))
    assert found.pop("multiplicity") == 1
    assert found.pop("mass_mmdt") == pytest.approx(91.2, rel=1e-10)
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize(("soft_pt", "left"), [(300.0, 2), (99.0, 1)])
def test_two_particles_in_closed_form(soft_pt, left):
    hard = 1000.0
    momenta = np.array([particle(hard, 0.1, np.pi - 0.1), particle(soft_pt, 0.4, -np.pi + 0.3)])
    found = dict(zip(FEATURES, jet_features(momenta, 0.1), strict=True))
    z = soft_pt / (hard + soft_pt)
    assert found["multiplicity"] == 2
    assert found["zlogz"] == pytest.approx(z * np.log(z) + (1 - z) * np.log(1 - z), rel=1e-12)
    angle = 0.5 if left == 2 else 0.0
    expected = z * (1 - z) if left == 2 else 0.0
    assert found["c1_b0_mmdt"] == pytest.approx(expected, rel=1e-10)
    assert found["c1_b1_mmdt"] == pytest.approx(expected * angle, rel=1e-10)
    assert found["c1_b2_mmdt"] == pytest.approx(expected * angle**2, rel=1e-10)
    mass = np.sqrt(2 * hard * soft_pt * (np.cosh(0.3) - np.cos(0.4))) if left == 2 else 0.0
    assert found["mass_mmdt"] == pytest.approx(mass, rel=1e-9, abs=1e-4)
    assert all(found[name] == 0 for name in FEATURES if name[:2] in ("c2", "d2", "m2", "n2"))


def test_a_splitting_exactly_at_the_cut_is_groomed_away():
    # 1 / (1 + 9) is 0.1 to the last bit, and the condition is "more than"
    momenta = np.array([[9.0, 0.0, 0.0, 9.0], [1.0, 0.0, 0.5, np.sqrt(1.25)]])
    assert list(groom_mmdt(momenta, 0.1)[0]) == [0]
    assert sorted(groom_mmdt(momenta, 0.0999)[0]) == [0, 1]


def test_identical_particles_give_numbers():
    one = particle(300.0, 0.2, 1.0)
    for momenta in (np.array([one, one]), np.array([one] * 4), np.array([one, one, particle(200.0, 0.5, 1.1)])):
        found = jet_features(momenta, 0.1)
        assert np.isfinite(found).all()
        assert found[FEATURES.index("multiplicity")] == len(momenta)
    np.testing.assert_allclose(found, written_out_features(momenta), rtol=1e-8)


def test_momenta_along_the_beam_cluster_without_errors():
    momenta = np.array([[0.0, 0.0, 5.0, 5.0], [0.0, 0.0, -5.0, 5.0], particle(20.0, 0.0, 0.0), [0.0, 0.0, 0.0, 0.0]])
    for power in (-1, 0, 1):
        p, axes, first, second, jets = cluster(momenta, 0.8, power)
        assert np.isfinite(axes).all()
        assert sorted(np.concatenate([constituents(jet, first, second) for jet in jets])) == [0, 1, 2, 3]
        assert p[jets[0], 0] == 20.0
