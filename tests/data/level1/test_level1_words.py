"""The hardware words against records written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trigger_prune.data.level1.observables import menu_observables
from trigger_prune.data.level1.words import INPUT_WORDS, WORDS, object_inputs
from trigger_prune.errors import DataError


def record(**words: int) -> np.ndarray:
    """One record; positions are spelled out here on purpose, not taken from the code."""
    first = {"jet": (0, 3), "eg": (30, 4), "mu": (62, 3)}
    part = {"pt": 0, "eta": 1, "phi": 2, "iso": 3}
    sums = {"ht": 74, "total_et": 75, "met_pt": 76, "met_phi": 77, "n_towers": 78, "n_jets": 79}
    values = np.zeros(80, dtype=np.int16)
    for name, value in words.items():
        if name in sums:
            values[sums[name]] = value
            continue
        prefix, what = name.split("_")
        kind, number = prefix.rstrip("0123456789"), int(prefix.lstrip("abcdefghijklmnopqrstuvwxyz"))
        values[first[kind][0] + first[kind][1] * (number - 1) + part[what]] = value
    return values


def test_every_word_has_one_place() -> None:
    assert sorted(word.position for word in WORDS) == list(range(80))
    for word in WORDS:
        assert record(**{word.name: 5})[word.position] == 5
    assert len({word.name for word in WORDS}) == 80


def test_steps_and_units() -> None:
    steps = {word.name: (word.lsb, word.unit) for word in WORDS}
    assert steps["jet10_pt"] == steps["mu4_pt"] == steps["ht"] == (0.5, "GeV")
    assert steps["eg8_eta"] == (0.0435, "") and steps["mu1_eta"] == (0.010875, "")
    assert steps["met_phi"] == (2 * math.pi / 144, "rad") and steps["mu2_phi"] == (2 * math.pi / 576, "rad")
    assert steps["eg1_iso"] == steps["n_jets"] == (1.0, "")


def test_inputs_of_a_hand_made_record() -> None:
    words = record(
        met_pt=60, met_phi=10, eg1_pt=44, eg1_eta=-20, eg1_phi=100, eg1_iso=1, eg5_pt=9, mu1_pt=30, mu1_eta=-200,
        mu1_phi=2, jet1_pt=300, jet1_eta=12, jet1_phi=140, jet2_pt=100, jet2_eta=-3, jet2_phi=4, jet10_pt=20,
        jet10_phi=67, jet3_phi=9, ht=999, n_jets=5,
    )  # fmt: skip
    inputs, names = object_inputs(words[np.newaxis])
    assert inputs.dtype == np.int16 and inputs.shape == (1, 57)
    assert names[:6] == ("met_pt", "met_eta", "met_phi", "eg1_pt", "eg1_eta", "eg1_phi")
    assert names[15] == "mu1_pt" and names[27] == "jet1_pt" and names[56] == "jet10_phi"
    expected = {
        "met_pt": 60,
        "met_phi": 10 - 140 + 144,
        "eg1_pt": 44,
        "eg1_eta": -20,
        "eg1_phi": -40,
        "mu1_pt": 30,
        "mu1_eta": -200,
        "mu1_phi": 2 - 560 + 576,
        "jet1_pt": 300,
        "jet1_eta": 12,
        "jet2_pt": 100,
        "jet2_eta": -3,
        "jet2_phi": 4 - 140 + 144,
        "jet10_pt": 20,
        "jet10_phi": 67 - 140 + 144,
    }
    assert {name: int(v) for name, v in zip(names, inputs[0], strict=True) if v != 0} == expected
    absolute, _ = object_inputs(words[np.newaxis], phi="absolute")
    got = dict(zip(names, absolute[0].tolist(), strict=True))
    assert (got["met_phi"], got["mu1_phi"], got["jet1_phi"], got["jet3_phi"]) == (10, 2, 140, 9)


def test_relative_angles_of_all_pairs() -> None:
    """The integer subtraction against angles in floating point, for every jet against every leading jet."""
    for steps, name in ((144, "jet2"), (576, "mu1")):
        leading, other = (a.ravel() for a in np.meshgrid(np.arange(144), np.arange(steps)))
        words = np.tile(record(jet1_pt=100, jet2_pt=50, mu1_pt=8), (len(leading), 1))
        words[:, 2] = leading
        words[:, 5 if name == "jet2" else 64] = other
        inputs, names = object_inputs(words.astype(np.int16))
        column = inputs[:, names.index(f"{name}_phi")]
        difference = 2 * np.pi * (other / steps - leading / 144)
        assert np.allclose(np.exp(1j * difference), np.exp(2j * np.pi * column / steps), atol=1e-9)
        assert column.min() == -steps // 2 and column.max() == steps // 2 - 1
        assert (inputs[:, names.index("jet1_phi")] == 0).all()


def test_without_a_jet_angles_stay() -> None:
    inputs, names = object_inputs(record(met_pt=3, met_phi=100, mu1_pt=5, mu1_phi=300)[np.newaxis])
    got = dict(zip(names, inputs[0].tolist(), strict=True))
    assert got["met_phi"] == 100 - 144 and got["mu1_phi"] == 300 - 576


def test_rotating_an_event_changes_no_input() -> None:
    rng = np.random.default_rng(1)
    words = np.zeros((50, 80), dtype=np.int16)
    phi = [word.position for word in WORDS if word.unit == "rad"]
    for word in WORDS:
        words[:, word.position] = rng.integers(0, 144, 50)
    turned = words.copy()
    for position in phi:
        full, per_step = (576, 4) if 62 <= position < 74 else (144, 1)
        turned[:, position] = (turned[:, position] + 31 * per_step) % full
    assert not np.array_equal(words, turned)
    assert np.array_equal(object_inputs(words)[0], object_inputs(turned)[0])


def test_lsb_of_the_inputs_match_their_words() -> None:
    steps = {word.name: word for word in WORDS}
    for word in INPUT_WORDS:
        if word.name != "met_eta":
            assert word == steps[word.name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("jet3_phi", 144), ("mu2_phi", 576), ("mu2_phi", -1), ("ht", -3), ("n_jets", -1), ("eg2_pt", -8)],
)
def test_impossible_words(name: str, value: int) -> None:
    words = np.stack([record(jet1_pt=5), record(**{name: value})])
    with pytest.raises(DataError, match=f"word {name} of row 1 is {value}"):
        object_inputs(words)
    with pytest.raises(DataError, match=f"word {name} of row 1 is {value}"):
        menu_observables(words)


def test_other_shapes_and_types() -> None:
    for words in (np.zeros((3, 79), np.int16), np.zeros((3, 80), np.int32), np.zeros(80, np.int16)):
        with pytest.raises(DataError, match="int16"):
            object_inputs(words)


def test_menu_quantities_of_a_hand_made_record() -> None:
    eta_in, eta_out = 57, 58  # 2.4795 and 2.523
    words = record(
        jet1_pt=400, jet1_eta=eta_out, jet1_phi=0, jet2_pt=300, jet2_eta=-eta_in, jet2_phi=0, jet3_pt=200,
        jet3_phi=36, jet4_pt=60, jet4_phi=72, jet5_pt=59, jet5_phi=72, jet6_pt=40, jet6_eta=-eta_out,
        eg1_pt=90, eg1_eta=eta_out, eg1_iso=1, eg2_pt=70, eg3_pt=50, eg3_iso=1,
        mu1_pt=44, mu1_eta=221, mu2_pt=20, mu2_eta=-220, mu3_pt=11, ht=560, total_et=5001, met_pt=31,
    )  # fmt: skip
    got = {name: float(value[0]) for name, value in menu_observables(words[np.newaxis]).items()}
    # central jets from 30 GeV: 150 GeV at 0, 100 at a quarter turn, 30 at half a turn
    assert got.pop("mht_gev") == pytest.approx(math.hypot(150 - 30, 100))
    assert got == {
        "ht_gev": 280,
        "total_et_gev": 2500.5,
        "met_gev": 15.5,
        "jet1_pt_gev": 200,
        "jet2_pt_gev": 150,
        "jet3_pt_gev": 100,
        "jet4_pt_gev": 30,
        "central_jet1_pt_gev": 150,
        "central_jet2_pt_gev": 100,
        "central_jet3_pt_gev": 30,
        "central_jet4_pt_gev": 29.5,
        "eg1_pt_gev": 35,
        "eg2_pt_gev": 25,
        "isolated_eg1_pt_gev": 25,
        "mu1_pt_gev": 10,
        "mu2_pt_gev": 5.5,
    }
