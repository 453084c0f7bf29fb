"""Tables of README.md about rates, efficiencies and generators."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from typing import Any

ROWS = {
    "ht": "HT cut",
    "menu_equal": "cut menu, equal shares",
    "menu_optimised": "cut menu, shares fitted on validation",
    "teacher": "teacher (float, too large for the FPGA)",
    "float": "network, float",
    "dense": "network, dense 8-bit",
    "deployed": "**deployed**",
}


FEW_EVENTS = 100
"""Effective background events below which a working point is marked."""


def _mean(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(set(values)) > 1 else mean


def _cells(figures: dict[str, float], keys: Sequence[str], names: Sequence[str], digits: int) -> list[str]:
    """Means over the runs ``keys``, each marked where few background events are behind a rate of one of them."""
    few = min(figures[f"{key}.n_effective"] for key in keys) < FEW_EVENTS
    return [_mean([figures[f"{key}.{name}"] for key in keys], digits) + (" ⚠" if few else "") for name in names]


def _project(figures: dict[str, float], project: str) -> tuple[list[str], list[str]]:
    """Seeds and signals of a project in the flat figures."""
    mine = [key.split(".") for key in figures if key.startswith(f"{project}.seed")]
    seeds = sorted({part[1] for part in mine})
    counted = ("rate_khz", "n_effective", "moved")
    signals = dict.fromkeys(p[4] for p in mine if p[2:4] == ["deployed", "100khz"] and p[4] not in counted)
    return seeds, sorted(signals, key="all signals".__eq__)


def level1_projects(result: dict[str, Any]) -> list[str]:
    """Efficiencies at fixed rates of every level-1 project, mean and standard deviation over seeds."""
    figures = result["figures"]
    lines = [
        f"`{result['command']}` (thresholds from validation, figures of test events, mean ± standard deviation over "
        f"seeds where there are several, {result['machine']['cpus']} cores; ⚠: the rate rests on fewer than "
        f"{FEW_EVENTS} effective background events, on validation or on test):",
        "",
    ]
    seeds, _ = _project(figures, "hh4b_trigger")
    heads = ["hh4b_trigger", "HH → 4b at 10 kHz", "at 100 kHz", "rate on test, kHz"]
    lines += ["| " + " | ".join(heads) + " |", "|---|---|---|---|"]
    for row, label in ROWS.items():
        keys = [f"hh4b_trigger.{seed}.{row}" for seed in seeds]
        if f"{keys[0]}.100khz.HH4b" in figures:
            cells = [
                *_cells(figures, [f"{key}.10khz" for key in keys], ["HH4b"], 3),
                *_cells(figures, [f"{key}.100khz" for key in keys], ["HH4b"], 3),
                *_cells(figures, [f"{key}.100khz" for key in keys], ["rate_khz"], 1),
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", *_anomalies(figures), *_costs(figures)]
    return lines


def _anomalies(figures: dict[str, float]) -> list[str]:
    lines = []
    for project in ("anomaly", "calo_cnn"):
        seeds, signals = _project(figures, project)
        if not seeds:
            continue
        lines += [f"| {project}, at 100 kHz | {' | '.join(signals)} |", "|---" * (len(signals) + 1) + "|"]
        for row, label in ROWS.items():
            keys = [f"{project}.{seed}.{row}.100khz" for seed in seeds]
            if f"{keys[0]}.{signals[0]}" in figures:
                cells = _cells(figures, keys, signals, 3)
                lines.append(f"| {label} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def _costs(figures: dict[str, float]) -> list[str]:
    lines = [
        "| | LUT, dense 8-bit | LUT, deployed | ns | differing events | stage times, s |",
        "|---|---|---|---|---|---|",
    ]
    for project in ("hh4b_trigger", "anomaly", "calo_cnn"):
        seeds, _ = _project(figures, project)
        if not seeds:
            continue
        keys = [f"{project}.{seed}" for seed in seeds]
        cells = [
            _mean([figures[f"{key}.dense.lut"] for key in keys], 0),
            _mean([figures[f"{key}.deployed.lut"] for key in keys], 0),
            _mean([figures[f"{key}.deployed.latency_ns"] for key in keys], 0),
            f"{sum(figures[f'{key}.mismatches'] for key in keys):.0f}",
            _mean([figures[f"{key}.seconds"] for key in keys], 0),
        ]
        lines.append(f"| {project} | {' | '.join(cells)} |")
    return lines


def surrogate(result: dict[str, Any]) -> list[str]:
    """Cross-entropy against the surrogate of the efficiency."""
    figures = result["figures"]
    cases = (
        ("HH → 4b, 100 kHz", "hh4b", "efficiency_100khz"),
        ("HH → 4b, 10 kHz", "hh4b", "efficiency_10khz"),
        ("top jets, 1 % background, 20 epochs", "jets_20_epochs", "efficiency_fpr_1e-2"),
        ("top jets, 1 % background, 60 epochs", "jets", "efficiency_fpr_1e-2"),
        ("the same, five-class accuracy", "jets", "validation_accuracy"),
    )
    lines = [
        f"`{result['command']}` (float networks, {figures['seeds']:.0f} seeds that also decide the split; at equal "
        "rate):",
        "",
        "| | cross-entropy | with `train.loss: efficiency_surrogate` | paired difference |",
        "|---|---|---|---|",
    ]
    for label, case, name in cases:
        pair = f"{case}_surrogate_{name}_difference"
        lines.append(
            f"| {label} | {figures[f'{case}_cross_entropy_{name}']:.4f} | {figures[f'{case}_surrogate_{name}']:.4f} | "
            f"{figures[pair]:+.4f} ± {figures[f'{pair}_error']:.4f} |"
        )
    return lines


def metrics_speed(result: dict[str, Any]) -> list[str]:
    """Time and memory of the metrics."""
    figures = result["figures"]
    return [
        f"`{result['command']}`: working points, curves and ROC of {figures['rows'] / 1e6:.0f} million weighted events "
        f"take {figures['total_s']:.1f} s of one core and {figures['peak_gb']:.2f} GB; a paired comparison of "
        f"{figures['paired_rows'] / 1e3:.0f} 000 events by 200 bootstrap replicas {figures['paired_s']:.1f} s."
    ]


def jet_features(result: dict[str, Any]) -> list[str]:
    """Speed of the jet features."""
    figures = result["figures"]
    return [
        f"`{result['command']}`: grooming and 16 features {figures['real.features.jets_per_s']:.0f} jets per second "
        f"and core (mean {figures['real.mean_particles_per_jet']:.0f} particles), with anti-kt clustering of whole "
        f"collisions {figures['real.clustering_and_features.jets_per_s']:.0f}."
    ]


def hh4b_pruned(result: dict[str, Any], equal: dict[str, Any]) -> list[str]:
    """What pruning alone loses at 100 kHz, and the pruned network beside a hand-made one at equal LUTs; the latter on
    more seeds, ``equal``, as well."""
    figures = result["figures"]
    lines = [
        f"`{result['command']}`: signal efficiency at exactly 100 kHz on test events; losses are relative, negative "
        "where the pruned network is better, errors from a paired bootstrap by generated collision:",
        "",
        "| seed | multiplications removed | LUT | loss against dense 8-bit | 90 % limit | LUT, 57-8-1 by hand | "
        "LUT, pruned to that | loss against 57-8-1 | 90 % limit | LUT, learned widths | loss against 57-8-1 | "
        "90 % limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for seed in result["seeds"]:

        def value(name: str, seed: int = seed) -> float:
            return float(figures[f"{name}.seed{seed}"])

        cells = [str(seed), f"{100 * value('multiplications_removed'):.0f} %", f"{value('pruned_lut'):.0f}"]
        for pair, luts in (
            ("pruned_vs_dense", ("hand_lut", "equal_lut")),
            ("equal_vs_hand", ("learned_lut",)),
            ("learned_vs_hand", ()),
        ):
            cells += [
                f"{100 * value(f'{pair}_relative_loss'):+.2f} ± {100 * value(f'{pair}_relative_loss_error'):.2f} %",
                f"{100 * value(f'{pair}_relative_loss_limit90'):+.2f} %",
                *(f"{value(name):.0f}" for name in luts),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    more = equal["figures"]
    gains = [-100 * more[f"equal_vs_hand_relative_loss.seed{seed}"] for seed in equal["seeds"]]
    errors = [100 * more[f"equal_vs_hand_relative_loss_error.seed{seed}"] for seed in equal["seeds"]]
    luts = [more[f"equal_lut.seed{seed}"] / more[f"hand_lut.seed{seed}"] for seed in equal["seeds"]]
    return [
        *lines,
        "",
        f"`{equal['command']}`: the pair at the LUTs of 57-8-1 on {len(gains)} seeds: relative gain "
        + ", ".join(f"{gain:+.2f} ± {error:.2f}" for gain, error in zip(gains, errors, strict=True))
        + f" %, **mean {-100 * more['equal_vs_hand_relative_loss.mean']:+.2f} ± "
        f"{100 * more['equal_vs_hand_relative_loss.error']:.2f} %** with the scatter between seeds, with "
        f"{100 * min(luts):.0f} to {100 * max(luts):.0f} % of its LUTs.",
    ]


TWO_STAGE_TITLES = {
    "jets": "jets, W/Z/t against q/g at 1 % background",
    "hh4b": "HH → 4b at 100 kHz",
}


def two_stage(result: dict[str, Any]) -> list[str]:
    """Full alone, pruned alone, the best light alone, menu and two stages, per seed."""
    lines = [
        f"`{result['command']}`: signal efficiency on test events, loss relative to the full model alone at exactly "
        "equal rate with its 90 % limit, LUTs and DSPs estimated for csynth by formula (FIFO and control included), "
        "latency in whole crossings:",
        "",
        "| | seed | design | efficiency | loss | 90 % limit | LUT, estimate | DSP, estimate | latency |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for project, seeds in result["runs"].items():
        for seed, found in seeds.items():
            for row in _shown_rows(found["rows"]):
                loss = "-" if row["loss"] is None else f"{100 * row['loss']:+.2f} ± {100 * row['loss_error']:.2f} %"
                limit = "-" if row["loss"] is None else f"{100 * row['loss_limit90']:+.2f} %"
                lut = "-" if row["lut"] is None else f"{row['lut']}"
                dsp = "-" if row["dsp"] is None else f"{row['dsp']}"
                latency = "-" if row["latency_ns"] is None else f"{row['latency_ns']:.0f} ns"
                name = f"{row['kind'].replace('_', ' ')}: {row['name']}"
                lines.append(
                    f"| {TWO_STAGE_TITLES[project]} | {seed} | {name} | {row['efficiency']:.4f} | {loss} | {limit} | "
                    f"{lut} | {dsp} | {latency} |"
                )
    lines.append("")
    for project, seeds in result["runs"].items():
        for seed, found in seeds.items():
            saving = (
                "" if found["saving"] is None else f", LUTs saved against the full model {100 * found['saving']:.0f} %"
            )
            interval = re.search(r"90 % interval of the saving: [^;]*", " ".join(found["sentences"]))
            saving += "" if interval is None else f" ({interval.group()})"
            lines.append(f"* {TWO_STAGE_TITLES[project]}, seed {seed}: verdict `{found['verdict']}`{saving}")
    return lines


def _shown_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows, of the light models only the one that loses least."""
    lights = [row for row in rows if row["kind"] == "light"]
    best = min(lights, key=lambda row: float(row["loss"])) if lights else None
    return [row for row in rows if row["kind"] != "light" or row is best]
