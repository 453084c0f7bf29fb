"""Writes the tables of README.md from ``benchmarks/results/``.

    python benchmarks/update_readme.py [--check]

``--check`` changes nothing and fails when a table is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        f"({figures['test_events']:.0f} test events; qonnx executes the first 1 000).",
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


def _rtl() -> list[str]:
    result = _result("rtl")
    figures = result["figures"]
    names = dict.fromkeys(key.split(".")[0] for key in figures)
    columns = ("nonzeros", "lut", "ff", "stages", "yosys_cpu_s", "stock_lut", "stock_yosys_cpu_s")
    rows = [
        f"| {name} | " + " | ".join(f"{figures[f'{name}.{column}']:.0f}" for column in columns) + " |" for name in names
    ]
    return [
        f"`{result['command']}`: the `rtl` backend on 16-64-32-32-5 with random 8-bit weights, beside the complete "
        "`synth_xilinx` of Yosys (stock):",
        "",
        "| network | weights | LUT | FF | stages | CPU s | stock LUT | stock CPU s |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _layers() -> list[str]:
    rows = [
        f"| {entry.layer} | {entry.treatment} | {'yes' if entry.deploys else 'not yet'} | {entry.remark} |"
        for entry in SUPPORTED
    ]
    return ["| layer | what happens to it | deploys through hls4ml | remark |", "|---|---|---|---|", *rows]


TABLES: dict[str, Callable[[], list[str]]] = {
    "main_job": _main_job,
    "layers": _layers,
    "startup": _startup,
    "cost_model": _cost_model,
    "rtl": _rtl,
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
