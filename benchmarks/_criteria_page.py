"""The tables of benchmarks/criteria.py, on the terminal and as docs/criteria.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

STATES = {"pruned": "before fine-tuning", "fine_tuned": "after fine-tuning"}
MODELS = {
    "jets": (
        "Jet tagger",
        "MLP 16-64-32-32-5 of `hls_projects/jet_tagger`, 5-bit weights, five classes; test accuracy",
    ),
    "calorimeter": (
        "Calorimeter images",
        "two Conv2d layers (6 and 8 channels, 2 x 2, stride 2) and a dense layer of 16 on the 18 x 14 regions of "
        "`hls_projects/calo_cnn`, signal against minimum bias; area under the ROC curve on the test part",
    ),
}
_UNITS = ("apoz", "activation", "activation_variance", "batchnorm_scale")


def _cell(figures: Mapping[str, float], stem: str) -> str:
    return f"{100 * figures[stem]:+.1f} ± {100 * figures[f'{stem}_interval']:.1f}"


def _best(figures: Mapping[str, float], model: str, criteria: Sequence[str], percent: str, state: str) -> str:
    return max(criteria, key=lambda name: figures[f"{model}.{name}.{percent}.{state}.merit"])


def print_tables(
    figures: Mapping[str, float], criteria: Sequence[str], merits: Mapping[str, str], percents: Sequence[str]
) -> None:
    """Change of the merit in hundredths, by criterion and sparsity."""
    for model, merit in merits.items():
        for state, when in STATES.items():
            print(f"\n{model}: {merit} {100 * figures[f'{model}.unpruned.merit']:.2f}, change in points {when}")
            print(f"  {'':<30}" + "".join(f"{percent + ' %':>16}" for percent in percents))
            for name in criteria:
                cells = (_cell(figures, f"{model}.{name}.{percent}.{state}.merit") for percent in percents)
                print(f"  {name:<30}" + "".join(f"{cell:>16}" for cell in cells))


def page(
    figures: Mapping[str, float],
    criteria: Sequence[str],
    merits: Mapping[str, str],
    percents: Sequence[str],
    seeds: Sequence[int],
) -> str:
    """Markdown."""
    epochs = round(figures["fine_tuning_epochs"])
    lines = [
        "# Importance criteria compared",
        "",
        "Written by `python benchmarks/criteria.py`; do not edit.",
        "",
        "Single weights of a trained, quantised network are masked in one shot, lowest scores of the whole network "
        f"first; then the network is fine-tuned for {epochs} epochs with the mask fixed. Each cell is the change "
        "against the unpruned network in points (hundredths of the merit): mean and 95 % interval (Student's t) over "
        f"{len(seeds)} seeds, which decide split, training and the 2048 events that data criteria see. Bold: the best "
        "of its column; where intervals overlap, that is no verdict.",
        "",
        "What to read out of it, and what not:",
        "",
        "* `obs with update` (`prune_with_obs`) also repairs the weights and biases that are kept; all others only "
        "choose a mask.",
        "* `X by layer` ranks within each layer, so every layer becomes about equally sparse. The others are compared "
        "over the whole network; no layer's density falls below half of the network's.",
        f"* {', '.join(f'`{name}`' for name in _UNITS)} score whole neurons and channels, so here they take weights "
        "neuron by neuron. They are meant for the structures neuron and filter.",
        "* `movement` has watched one epoch of fine-tuning that was then taken back.",
        "* `magnitude_l2` ranks single weights as `magnitude_l1` does, `snip` as `taylor`, `obd_fisher` as "
        "`taylor_fisher`.",
    ]
    for model, merit in merits.items():
        title, text = MODELS[model]
        lines += [
            "",
            f"## {title}",
            "",
            f"{text[0].upper()}{text[1:]}. {figures[f'{model}.unpruned.weights']:.0f} weights; unpruned {merit} "
            f"{figures[f'{model}.unpruned.merit']:.4f}, loss {figures[f'{model}.unpruned.loss']:.4f}.",
        ]
        for state, when in STATES.items():
            lines += ["", f"### {merit[0].upper()}{merit[1:]} {when}", ""]
            lines.append(f"| criterion | {' | '.join(f'{percent} %' for percent in percents)} |")
            lines.append("|---|" + "---:|" * len(percents))
            best = {percent: _best(figures, model, criteria, percent, state) for percent in percents}
            for name in criteria:
                cells = []
                for percent in percents:
                    cell = _cell(figures, f"{model}.{name}.{percent}.{state}.merit")
                    cells.append(f"**{cell}**" if best[percent] == name else cell)
                lines.append(f"| `{name}` | {' | '.join(cells)} |")
        lines += ["", "### Loss before fine-tuning, increase", ""]
        lines.append(f"| criterion | {' | '.join(f'{percent} %' for percent in percents)} | seconds for the scores |")
        lines.append("|---|" + "---:|" * (len(percents) + 1))
        for name in criteria:
            stems = [f"{model}.{name}.{percent}.pruned.loss" for percent in percents]
            cells = [f"{figures[stem]:.3f} ± {figures[f'{stem}_interval']:.3f}" for stem in stems]
            lines.append(f"| `{name}` | {' | '.join(cells)} | {figures[f'{model}.{name}.score_seconds']:.2f} |")
    return "\n".join(lines) + "\n"
