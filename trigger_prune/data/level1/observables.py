"""What a cut-based menu looks at, in GeV, from the hardware words."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.level1.words import (
    ENERGY_LSB_GEV,
    ETA_LSB,
    FIRST_EGAMMA,
    FIRST_JET,
    FIRST_MUON,
    HT,
    MET,
    MUON_ETA_LSB,
    N_EGAMMAS,
    N_JETS,
    N_MUONS,
    PHI_STEPS,
    TOTAL_ET,
    check_records,
)

CENTRAL_ETA = 2.5
"""Jets and e/gammas of the menu's multi-object seeds lie within this |eta|."""

MUON_ETA = 2.4

MHT_JET_PT_GEV = 30.0
"""Jets of the missing hadronic energy: from this pT on, within CENTRAL_ETA, as those of the HT word."""

N_MENU_JETS = 4


def menu_observables(words: NDArray[np.int16]) -> dict[str, NDArray[np.float64]]:
    """Menu quantities of records ``(n, 80)``, each float64 ``(n,)`` in GeV, 0 for an absent object.

    ``ht_gev``, ``total_et_gev``, ``met_gev``: the words. ``mht_gev``: |vector sum| of central jets above 30 GeV, the
    only one that is no multiple of 0.5 GeV. ``jet1_pt_gev`` .. ``jet4_pt_gev``: jets anywhere; ``central_jet1_pt_gev``
    .. ``central_jet4_pt_gev``: the hardest with \\|eta\\| < 2.5. ``eg1_pt_gev``, ``eg2_pt_gev`` (\\|eta\\| < 2.5),
    ``isolated_eg1_pt_gev``, ``mu1_pt_gev``, ``mu2_pt_gev`` (\\|eta\\| < 2.4). Raises DataError for damaged records.
    """
    check_records(words, "level-1 records")
    jets = words[:, FIRST_JET : FIRST_JET + 3 * N_JETS].reshape(-1, N_JETS, 3)
    egammas = words[:, FIRST_EGAMMA : FIRST_EGAMMA + 4 * N_EGAMMAS].reshape(-1, N_EGAMMAS, 4)
    muons = words[:, FIRST_MUON : FIRST_MUON + 3 * N_MUONS].reshape(-1, N_MUONS, 3)
    central = np.abs(jets[:, :, 1].astype(np.float64)) * ETA_LSB < CENTRAL_ETA
    central_egamma = np.abs(egammas[:, :, 1].astype(np.float64)) * ETA_LSB < CENTRAL_ETA
    all_jets = _hardest(jets[:, :, 0], np.ones_like(central), N_MENU_JETS)
    central_jets = _hardest(jets[:, :, 0], central, N_MENU_JETS)
    all_egammas = _hardest(egammas[:, :, 0], central_egamma, 2)
    isolated = _hardest(egammas[:, :, 0], central_egamma & (egammas[:, :, 3] != 0), 1)
    all_muons = _hardest(muons[:, :, 0], np.abs(muons[:, :, 1].astype(np.float64)) * MUON_ETA_LSB < MUON_ETA, 2)
    values = {
        "ht_gev": words[:, HT] * ENERGY_LSB_GEV,
        "total_et_gev": words[:, TOTAL_ET] * ENERGY_LSB_GEV,
        "met_gev": words[:, MET] * ENERGY_LSB_GEV,
        "mht_gev": _missing_ht(jets, central),
    }
    values |= {f"jet{k + 1}_pt_gev": all_jets[:, k] for k in range(N_MENU_JETS)}
    values |= {f"central_jet{k + 1}_pt_gev": central_jets[:, k] for k in range(N_MENU_JETS)}
    values |= {f"eg{k + 1}_pt_gev": all_egammas[:, k] for k in range(2)}
    values["isolated_eg1_pt_gev"] = isolated[:, 0]
    values |= {f"mu{k + 1}_pt_gev": all_muons[:, k] for k in range(2)}
    return {name: np.ascontiguousarray(value, dtype=np.float64) for name, value in values.items()}


def _hardest(pt: NDArray[np.int16], chosen: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """The ``count`` largest chosen pT of each row, in GeV, ``(n, count)``."""
    ordered = np.sort(np.where(chosen, pt, 0), axis=1)[:, ::-1]
    return ordered[:, :count] * ENERGY_LSB_GEV


def _missing_ht(jets: NDArray[np.int16], central: NDArray[np.bool_]) -> NDArray[np.float64]:
    pt = jets[:, :, 0] * ENERGY_LSB_GEV
    pt = np.where(central & (pt >= MHT_JET_PT_GEV), pt, 0.0)
    angle = (jets[:, :, 2] + 0.5) * (2 * math.pi / PHI_STEPS)
    missing: NDArray[np.float64] = np.hypot((pt * np.cos(angle)).sum(axis=1), (pt * np.sin(angle)).sum(axis=1))
    return missing
