"""A folder of level-1 events -> ``EventSample`` with rates as weights."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.level1.files import ProcessEvents, find_processes, holds_events, read_process
from trigger_prune.data.level1.observables import menu_observables
from trigger_prune.data.level1.words import ENERGY_LSB_GEV, INPUT_WORDS, object_inputs
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.luminosity import (
    SIGMA_ND_MB,
    LuminosityScenario,
    Reweighted,
    hardest_scatter_probabilities,
    reweight_pileup,
    stitched_weights,
)

BACKGROUND = "minimum_bias"
"""Class 0."""

SOFT = "soft"
BACKGROUND_PROCESSES = (SOFT, *(f"qcd{b}" for b in range(6)))
"""Crossings without a hard scatter, then the pT-hat bins 30, 50, 80, 120, 170, 300 GeV and up; their order numbers
the strata."""

_COLLISION_BITS = 40


@dataclass(frozen=True)
class Level1Events:
    """The sample, and what re-weighting it to another pile-up cost (None when it was generated at the wanted one)."""

    sample: EventSample
    reweighted: Reweighted | None


def load_level1(
    folder: Path,
    *,
    signals: Sequence[str] | None = None,
    inputs: Literal["objects", "regions"] = "objects",
    scenario: LuminosityScenario,
    max_events: int | None = None,
) -> EventSample:
    """``load_level1_events(...).sample``; each warning of the re-weighting is issued as a UserWarning."""
    events = load_level1_events(folder, signals=signals, inputs=inputs, scenario=scenario, max_events=max_events)
    for text in events.reweighted.warnings if events.reweighted else ():
        warnings.warn(text, UserWarning, stacklevel=2)
    return events.sample


def load_level1_events(
    folder: Path,
    *,
    signals: Sequence[str] | None = None,
    inputs: Literal["objects", "regions"] = "objects",
    scenario: LuminosityScenario,
    max_events: int | None = None,
) -> Level1Events:
    """The events of a folder: minimum bias and ``signals`` (by default every other process in it, by name).

    See ``level1_sample`` for what they become. Raises ConfigError for a folder or signal that does not exist; DataError
    when a bin of minimum bias is missing, for damaged files (see ``read_process``), and as ``level1_sample``.
    """
    chosen = _chosen_files(folder, signals)
    processes = [read_process(name, paths) for name, paths in chosen.items()]
    return level1_sample(processes, str(folder), inputs=inputs, scenario=scenario, max_events=max_events)


def level1_sample(
    processes: list[ProcessEvents],
    source: str,
    *,
    inputs: Literal["objects", "regions"] = "objects",
    scenario: LuminosityScenario,
    max_events: int | None = None,
) -> Level1Events:
    """One sample of ``processes``: those of BACKGROUND_PROCESSES in that order (class 0), then the signals.

    features      ``objects``: ``(n, 57)`` of ``words.INPUT_WORDS`` with phi relative to the leading jet;
                  ``regions``: ``(n, 1, 18, 14)``, steps of 0.5 GeV
    weights       minimum bias: Hz, stitched, adding up to ``scenario.crossings_hz``; signals: equal rows (but for
                  re-weighting), each process adding up to ``scenario.crossings_hz`` too, which balances the classes
                  and is no rate
    strata        position in BACKGROUND_PROCESSES, signals after them
    groups        one number per (process, hard scatter), the same whichever processes are loaded
    observables   those of ``menu_observables``; ``npu`` and ``offline_NAME`` where the files have them
    max_events    that many rows, of each process in proportion, evenly spread over its rows

    Another pile-up than that of the files re-weights the rows by their ``npu``.

    Raises DataError for processes that do not fit together, for regions or npu that are wanted and not stored, and
    for ``max_events`` below the number of processes.
    """
    _check_together(processes)
    if max_events is not None:
        processes = _reduced(source, processes, max_events)
    rows = [len(process.words) for process in processes]
    strata = np.repeat(np.arange(len(processes)), rows)
    names = [process.name for process in processes]
    n_background = len(BACKGROUND_PROCESSES)
    labels = np.maximum(strata - n_background + 1, 0)
    weights, reweighted = _weights(processes, strata, scenario)
    features, feature_names, lsb, units = _features(processes, inputs)
    sample = EventSample(
        features=features,
        labels=labels,
        weights=weights,
        groups=np.concatenate([_groups(process) for process in processes]),
        feature_names=feature_names,
        class_names=(BACKGROUND, *names[n_background:]),
        source=source,
        observables=_observables(processes),
        strata=strata,
        rate_weights=True,
        feature_lsb=lsb,
        feature_units=units,
    )
    return Level1Events(sample, reweighted)


def source_files(folder: Path, signals: Sequence[str] | None = None) -> list[Path]:
    """The files ``load_level1`` reads, in a fixed order. Raises as it does for missing processes."""
    return [path for paths in _chosen_files(folder, signals).values() for path in paths]


def _chosen_files(folder: Path, signals: Sequence[str] | None) -> dict[str, tuple[Path, ...]]:
    found = find_processes(folder)
    missing = [name for name in BACKGROUND_PROCESSES if name not in found]
    if missing:
        raise DataError(
            f"{folder}: minimum bias lacks {', '.join(missing)} (l1_{missing[0]}.npz); without every pT-hat bin all "
            "rates are wrong",
            hint="trigger-prune data make level1 writes all of them",
        )
    further = [name for name in found if name.startswith("qcd") and name not in BACKGROUND_PROCESSES]
    if further:
        raise DataError(f"{folder}: unknown bin of minimum bias l1_{further[0]}.npz", hint="qcd5 has no upper limit")
    if signals is None:
        others = [name for name in found if name not in BACKGROUND_PROCESSES]
        # such a folder may hold other tables, scores say; only arrays x are events
        signals = [name for name in others if holds_events(found[name][0])]
    for name in signals:
        if name in (*BACKGROUND_PROCESSES, BACKGROUND) or list(signals).count(name) > 1:
            raise ConfigError(f"signals: {name} is minimum bias or given twice")
        if name not in found:
            known = [other for other in found if other not in BACKGROUND_PROCESSES]
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"{folder}: there is no signal process {name!r} (l1_{name}.npz)",
                hint=f"{f'did you mean {close[0]!r}? ' if close else ''}the folder has {', '.join(known) or 'none'}",
            )
    return {name: found[name] for name in (*BACKGROUND_PROCESSES, *signals)}


def _check_together(processes: list[ProcessEvents]) -> None:
    first = processes[0]
    for process in processes[1:]:
        for what, here, there in (
            ("pileup", process.pileup, first.pileup),
            ("sigma_nd_mb", process.sigma_nd_mb, first.sigma_nd_mb),
            ("whether npu is stored", process.npu is not None, first.npu is not None),
            ("offline_names", sorted(process.offline), sorted(first.offline)),
        ):
            if here != there:
                raise DataError(
                    f"{process.paths[0]}: {what}: {here}, but {there} in {first.paths[0].name}",
                    hint="all files of a folder must come from one production",
                )
    if first.sigma_mb != 0:
        raise DataError(f"{first.paths[0]}: sigma_mb is {first.sigma_mb}, but soft crossings have no hard scatter")
    numbers = {_process_number(process.name): process.name for process in processes}
    if len(numbers) < len(processes):
        raise DataError(
            f"{first.paths[0].parent}: two of the processes {', '.join(process.name for process in processes)} get "
            "equal group numbers",
            hint="rename one of them",
        )
    bins = processes[1 : len(BACKGROUND_PROCESSES)]
    for process in bins:
        if not process.sigma_mb > 0:
            raise DataError(f"{process.paths[0]}: sigma_mb is {process.sigma_mb}, not positive")
    for softer, harder in itertools.pairwise((first, *bins)):
        if softer.pthat_gev and harder.pthat_gev and softer.pthat_gev[1] != harder.pthat_gev[0]:
            raise DataError(
                f"{harder.paths[0]}: {softer.name} ends at pT-hat {softer.pthat_gev[1]:g} GeV, "
                f"{harder.name} starts at {harder.pthat_gev[0]:g}: a gap or an overlap makes every rate wrong"
            )
    if bins[-1].pthat_gev and np.isfinite(bins[-1].pthat_gev[1]):
        raise DataError(f"{bins[-1].paths[0]}: the last pT-hat bin ends at {bins[-1].pthat_gev[1]:g} GeV")


def _reduced(source: str, processes: list[ProcessEvents], max_events: int) -> list[ProcessEvents]:
    rows = np.array([len(process.words) for process in processes])
    if max_events >= rows.sum():
        return processes
    if max_events < len(processes):
        raise DataError(f"{source}: max_events {max_events} leaves none of some of the {len(processes)} processes")
    share = rows * (max_events / rows.sum())
    kept = np.maximum(np.floor(share).astype(np.int64), 1)
    # the rows lost to rounding go to the largest remainders, those won by keeping one of each come from the largest
    order = np.argsort(kept - share, kind="stable")
    for place in range(max_events - int(kept.sum())):
        kept[order[place]] += 1
    while kept.sum() > max_events:
        kept[np.argmax(kept)] -= 1
    return [_take(process, np.arange(n) * len(process.words) // n) for process, n in zip(processes, kept, strict=True)]


def _take(process: ProcessEvents, rows: NDArray[np.int64]) -> ProcessEvents:
    return replace(
        process,
        words=process.words[rows],
        collision=process.collision[rows],
        npu=None if process.npu is None else process.npu[rows],
        offline={name: values[rows] for name, values in process.offline.items()},
        regions=None if process.regions is None else process.regions[rows],
    )


def _weights(
    processes: list[ProcessEvents], strata: NDArray[np.int64], scenario: LuminosityScenario
) -> tuple[NDArray[np.float64], Reweighted | None]:
    n_background = len(BACKGROUND_PROCESSES)
    sigma = [process.sigma_mb for process in processes[1:n_background]]
    sigma_nd = SIGMA_ND_MB if processes[0].sigma_nd_mb is None else processes[0].sigma_nd_mb
    probabilities = hardest_scatter_probabilities(scenario.pileup, sigma, sigma_nd)
    # every signal stands for as much as all crossings
    shares = np.concatenate([probabilities, np.ones(len(processes) - n_background)])
    weights = stitched_weights(strata, shares, scenario.crossings_hz)
    generated = processes[0].pileup
    if scenario.pileup == generated:
        return weights, None
    npu = [process.npu for process in processes if process.npu is not None]
    if len(npu) < len(processes):
        raise DataError(
            f"{processes[0].paths[0].parent}: events of pile-up {generated:g} cannot be re-weighted to "
            f"{scenario.pileup:g}: the files do not say how many collisions each event has (array 'npu')",
            hint=f"set the pile-up to {generated:g}, or make new events with trigger-prune data make level1",
        )
    reweighted = reweight_pileup(
        weights,
        strata,
        np.concatenate(npu),
        generated=generated,
        wanted=scenario.pileup,
        totals={number: float(share) * scenario.crossings_hz for number, share in enumerate(shares)},
        names={number: process.name for number, process in enumerate(processes)},
    )
    return reweighted.weights, reweighted


def _features(
    processes: list[ProcessEvents], inputs: Literal["objects", "regions"]
) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[float, ...], tuple[str, ...]]:
    if inputs == "objects":
        values = np.concatenate([object_inputs(process.words)[0] for process in processes]).astype(np.float32)
        names = tuple(word.name for word in INPUT_WORDS)
        return values, names, tuple(word.lsb for word in INPUT_WORDS), tuple(word.unit for word in INPUT_WORDS)
    images = []
    for process in processes:
        if process.regions is None:
            raise DataError(
                f"{process.paths[0]}: has no calorimeter regions (array 'regions')",
                hint="trigger-prune data make level1 --towers stores them",
            )
        images.append(process.regions)
    return np.concatenate(images).astype(np.float32)[:, np.newaxis], ("region_et",), (ENERGY_LSB_GEV,), ("GeV",)


def _groups(process: ProcessEvents) -> NDArray[np.int64]:
    """Collision number plus a hash of the process name above its 40 bits."""
    if process.collision.max() >= 1 << _COLLISION_BITS:
        raise DataError(f"{process.paths[0]}: gid {process.collision.max()} needs more than {_COLLISION_BITS} bits")
    return process.collision + (_process_number(process.name) << _COLLISION_BITS)


def _process_number(name: str) -> int:
    """23 bits that depend on the name alone, so that a process keeps its groups whatever else is loaded."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:3], "big") >> 1


def _observables(processes: list[ProcessEvents]) -> dict[str, NDArray[np.float64]]:
    columns = [menu_observables(process.words) for process in processes]
    values = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    npu = [process.npu for process in processes if process.npu is not None]
    if len(npu) == len(processes):
        values["npu"] = np.concatenate(npu).astype(np.float64)
    for name in processes[0].offline:
        values[f"offline_{name}"] = np.concatenate([process.offline[name] for process in processes])
    return values
