"""One crossing as the 80 hardware words of ``trigger_prune.data.level1.words``."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.level1.words import (
    ETA_LSB,
    FIRST_EGAMMA,
    FIRST_JET,
    FIRST_MUON,
    HT,
    MET,
    MET_PHI,
    MUON_ETA_LSB,
    MUON_PHI_STEPS,
    N_EGAMMAS,
    N_JETS,
    N_JETS_WORD,
    N_MUONS,
    N_TOWERS_WORD,
    PHI_STEPS,
    TOTAL_ET,
)
from trigger_prune.generate.level1.geometry import (
    CENTRAL_RINGS_PER_SIDE,
    N_ETA,
    N_PHI,
    PHI_CENTRES,
    RING_CENTRES,
    RINGS_PER_SIDE,
    STEPS_PER_GEV,
)
from trigger_prune.generate.level1.kernel import kernel

# the words saturate
MAX_JET_PT, MAX_LEPTON_PT, MAX_SUM, MAX_TOTAL = 2047, 511, 4095, 32767
# calibration of the jets: one factor 5/4
CALIBRATION_NUMERATOR, CALIBRATION_DENOMINATOR = 5, 4
# jets that count in HT: 30 GeV after the calibration, |eta| < 2.5
HT_MIN_PT_STEPS, HT_MAX_ETA = 60, 2.5
_ETA_WORDS: NDArray[np.int16] = np.rint(RING_CENTRES / ETA_LSB).astype(np.int16)
_COSINES = np.cos(PHI_CENTRES)
_SINES = np.sin(PHI_CENTRES)


@kernel
def phi_word(column: int) -> int:
    """Word of a tower column's centre."""
    return 2 * column + 1


@kernel
def angle_word(angle: float, steps: int) -> int:
    """Word 0..steps - 1 of an azimuth on any branch."""
    return int(angle % (2 * math.pi) / (2 * math.pi) * steps) % steps


@kernel
def write_jets(jets: NDArray[np.int32], words: NDArray[np.int16]) -> None:
    """The ten hardest of ``jets`` (as from find_jets), HT and the number of jets."""
    ht = 0
    for k in range(jets.shape[0]):
        calibrated = CALIBRATION_NUMERATOR * jets[k, 0]
        if k < N_JETS:
            word = FIRST_JET + 3 * k
            words[word] = min(MAX_JET_PT, calibrated // CALIBRATION_DENOMINATOR)
            words[word + 1] = _ETA_WORDS[jets[k, 1]]
            words[word + 2] = phi_word(jets[k, 2])
        if calibrated >= CALIBRATION_DENOMINATOR * HT_MIN_PT_STEPS and abs(RING_CENTRES[jets[k, 1]]) < HT_MAX_ETA:
            ht += calibrated
    words[HT] = min(MAX_SUM, ht // CALIBRATION_DENOMINATOR)
    words[N_JETS_WORD] = jets.shape[0]


@kernel
def write_egammas(egammas: NDArray[np.int32], words: NDArray[np.int16]) -> None:
    """The eight hardest of ``egammas`` (as from find_egammas)."""
    for k in range(min(N_EGAMMAS, egammas.shape[0])):
        word = FIRST_EGAMMA + 4 * k
        words[word] = min(MAX_LEPTON_PT, egammas[k, 0])
        words[word + 1] = _ETA_WORDS[egammas[k, 1]]
        words[word + 2] = phi_word(egammas[k, 2])
        words[word + 3] = egammas[k, 3]


@kernel
def write_muons(muons: NDArray[np.float64], words: NDArray[np.int16]) -> None:
    """The four hardest of ``muons``: pt (GeV), eta, phi (rad, any branch)."""
    order = np.argsort(-muons[:, 0], kind="mergesort")
    for k in range(min(N_MUONS, muons.shape[0])):
        word = FIRST_MUON + 3 * k
        muon = muons[order[k]]
        words[word] = min(MAX_LEPTON_PT, int(muon[0] * STEPS_PER_GEV))
        words[word + 1] = round(muon[1] / MUON_ETA_LSB)
        words[word + 2] = angle_word(muon[2], MUON_PHI_STEPS)


@kernel
def write_sums(towers: NDArray[np.int32], words: NDArray[np.int16]) -> None:
    """Total energy, missing energy (size and azimuth of minus the vector sum), number of central towers not empty."""
    total = 0
    missing_x = 0.0
    missing_y = 0.0
    n_central = 0
    for ring in range(N_ETA):
        central = RINGS_PER_SIDE - CENTRAL_RINGS_PER_SIDE <= ring < RINGS_PER_SIDE + CENTRAL_RINGS_PER_SIDE
        for column in range(N_PHI):
            steps = towers[ring, column]
            if steps > 0:
                total += steps
                missing_x -= steps * _COSINES[column]
                missing_y -= steps * _SINES[column]
                if central:
                    n_central += 1
    words[TOTAL_ET] = min(MAX_TOTAL, total)
    words[MET] = min(MAX_SUM, int(math.hypot(missing_x, missing_y)))
    words[MET_PHI] = angle_word(math.atan2(missing_y, missing_x), PHI_STEPS)
    words[N_TOWERS_WORD] = n_central


@kernel
def write_words(
    towers: NDArray[np.int32],
    jets: NDArray[np.int32],
    egammas: NDArray[np.int32],
    muons: NDArray[np.float64],
    words: NDArray[np.int16],
) -> None:
    """All 80 words of a crossing to ``words``, which come in as zeros: empty places stay 0."""
    write_jets(jets, words)
    write_egammas(egammas, words)
    write_muons(muons, words)
    write_sums(towers, words)
