"""Writes the tables of README.md from ``benchmarks/results/``.

    python benchmarks/update_readme.py [--check]

``--check`` changes nothing and fails when a table is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import _physics_tables
import _pruning_tables

from trigger_prune.quantize.graph import SUPPORTED

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"


def _result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _main_job() -> list[str]:
    result = _result("main_job")
    figures = result["figures"]
    seeds = sorted(int(key.removeprefix("lut_ratio_seed")) for key in figures if key.startswith("lut_ratio_seed"))

    def row(label: str, name: str, form: str, scale: float = 1.0) -> str:
        cells = [form.format(scale * figures[f"{name}_seed{seed}"]) for seed in seeds]
        mean = f"{form.format(scale * figures[f'{name}_mean'])} ± {form.format(scale * figures[f'{name}_sd'])}"
        return f"| {label} | {' | '.join(cells)} | {mean} |"

    heads = " | ".join(f"seed {seed}" for seed in seeds)
    drops = [
        f"{100 * figures[f'accuracy_drop_seed{seed}']:.2f} ± {100 * figures[f'accuracy_drop_error_seed{seed}']:.2f}"
        for seed in seeds
    ]
    return [
        f"`{result['command']}` ({result['machine']['cpus']} cores, cost stage `{result['cost_stage']}`; the last "
        "column is mean ± standard deviation over seeds):",
        "",
        f"| | {heads} | mean |",
        "|---|" + "---|" * (len(seeds) + 1),
        row("float test accuracy", "float_accuracy", "{:.4f}"),
        row("float mean AUC", "float_auc", "{:.4f}"),
        row("dense 8-bit accuracy", "dense_accuracy", "{:.4f}"),
        row("**deployed accuracy**", "deployed_accuracy", "{:.4f}"),
        row("deployed mean AUC", "deployed_auc", "{:.4f}"),
        f"| float minus deployed, points | {' | '.join(drops)} | {100 * figures['accuracy_drop_mean']:.2f} |",
        row("dense 8-bit LUT", "dense_lut", "{:.0f}"),
        row("**deployed LUT**", "deployed_lut", "{:.0f}"),
        row("**times fewer LUTs**", "lut_ratio", "{:.1f}"),
        row("deployed FF", "deployed_ff", "{:.0f}"),
        row("deployed DSP", "deployed_dsp", "{:.0f}"),
        row("pipeline latency, cycles", "deployed_latency_cycles", "{:.0f}"),
        row("non-zero weights (of 4 256)", "deployed_nonzeros", "{:.0f}"),
        row("inputs read (of 16; one is a copy)", "deployed_inputs", "{:.0f}"),
        row("stage times, s", "wall_s", "{:.0f}"),
        "",
        f"Differing events over all pairs of representations and seeds: **{figures['mismatches_all_pairs']:.0f}** "
        f"({figures['test_events']:.0f} test events; qonnx and the simulated Verilog the first 1 000).",
    ]


def _startup() -> list[str]:
    result = _result("startup")
    figures = result["figures"]
    return [
        f"`{result['command']}` (median of {figures['processes']} processes): `import trigger_prune` "
        f"{figures['import_s']:.3f} s, `trigger-prune --help` {figures['help_s']:.3f} s, Python alone "
        f"{figures['python_s']:.3f} s."
    ]


def _cost_model() -> list[str]:
    result = _result("cost_model")
    figures = result["figures"]
    return [
        f"`{result['command']}`: the `analytic` estimate against Yosys on {figures['validation_networks']:.0f} random "
        f"networks of {figures['validation_lut_smallest']:.0f} to {figures['validation_lut_largest']:.0f} LUTs that no "
        "constant was fitted on:",
        "",
        "| | median error | 90 % within |",
        "|---|---|---|",
        *(
            f"| {name} | {100 * figures[f'validation_{key}_error_median']:.0f} % | "
            f"{100 * figures[f'validation_{key}_error_90']:.0f} % |"
            for name, key in (("LUT", "lut"), ("FF", "ff"))
        ),
        "",
        f"Latency is exact for {100 * figures['validation_latency_exact_fraction']:.0f} % of them, and "
        f"{figures['validation_latency_error_max_cycles']:.0f} cycle off at most.",
    ]


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _rtl() -> list[str]:
    result = _result("rtl")
    figures = result["figures"]
    names = [key.removesuffix(".nonzeros") for key in figures if key.endswith(".nonzeros")]
    columns = ("nonzeros", "lut", "ff", "stages", "cpu_s", "tool_peak_mib", "stock_lut", "stock_yosys_cpu_s")
    heads = ["network", "weights", "LUT", "FF", "stages", "CPU s", "peak MiB", "stock LUT", "stock CPU s"]
    same = all(figures[f"{name}.same_cells"] == 1 for name in names)
    events = sum(figures.get(f"{name}.simulated_events", 0) for name in names)
    wrong = sum(figures.get(f"{name}.mismatches_torch", 0) for name in names)
    return [
        f"`{result['command']}`: the `rtl` backend on 16-64-32-32-5 with random 8-bit weights, beside the complete "
        "`synth_xilinx` of Yosys (stock):",
        "",
        *_rows(heads, ([name, *(f"{figures[f'{name}.{column}']:.0f}" for column in columns)] for name in names)),
        "",
        f"Every cell count is the same in a second run from another folder: {'yes' if same else 'NO'}. Verilator, "
        f"clock by clock through the filling pipeline: {wrong:.0f} of {events:.0f} events differ from the network.",
    ]


def _hls_cost() -> list[str]:
    result = _result("hls_cost")
    figures, goals = result["figures"], result["goals"]
    names = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram18": "BRAM", "latency_cycles": "latency", "ii": "II"}
    peers = [key[: -len(" lut smape")] for key in figures if key.startswith("rule4ml") and key.endswith(" lut smape")]

    def cell(key: str, form: str = "{:.1f}") -> str:
        return form.format(figures[key]) if key in figures else "-"

    project, network = "one_project_held_out", "one_network_held_out"
    rows = [
        [
            name,
            f"{goals[f'network_{key}_smape']:.0f}",
            cell(f"{project}_{key}_smape"),
            cell(f"{network}_{key}_smape"),
            cell(f"{project},_no_directive_on_multipliers_{key}_smape"),
            cell(f"{project}_{key}_coverage", "{:.2f}"),
            *(cell(f"{peer} {key} smape", "{:.0f}") for peer in peers),
        ]
        for key, name in names.items()
    ]
    heads = [
        "",
        "goal",
        "project held out",
        "network held out",
        "project held out, no directive on multipliers",
        "in interval",
    ]
    return [
        f"`{result['command']}`: `analytic_hls` against the csynth reports of {figures['designs']:.0f} dense networks "
        "(io_parallel, strategy latency, two public projects), SMAPE in %; the 90 % interval is made without the "
        "errors of the same network (these designs are 7 networks, so its coverage is known to about 0.1):",
        "",
        *_rows([*heads, *peers], rows),
        "",
        *_hls_families(figures),
        "",
        *_hls_unseen(),
    ]


def _hls_unseen() -> list[str]:
    result = _result("hls_cost_unseen")
    figures = result["figures"]
    names = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "latency_cycles": "latency", "ii": "II"}

    def errors(label: str) -> str:
        return ", ".join(f"{name} {figures[f'{label}_{key}_smape']:.0f} %" for key, name in names.items())

    return [
        f"`{result['command']}`: a compiler and layers that no fit of strategy latency has used (wa-hls4ml-search, "
        f"Vivado HLS 2020.1; its weights are not published and were drawn as Keras draws them, {figures['seeds']:.0f} "
        f"seeds). SMAPE of {figures['rf_1_layers']:.0f} layers at reuse factor 1: {errors('rf_1')}; of "
        f"{figures['rf_above_1_layers']:.0f} at 512 and 1024, far beyond what a trigger uses: {errors('rf_above_1')}.",
    ]


def _hls_families(figures: dict[str, float]) -> list[str]:
    """Layers of strategy resource, streamed convolutions, feasibility."""
    places = {"Keb-L+hls4ml-data": "Keb-L", "N-TORC(HeRCLab)": "N-TORC"}
    groups = {"conv": "streamed convolution", "network_other": "whole streamed design"}
    rows = [
        [
            f"{what}, {short} ({'project' if fold == 'project' else 'network'} held out)",
            *(f"{figures[f'{stem}_{key}_smape']:.0f}" for key in ("lut", "ff", "bram18", "latency_cycles")),
        ]
        for group, what in groups.items()
        for place, short in places.items()
        for fold in ("project", "network")
        if f"{(stem := f'{group}_one_{fold}_held_out_{place}')}_lut_smape" in figures
    ]
    share = {key.split(" (goal")[0]: (value, key) for key, value in figures.items() if " (goal" in key}
    text = {
        "resource_ii_exact_share": "II exact",
        "resource_dsp_exact_share_8_to_16_bit": "DSP exact at 8 to 16 bits",
        "resource_dsp_exact_share_to_4_bit": "DSP exact up to 4 bits",
        "resource_bram_within_1_share": "BRAM within 1",
        "resource_latency_within_2_share": "latency within 2 cycles",
    }
    exact = ", ".join(f"{what} {100 * share[key][0]:.1f} %" for key, what in text.items())
    return [
        "Convolutions, SMAPE in %:",
        "",
        *_rows(["", "LUT", "FF", "BRAM", "latency"], rows),
        "",
        "Dense layers of strategy resource with a reuse factor above 1 (wa-hls4ml-search, configurations held out): "
        f"{exact}; DSP at 6 bits, median error {share['resource_dsp_median_error_6_bit_percent'][0]:.0f} %; SMAPE of "
        f"LUT {figures['resource_lut_smape']:.1f} % and of FF {figures['resource_ff_smape']:.1f} %. Will csynth "
        f"finish? ({figures['feasibility_runs']:.0f} runs, sizes held out): AUC {share['feasibility_auc'][0]:.3f}.",
    ]


def _real_networks() -> list[str]:
    result = _result("real_networks")
    figures = result["figures"]
    columns = ("analytic_lut", "rtl_lut", "rtl_ff", "rtl_latency_cycles", "analytic_hls_lut", "analytic_hls_dsp")
    columns = (*columns, "analytic_hls_latency_cycles", "runtime_p50_us")
    rows = []
    for name in (key.removesuffix("_n_weights") for key in figures if key.endswith("_n_weights")):
        one = {key.removeprefix(f"{name}_"): value for key, value in figures.items() if key.startswith(f"{name}_")}
        differs = f"{100 * one['firmware_differs_fraction']:.0f} % differ"
        rows.append(
            [
                name,
                f"{one['n_weights']:.0f} / {one['nonzeros']:.0f}",
                f"{one['mismatches']:.0f}",
                "proven equal" if one["firmware_proven_equal"] else differs,
                *(f"{one[column]:.0f}" for column in columns),
            ]
        )
    heads = ["network", "weights / non-zero", "wrong of 4 000 events", "firmware", "`analytic` LUT", "`rtl` LUT", "FF"]
    heads += ["cycles", "`analytic_hls` LUT", "DSP", "cycles", "CPU p50, us"]
    return [
        f"`{result['command']}` (xcvu13p, 5 ns, reuse factor 1; weights of the public cms-hls4ml firmware, which are "
        "not shipped):",
        "",
        *_rows(heads, rows),
    ]


def _runtime() -> list[str]:
    result = _result("runtime")
    figures = result["figures"]
    batches = (1, 64, 1024)
    rows = []
    for name in (key.removesuffix("_neurons_removed") for key in figures if key.endswith("_neurons_removed")):
        times = (
            f"{figures[f'{name}_batch{batch}_p50_us']:.1f} ({figures[f'{name}_batch{batch}_times_faster']:.2f}x)"
            for batch in batches
        )
        rows.append([name.replace("_", " "), f"{figures[f'{name}_neurons_removed']:.0f}", *times])
    return [
        f"`{result['command']}` ({result['device']}, {result['threads']} thread; median time of a call in us, and how "
        "many times faster than dense):",
        "",
        *_rows(["network, % pruned", "neurons removed", *(f"batch {batch}" for batch in batches)], rows),
    ]


def _layers() -> list[str]:
    rows = [f"| {entry.layer} | {entry.treatment} | {entry.remark} |" for entry in SUPPORTED]
    return ["| layer | what happens to it | remark |", "|---|---|---|", *rows]


TABLES: dict[str, Callable[[], list[str]]] = {
    "main_job": _main_job,
    "layers": _layers,
    "startup": _startup,
    "cost_model": _cost_model,
    "rtl": _rtl,
    "hls_cost": _hls_cost,
    "real_networks": _real_networks,
    "budget_loop": lambda: _pruning_tables.budget_loop(_result),
    "equal_lut": lambda: _pruning_tables.equal_lut(_result),
    "solver": lambda: _pruning_tables.solver(_result),
    "obs": lambda: _pruning_tables.obs(_result),
    "sensitivity": lambda: _pruning_tables.sensitivity(_result),
    "lottery": lambda: _pruning_tables.lottery(_result),
    "dense_precision": lambda: _pruning_tables.dense_precision(_result),
    "refine": lambda: _pruning_tables.refine(_result),
    "learned": lambda: _pruning_tables.learned(_result),
    "peers": lambda: _pruning_tables.peers(_result),
    "peers_compare": lambda: _pruning_tables.peers_compare(_result),
    "runtime": _runtime,
    "level1_projects": lambda: _physics_tables.level1_projects(_result("level1_projects")),
    "hh4b_pruned": lambda: _physics_tables.hh4b_pruned(_result("hh4b_pruned"), _result("hh4b_equal")),
    "two_stage": lambda: _physics_tables.two_stage(_result("two_stage")),
    "surrogate": lambda: _physics_tables.surrogate(_result("surrogate")),
    "metrics_speed": lambda: _physics_tables.metrics_speed(_result("metrics_speed")),
    "jet_features": lambda: _physics_tables.jet_features(_result("jet_features")),
}


def updated(text: str) -> str:
    """``text`` with every table between its markers written anew."""
    for name, table in TABLES.items():
        block = f"<!-- begin {name} -->\n" + "\n".join(table()) + f"\n<!-- end {name} -->"
        pattern = re.compile(rf"<!-- begin {name} -->.*?<!-- end {name} -->", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            sys.exit(f"README.md has no single pair of markers for {name}")
        text = pattern.sub(lambda match, block=block: block, text)
    return text


def main() -> None:
    """Write README.md, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when README.md is out of date")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = updated(before)
    if check and after != before:
        sys.exit("README.md is out of date: run python benchmarks/update_readme.py")
    if not check:
        temporary = README.with_suffix(".tmp")
        temporary.write_text(after, encoding="utf-8")
        temporary.rename(README)


if __name__ == "__main__":
    main()
