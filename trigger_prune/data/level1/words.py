"""The 80 hardware words of a level-1 event, and the 57 of them that a network receives.

An absent object is all zeros. Words are integers of known step (least significant bit, LSB): pT and sums 0.5 GeV,
eta 0.0435 (muons 0.010875), phi a 144th of the circle (muons a 576th), from 0 upwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError

N_WORDS = 80
N_JETS = 10
N_EGAMMAS = 8
N_MUONS = 4
FIRST_JET, FIRST_EGAMMA, FIRST_MUON = 0, 30, 62
HT, TOTAL_ET, MET, MET_PHI, N_TOWERS_WORD, N_JETS_WORD = 74, 75, 76, 77, 78, 79

ENERGY_LSB_GEV = 0.5
ETA_LSB = 0.0435
MUON_ETA_LSB = 0.010875
PHI_STEPS = 144
MUON_PHI_STEPS = 576

N_INPUT_EGAMMAS = 4
"""e/gamma objects among the network inputs, as in AXOL1TL; all muons and all jets are."""


@dataclass(frozen=True)
class HardwareWord:
    """One word: its position among the 80, the physical size of one step and the unit of that ("" for a number)."""

    name: str
    position: int
    lsb: float
    unit: str


def _object_words(prefix: str, first: int, muon: bool, isolation: bool = False) -> list[HardwareWord]:
    phi_steps = MUON_PHI_STEPS if muon else PHI_STEPS
    words = [
        HardwareWord(f"{prefix}_pt", first, ENERGY_LSB_GEV, "GeV"),
        HardwareWord(f"{prefix}_eta", first + 1, MUON_ETA_LSB if muon else ETA_LSB, ""),
        HardwareWord(f"{prefix}_phi", first + 2, 2 * math.pi / phi_steps, "rad"),
    ]
    return [*words, HardwareWord(f"{prefix}_iso", first + 3, 1.0, "")] if isolation else words


def _all_words() -> tuple[HardwareWord, ...]:
    words: list[HardwareWord] = []
    for k in range(N_JETS):
        words += _object_words(f"jet{k + 1}", FIRST_JET + 3 * k, muon=False)
    for k in range(N_EGAMMAS):
        words += _object_words(f"eg{k + 1}", FIRST_EGAMMA + 4 * k, muon=False, isolation=True)
    for k in range(N_MUONS):
        words += _object_words(f"mu{k + 1}", FIRST_MUON + 3 * k, muon=True)
    return (
        *words,
        HardwareWord("ht", HT, ENERGY_LSB_GEV, "GeV"),
        HardwareWord("total_et", TOTAL_ET, ENERGY_LSB_GEV, "GeV"),
        HardwareWord("met_pt", MET, ENERGY_LSB_GEV, "GeV"),
        HardwareWord("met_phi", MET_PHI, 2 * math.pi / PHI_STEPS, "rad"),
        HardwareWord("n_towers", N_TOWERS_WORD, 1.0, ""),
        HardwareWord("n_jets", N_JETS_WORD, 1.0, ""),
    )


WORDS = _all_words()
"""All 80 words in the order of their positions."""


def _input_words() -> tuple[HardwareWord, ...]:
    by_name = {word.name: word for word in WORDS}
    # missing energy has no eta: the input is there, as in AXOL1TL, and always 0
    inputs = [by_name["met_pt"], HardwareWord("met_eta", -1, ETA_LSB, ""), by_name["met_phi"]]
    objects = [f"eg{k + 1}" for k in range(N_INPUT_EGAMMAS)]
    objects += [f"mu{k + 1}" for k in range(N_MUONS)] + [f"jet{k + 1}" for k in range(N_JETS)]
    return (*inputs, *(by_name[f"{prefix}_{part}"] for prefix in objects for part in ("pt", "eta", "phi")))


INPUT_WORDS = _input_words()
"""The 57 network inputs in order: missing energy, 4 e/gamma, 4 muons, 10 jets, each pt, eta, phi.

``position`` is that in the record, -1 for ``met_eta``, which has none.
"""


def object_inputs(
    words: NDArray[np.int16], phi: Literal["relative", "absolute"] = "relative"
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """The 57 network inputs of records ``(n, 80)``: int16 ``(n, 57)`` and their names.

    ``relative`` makes every phi that of the object minus that of the leading jet, in -72 .. 71 steps (muons -288 ..
    287, after multiplying the jet's phi by 4): in firmware one subtraction per object and one correction by a full
    turn, exact in integers. The phi of an absent object (pT 0) is 0; without a jet, angles are relative to 0.
    The leading jet's own phi is then always 0. ``absolute`` leaves the words as they are.

    Raises DataError for another shape or type, and for a phi word outside the circle (naming its row).
    """
    check_records(words, "level-1 records")
    inputs = np.zeros((len(words), len(INPUT_WORDS)), dtype=np.int16)
    for column, word in enumerate(INPUT_WORDS):
        if word.position >= 0:
            inputs[:, column] = words[:, word.position]
    names = tuple(word.name for word in INPUT_WORDS)
    if phi == "absolute":
        return inputs, names
    leading_phi = words[:, FIRST_JET + 2]
    for column in range(2, len(INPUT_WORDS), 3):
        steps = _phi_steps(names[column])
        reference = leading_phi * np.int16(steps // PHI_STEPS)
        # both angles lie in one turn, so this modulo is a single conditional addition
        turned = (inputs[:, column] - reference + steps // 2) % steps - steps // 2
        inputs[:, column] = np.where(inputs[:, column - 2] > 0, turned, 0)
    return inputs, names


def check_records(words: NDArray[np.int16], where: str) -> None:
    """Raise DataError unless ``words`` is int16 ``(n, 80)``, pT and sums are >= 0 and phi lies in the circle."""
    if words.dtype != np.int16 or words.ndim != 2 or words.shape[1] != N_WORDS:
        raise DataError(f"{where}: {words.dtype} values of shape {words.shape}, not int16 (events, {N_WORDS})")
    for word in WORDS:
        if word.unit == "" and not word.name.startswith("n_"):
            continue
        values = words[:, word.position]
        limit = _phi_steps(word.name) - 1 if word.unit == "rad" else np.iinfo(np.int16).max
        outside = (values < 0) | (values > limit)
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(f"{where}: word {word.name} of row {row} is {values[row]}, outside 0 .. {limit}")


def _phi_steps(name: str) -> int:
    return MUON_PHI_STEPS if name.startswith("mu") else PHI_STEPS
