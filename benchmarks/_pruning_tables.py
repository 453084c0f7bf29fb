"""The README's tables about pruning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Result = Callable[[str], dict[str, Any]]


def budget_loop(result: Result) -> list[str]:
    """The solver against uniform sparsity and a global ranking."""
    found = result("budget_loop")
    figures = found["figures"]
    lines = [
        f"`{found['command']}`: jets, budget of {found['budget_lut']} LUTs (cost stage "
        f"`{found['cost_stage']}`), test events, "
        "mean ± standard error over 3 seeds, each method from the same trained network in a cost loop of its own:",
        "",
        "| allocation | accuracy | AUC | measured LUT | measured rounds | epochs of the loop |",
        "|---|---|---|---|---|---|",
    ]
    names = {
        "uniform": "same sparsity in every layer, magnitude",
        "global": "one global ranking, magnitude",
        "solver": "**solver**",
        "digits": "**solver**, and refinement into the budget",
    }
    for method, label in names.items():
        cells = [
            f"{figures[f'{method}_{name}_mean']:{form}} ± {figures[f'{method}_{name}_error']:{form}}"
            for name, form in (
                *(("accuracy", ".4f"), ("auc", ".4f"), ("lut", ".0f")),
                *(("rounds", ".1f"), ("epochs", ".0f")),
            )
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    gains = [
        f"{label} {figures[f'{method}_gain_over_{other}_points']:+.2f} ± "
        f"{figures[f'{method}_gain_over_{other}_points_error']:.2f} over {over}"
        for method, label in (("solver", "solver"), ("digits", "with refinement"))
        for other, over in (("uniform", "uniform sparsity"), ("global", "the global ranking"))
    ]
    return [*lines, "", f"Points of accuracy gained, seed by seed: {', '.join(gains)}."]


def obs(result: Result) -> list[str]:
    """OBS with its update against magnitude, one layer at a time and whole networks."""
    found = result("obs")
    figures = found["figures"]
    layers = [
        key.removeprefix("layer_").removesuffix("_ratio")
        for key in figures
        if key.startswith("layer_") and key.endswith("_ratio")
    ]
    rows = [
        f"| {name}, 90 % | +{figures[f'layer_{name}_magnitude']:.3f} | +{figures[f'layer_{name}_obs']:.3f} | "
        f"{figures[f'layer_{name}_ratio']:.1f} |"
        for name in layers
    ]
    for share in (50, 80, 90, 95):
        best = min(figures[f"network_{share}_magnitude_global"], figures[f"network_{share}_magnitude_layer"])
        rows.append(
            f"| whole network, {share} % | +{best:.3f} | +{figures[f'network_{share}_obs']:.3f} | "
            f"{figures[f'network_{share}_ratio']:.1f} |"
        )
    return [
        f"`{found['command']}`: increase of the test loss of the quantised jet tagger, mean of 5 seeds (whole "
        "network: the "
        "better of a global and a layer-wise magnitude ranking):",
        "",
        "| pruned | magnitude | OBS with update | ratio |",
        "|---|---|---|---|",
        *rows,
    ]


def sensitivity(result: Result) -> list[str]:
    """Speed of the scan."""
    found = result("sensitivity")
    f = found["figures"]
    return [
        f"`{found['command']}`: the sensitivity scan ({f['jets_networks']:.0f} pruned networks, "
        f"{f['jets_events']:.0f} test events "
        "of the jet tagger) takes "
        f"{f['jets_loss_and_accuracy_s']:.2f} s, the plain loop (prune, evaluate, restore) "
        f"{f['jets_loss_and_accuracy_plain_s']:.2f} s in "
        f"the same run: **{f['jets_loss_and_accuracy_speedup']:.1f} times** faster, largest difference "
        f"{f['jets_largest_difference']:.0e}. With AUC and signal efficiency as well it is "
        f"{f['jets_all_four_figures_speedup']:.1f} times faster. "
        "Stopping every point when the 68 % interval of its accuracy difference is 0.02 wide (or a fifth of it) is "
        f"{f['jets_interval_of_0.02_speedup']:.1f} times faster. A small convolutional network: "
        f"{f['images_loss_and_accuracy_speedup']:.1f} and {f['images_interval_of_0.02_speedup']:.1f} times.",
    ]


def lottery(result: Result) -> list[str]:
    """Time of lottery tickets beside plain training."""
    found = result("lottery")
    f = found["figures"]
    return [
        f"`{found['command']}` (one seed, {f['epochs']:.0f} epochs): iterative magnitude pruning takes "
        f"{f['imp_over_plain_times_trainings_cpu']:.2f} of the processor time of as many plain trainings "
        f"({f['imp_trainings']:.0f}; {f['imp_over_plain_times_pruning_rounds_cpu']:.2f} when only the pruning "
        "rounds are "
        f"counted), early bird {f['early_bird_over_two_plain_cpu']:.2f} of two. Test accuracy: dense "
        f"{f['dense_accuracy']:.4f}, ticket {f['imp_accuracy']:.4f}, early bird {f['early_bird_accuracy']:.4f}.",
    ]


def solver(result: Result) -> list[str]:
    """Proven gap and time of the solver on large problems."""
    found = result("solver")
    f = found["figures"]
    families = [key.removesuffix("_gap_percent_max") for key in f if key.endswith("_gap_percent_max")]
    clock = "cpu_seconds" if f"{families[0]}_cpu_seconds_median" in f else "seconds"
    rows = [
        f"| {name} | {f[f'{name}_gap_percent_median']:.2f} | {f[f'{name}_gap_percent_max']:.2f} | "
        f"{f[f'{name}_{clock}_median']:.2f} | {f[f'{name}_{clock}_max']:.2f} | "
        f"{100 * (f[f'{name}_greedy_over_plan_median'] - 1):+.1f} |"
        for name in families
    ]
    unit = "processor time" if clock == "cpu_seconds" else "time"
    return [
        f"`{found['command']}`: 50 layers of 40 options under 5 limits, proven gap and {unit} of the solver, and "
        "how much more loss the greedy baseline accepts:",
        "",
        "| problems | gap, median % | gap, largest % | median s | largest s | greedy, % |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


_ALLOCATIONS = {
    "uniform": "same sparsity in every layer, magnitude",
    "global": "one global ranking, magnitude",
    "solver_fisher": "solver, by the diagonal Fisher",
    "solver": "**solver**",
    "digits": "**solver**, and refinement into the budget",
}


def equal_lut(result: Result) -> list[str]:
    """The allocations at exactly equal measured LUTs, on seeds of their own; and a budget of 10 000 LUT."""
    comparisons = [result(f"equal_lut_equal_epochs_seeds_{seeds}") for seeds in ("10_11_12", "13_14_15")]
    ten = result("budget_loop_10000")
    g = ten["figures"]
    seeds = [key.removeprefix("solver_seconds_seed") for key in g if key.startswith("solver_seconds_seed")]
    first = ", ".join(f"{g[f'solver_first_within_seed{seed}']:.0f}" for seed in seeds)
    seconds = ", ".join(f"{g[f'solver_seconds_seed{seed}']:.0f}" for seed in seeds)
    lines = [
        f"At exactly {comparisons[0]['figures']['at_lut']:.0f} measured LUTs, by interpolation between two budgets. "
        "Epochs are those of the whole loops, search and discarded trainings included.",
    ]
    for found in comparisons:
        lines += ["", f"`{found['command']}`:", "", *_equal_lut_rows(found)]
    return [
        *lines,
        "",
        f"`{ten['command']}`: a budget of {ten['budget_lut']} LUTs, {len(seeds)} seeds: the measured iteration that is "
        f"inside it first is number {first}; the whole stage took {seconds} s.",
    ]


def _equal_lut_rows(found: dict[str, Any]) -> list[str]:
    f = found["figures"]

    def gain(method: str, other: str) -> str:
        key = f"{method}_gain_over_{other}"
        if f"{key}_accuracy" not in f:
            return ""
        return (
            f"{f[f'{key}_accuracy']:+.2f} ± {f[f'{key}_accuracy_error']:.2f} "
            f"({f[f'{key}_auc']:+.4f} ± {f[f'{key}_auc_error']:.4f})"
        )

    def figure(method: str, name: str) -> str:
        return f"{f[f'{method}_{name}_mean']:.4f} ± {f[f'{method}_{name}_error']:.4f}"

    return [
        "| allocation | epochs | accuracy | AUC | points (AUC) over uniform sparsity | over the global ranking |",
        "|---|---|---|---|---|---|",
        *(
            f"| {label} | {f[f'{method}_epochs_mean']:.0f} | {figure(method, 'accuracy')} | {figure(method, 'auc')} | "
            f"{gain(method, 'uniform')} | {gain(method, 'global')} |"
            for method, label in _ALLOCATIONS.items()
            if f"{method}_epochs_mean" in f
        ),
    ]


def learned(result: Result) -> list[str]:
    """Learned bit widths at the budget of the table above."""
    found = result("budget_loop_learned")
    f = found["figures"]
    seeds = sum(key.startswith("learned_accuracy_seed") for key in f)
    cells = [
        f"{f[f'learned_{name}_mean']:{form}}" + (f" ± {f[f'learned_{name}_error']:{form}}" if seeds > 1 else "")
        for name, form in (("accuracy", ".4f"), ("auc", ".4f"), ("lut", ".0f"), ("rounds", ".1f"))
    ]
    numbers = [key.removeprefix("learned_lut_seed") for key in f if key.startswith("learned_lut_seed")]
    landed = ", ".join(f"{f[f'learned_lut_seed{n}']:.0f} LUTs with {f[f'learned_rounds_seed{n}']:.0f}" for n in numbers)
    return [
        f"`{found['command']}`: the same trained networks and budget of {found['budget_lut']} LUTs as above, 170 "
        f"epochs, {seeds} seed{'s' if seeds > 1 else ''}: accuracy **{cells[0]}**, AUC {cells[1]} "
        f"at {cells[2]} measured LUTs. Where the trainings landed, and how many networks they measured: {landed}.",
    ]


def refine(result: Result) -> list[str]:
    """LUTs that the refinement saves behind magnitude pruning."""
    found = result("refine")
    f = found["figures"]
    starts = list(dict.fromkeys(key.split(".epochs")[0] for key in f))
    lines = [
        f"`{found['command']}`: magnitude networks of 16-64-32-32-5 refined as far as the AUC on validation may fall, "
        "LUTs and AUC on test events, mean over seeds:",
        "",
        "| pruned | fall allowed | LUT, moves alone | AUC | LUT, with fine-tuning | AUC |",
        "|---|---|---|---|---|---|",
    ]
    for start in starts:
        falls = ("start", "control", "fall0", "fall0.001", "fall0.002", "fall0.004", "fall0.012")
        for fall in falls:
            cells = []
            for epochs in ("epochs0", "epochs15"):
                key = f"{start}.{epochs}.{fall}"
                cells.append(f"{f[f'{key}.lut']:.0f} | {f[f'{key}.test_auc']:.4f}" if f"{key}.lut" in f else "- | -")
            label = "start, trained on as long" if fall == "control" else fall.removeprefix("fall")
            lines.append(f"| {100 * float(start.removeprefix('sparsity')):.0f} % | {label} | {' | '.join(cells)} |")
    return lines


def dense_precision(result: Result) -> list[str]:
    """Accuracy of the dense quantised network beside the float one."""
    found = result("dense_precision")
    f = found["figures"]
    return [
        f"`{found['command']}`: the dense jet tagger with {f['bits']:.0f}-bit weights and activations loses "
        f"{f['points_lost']:.2f} ± {f['points_lost_error']:.2f} points of accuracy on {f['float_accuracy']:.4f} "
        f"(AUC {f['auc']:.4f}, float {f['float_auc']:.4f}; mean over {f['seeds']:.0f} seeds).",
    ]


def peers_compare(result: Result) -> list[str]:
    """LUTs of the toolkit at the AUC of the peers' joint front."""
    found = result("peers_compare")
    lines = [
        f"`{found['command']}`: LUTs at which the peers' joint front and the toolkit (learned bit widths, one training "
        "per seed) reach an AUC on test events, interpolated along fronts chosen on validation; ratio with 90 % "
        "interval from a bootstrap over events and seeds:",
    ]
    for data, table in found["tables"].items():
        lines += [
            "",
            f"{data}: {table['peers']}; toolkit seeds {table['own_seeds']}",
            "",
            "| AUC | peers, LUT | toolkit, LUT | ratio | 90 % interval |",
            "|---|---|---|---|---|",
        ]
        for row in table["rows"]:
            ratio = f"**{row['ratio']:.2f}**" if row["high"] < 1 else f"{row['ratio']:.2f}"
            lines.append(
                f"| {row['auc']:.3f} | {row['peers_lut']:.0f} | {row['own_lut']:.0f} | {ratio} | "
                f"{row['low']:.2f} to {row['high']:.2f} |"
            )
    return lines


def peers(result: Result) -> list[str]:
    """Fronts of other tools, through the same flow."""
    found = result("peers")
    f = found["figures"]
    samples = list(dict.fromkeys(key.split(".")[0] for key in f))
    budgets = (2000, 5000, 10000, 20000)
    lines = [
        f"`{found['command']}`: other tools in their own environments, same events, split and flow; AUC "
        "(accuracy) at measured "
        "LUTs of the network of best validation AUC within each number of LUTs, test events, means over the "
        "seeds finished:",
        "",
        "| sample | tool | seeds | CPU s to train | to measure | "
        + " | ".join(f"≤ {budget} LUT" for budget in budgets)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(budgets),
    ]
    for sample in samples:
        tools = dict.fromkeys(key.split(".")[1] for key in f if key.startswith(f"{sample}."))
        for tool in tools:
            key = f"{sample}.{tool}"
            cells = [
                f"{f[f'{key}.lut{budget}.auc']:.4f} ({f[f'{key}.lut{budget}.accuracy']:.4f}) @ "
                f"{f[f'{key}.lut{budget}.lut']:.0f}"
                if f"{key}.lut{budget}.auc" in f
                else "-"
                for budget in budgets
            ]
            lines.append(
                f"| {sample} | {tool} | {f[f'{key}.seeds']:.0f} | {f[f'{key}.train_cpu_s']:.0f} | "
                f"{f[f'{key}.cost_cpu_s']:.0f} | {' | '.join(cells)} |"
            )
    return lines
