"""The physics processes: their Pythia settings, how often each scatter is used, their share of a sample."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.errors import ConfigError

# hard scatters above this belong to the qcd bins; softer ones to the soft collisions of every crossing
SOFT_MAX_PT_HAT_GEV = 30.0
SOFT_COMMANDS = ("SoftQCD:nonDiffractive=on",)
_HIGGS_TO_B = ("25:onMode=off", "25:onIfAny=5")


@dataclass(frozen=True)
class Process:
    """One process of level-1 events.

    commands     Pythia settings of the hard scatter; empty: no hard scatter, pile-up alone
    reuse        crossings made of one generated scatter: other pile-up, other detector noise, and from the second on
                 mirrored in eta at random and turned in phi at random
    share        background: part of the background rows. Signal: rows per background row
    pt_hat_gev   lower and upper edge of the hard scatter's transverse momentum; 0 and infinity when not restricted
    """

    name: str
    commands: tuple[str, ...]
    reuse: int
    share: float
    is_signal: bool
    pt_hat_gev: tuple[float, float] = (0.0, float("inf"))


def _qcd(number: int, low: float, high: float, reuse: int, share: float) -> Process:
    commands = ["HardQCD:all=on", f"PhaseSpace:pTHatMin={low:g}"]
    if high < float("inf"):
        commands.append(f"PhaseSpace:pTHatMax={high:g}")
    return Process(f"qcd{number}", tuple(commands), reuse, share, False, (low, high))


# Shares and reuse make the rate of a trigger at about 100 kHz most precise for the time spent: crossings of the softer
# bins are cheap, have large weights and rarely pass.
PROCESSES: tuple[Process, ...] = (
    Process("soft", (), 1, 0.50, False, (0.0, SOFT_MAX_PT_HAT_GEV)),
    _qcd(0, SOFT_MAX_PT_HAT_GEV, 50.0, 4, 0.20),
    _qcd(1, 50.0, 80.0, 4, 0.14),
    _qcd(2, 80.0, 120.0, 2, 0.07),
    _qcd(3, 120.0, 170.0, 2, 0.04),
    _qcd(4, 170.0, 300.0, 1, 0.025),
    # no upper edge, so no scatter is left out
    _qcd(5, 300.0, float("inf"), 1, 0.025),
    # a broad resonance stands in for the non-resonant mass spectrum of HH
    Process(
        "HH4b",
        (
            "Higgs:useBSM=on",
            "HiggsBSM:gg2H2=on",
            "35:m0=400",
            "35:mWidth=60",
            "35:mMin=260",
            "35:mMax=1000",
            "35:doForceWidth=on",
            "35:onMode=off",
            "35:onIfMatch=25 25",
            *_HIGGS_TO_B,
        ),
        4,
        0.08,
        True,
    ),
    Process("VBFHbb", ("HiggsSM:ff2Hff(t:ZZ)=on", "HiggsSM:ff2Hff(t:WW)=on", *_HIGGS_TO_B), 1, 0.02, True),
    Process("ttbar", ("Top:gg2ttbar=on", "Top:qqbar2ttbar=on"), 1, 0.02, True),
)
BACKGROUNDS = tuple(process.name for process in PROCESSES if not process.is_signal)
SIGNALS = tuple(process.name for process in PROCESSES if process.is_signal)


def find_process(name: str) -> Process:
    """The process called ``name``; raises ConfigError naming all of them."""
    for process in PROCESSES:
        if process.name == name:
            return process
    raise ConfigError(f"there is no level-1 process {name!r}", hint=f"one of {', '.join(p.name for p in PROCESSES)}")


def rows_of(process: Process, background_rows: int, signal_rows: int | None = None) -> int:
    """Rows to make of ``process`` for ``background_rows`` in all; ``signal_rows`` of every signal when given."""
    if background_rows < 1 or (signal_rows is not None and signal_rows < 1):
        raise ConfigError("the number of events must be at least 1")
    if process.is_signal and signal_rows is not None:
        return signal_rows
    return max(1, round(process.share * background_rows))
