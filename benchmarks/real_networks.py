"""Networks that CMS runs, or has run, in its level-1 trigger: rebuilt from their weights, verified, costed.

    python benchmarks/real_networks.py [--quick] [--models DIR] [--only NAME] [--events N] [--no-synthesis]

``DIR`` holds the weight arrays of the public firmware repositories (AXOL1TL, CICADA, TOoLLiP, L1TSC4NGJetModel), one
``NETWORK.npz`` each with arrays named as in the firmware (``w2``, ``b2``, ``s4``) and an ``index.csv`` that states size
and range of every array. No licence comes with them, so they are not part of this project; the default is the folder
``shared/models`` beside the checkout. Layers and types: ``_trigger_networks.py``.

Every network is built with ``from_integers`` and executed as torch network, QONNX, ONNX, hls4ml C simulation, alkaid
adder graph and Verilog (Verilator); each must give the bits of a plain numpy implementation (``_firmware.py``) in every
event: uniform, small, sparse, and corners. Where the firmware's accumulators drop bits or overflow, which the rebuilt
network's do not, the fraction of events in which that changes an output is stated beside.

Prints a table per network and writes ``benchmarks/results/real_networks.json``. ``--quick``: two networks, 500 events.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from _firmware import Arrays, Codes, TriggerNetwork, inexact_layers, integer_outputs
from _firmware_csim import firmware_outputs
from _rebuild import build, features_of, load_arrays, make_events
from _result import write_result
from _trigger_networks import NETWORKS, NOT_REBUILT
from numpy.typing import NDArray
from torch import fx

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import DataError, TriggerPruneError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.synthesis.rtl.verilator import find_verilator, simulate_verilator
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.synthesis.runtime.cost import ProcessorCost
from trigger_prune.target import Target
from trigger_prune.verify.representations import Exported, torch_outputs, verify_network, write_lowered

DEFAULT_MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
QUICK = ("AXOL1TL v4", "TOoLLiP v1")
EVENTS = 4000
NO_TOOL = "no tool"
RUNTIME_BATCHES = (1, 1024)


def verify(network: TriggerNetwork, arrays: Arrays, quantised: fx.GraphModule, codes: Codes) -> dict[str, float]:
    """Mismatching events of every representation against the numpy integers, and how far the firmware is.

    A representation that fails counts every event. ``mismatches_firmware_csim`` compares the numpy model of the
    firmware, declared accumulators included, with hls4ml's own C++ for it.
    """
    n, features, expected = len(codes), features_of(network, codes), exact_outputs(network, arrays, codes)
    reference = torch_outputs(quantised, features, double=True)
    found: dict[str, float] = {"events": n, "mismatches_torch": int((reference != expected).any(axis=1).sum())}
    with tempfile.TemporaryDirectory(prefix="trigger_prune_real_") as name:
        exported = _export(quantised, Path(name))
        verdict = verify_network(quantised, exported, features, qonnx_events=min(n, 200))
    for pair in verdict.pairs:
        if pair.failure:
            print(f"{network.name}: {pair.name}: {pair.failure}", file=sys.stderr)
        found[f"mismatches_{pair.name}"] = n if pair.mismatches is None else pair.mismatches
    found["accumulator_bits"] = verdict.accumulator_bits
    firmware, firmware_fraction = integer_outputs(network, arrays, codes, exact_sums=False)
    distance = np.abs(firmware * 2.0**-firmware_fraction - expected).max(axis=1)
    found["firmware_differs_fraction"] = float((distance > 0).mean())
    found["firmware_difference_median"] = float(np.median(distance))
    found["firmware_proven_equal"] = int(not inexact_layers(network, arrays))
    as_compiled = firmware_outputs(network, arrays, codes)
    found["mismatches_firmware_csim"] = int((as_compiled != firmware * 2.0**-firmware_fraction).any(axis=1).sum())
    return found


def _export(quantised: fx.GraphModule, folder: Path) -> Exported:
    model = to_qonnx(quantised)
    onnx.save(model, str(folder / "model.onnx"))
    onnx.save(write_lowered(model, quantised), str(folder / "lowered.onnx"))
    project = write_hls4ml_project(quantised, folder / "project", Target(), "network")
    return Exported(folder / "model.onnx", folder / "lowered.onnx", project)


def exact_outputs(network: TriggerNetwork, arrays: Arrays, codes: Codes) -> NDArray[np.float64]:
    """What the rebuilt network must give, by the numpy integers."""
    output, fraction = integer_outputs(network, arrays, codes, exact_sums=True)
    return output * 2.0**-fraction


def simulate(network: TriggerNetwork, arrays: Arrays, quantised: fx.GraphModule, codes: Codes) -> dict[str, float]:
    """Mismatching events of the pipelined Verilog, clock by clock; {} (with a message) when it cannot be simulated."""
    features, expected = features_of(network, codes), exact_outputs(network, arrays, codes)
    comb = trace_network(freeze(quantised, double=True), FixedPoint.parse(network.input_type), features.shape[1:])
    with tempfile.TemporaryDirectory(prefix="trigger_prune_real_") as name:
        project = write_verilog(comb, Path(name), adders_per_stage=RtlCost().adders_per_stage, target=Target())
        try:
            simulation = simulate_verilator(project, features, timeout_s=600)
        except TriggerPruneError as error:
            print(f"{network.name}: the Verilog was not simulated: {error}", file=sys.stderr)
            return {}
    return {"mismatches_verilog": int((simulation.outputs != expected).any(axis=1).sum())}


def costs(
    network: TriggerNetwork, quantised: fx.GraphModule, *, synthesis: bool, timeout_s: float
) -> dict[str, HardwareReport | str]:
    """Report of every backend, or why there is none."""
    spec, target = describe_network(quantised), Target()
    deployed = Target(reuse_factor=network.reuse_factor)
    found: dict[str, HardwareReport | str] = {
        "analytic": _attempt(lambda: AnalyticCost().estimate(spec, target)),
        "analytic_hls": _attempt(lambda: HlsAnalyticCost().estimate(spec, target)),
        "analytic_hls_deployed": _attempt(lambda: HlsAnalyticCost().estimate(spec, deployed)),
        "runtime": _attempt(lambda: ProcessorCost(batch_sizes=RUNTIME_BATCHES).measure(quantised, target)),
        "csynth": NO_TOOL,
    }
    if synthesis:
        found["rtl"] = _attempt(lambda: RtlCost(timeout_s=timeout_s).measure(quantised, target))
        found["csynth"] = _csynth(quantised, deployed)
    return found


def _csynth(quantised: fx.GraphModule, target: Target) -> HardwareReport | str:
    from trigger_prune.synthesis.hls.tools import find_hls_tool

    if find_hls_tool() is None:
        return NO_TOOL
    from trigger_prune.synthesis.hls.cost import CsynthCost

    return _attempt(lambda: CsynthCost().measure(quantised, target))


def _attempt(measure: Callable[[], HardwareReport]) -> HardwareReport | str:
    try:
        return measure()
    except (TriggerPruneError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def figures_of(reports: dict[str, HardwareReport | str]) -> dict[str, float]:
    """Flat figures, ``backend_quantity``."""
    figures: dict[str, float] = {}
    for backend, report in reports.items():
        if isinstance(report, str):
            continue
        for quantity in ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii"):
            value = getattr(report, quantity)
            if value is not None:
                figures[f"{backend}_{quantity}"] = value
        if report.runtime is not None:
            figures[f"{backend}_p50_us"] = round(report.runtime.latency_p50_us[0], 2)
            figures[f"{backend}_p99_us"] = round(report.runtime.latency_p99_us[0], 2)
            figures[f"{backend}_events_per_s"] = round(max(report.runtime.throughput_hz))
    return figures


@dataclass(frozen=True)
class Row:
    """One network: flat figures, and why a backend has none."""

    figures: dict[str, float]
    without: dict[str, str]


def table(rows: dict[str, Row]) -> str:
    """One line per network."""
    columns = (
        ("weights", "n_weights"),
        ("not 0", "nonzeros"),
        ("events", "events"),
        ("wrong", "mismatches"),
        ("fw differs", "firmware_differs_fraction"),
        ("LUT est.", "analytic_lut"),
        ("LUT rtl", "rtl_lut"),
        ("FF rtl", "rtl_ff"),
        ("cycles", "rtl_latency_cycles"),
        ("LUT hls est.", "analytic_hls_lut"),
        ("DSP", "analytic_hls_dsp"),
        ("cycles", "analytic_hls_latency_cycles"),
        ("CPU us", "runtime_p50_us"),
        ("csynth", "csynth_lut"),
    )
    lines = ["  ".join([f"{'network':22}", *(f"{title:>{max(7, len(title))}}" for title, _ in columns)])]
    for name, row in rows.items():
        cells = []
        for title, key in columns:
            value = row.figures.get(key)
            text = f"{value:.2f}" if isinstance(value, float) else str(value)
            if value is None:
                text = "no tool" if row.without.get(key.rsplit("_", 1)[0]) == NO_TOOL else "-"
            cells.append(f"{text:>{max(7, len(title))}}")
        lines.append("  ".join([f"{name:22}", *cells]))
    return "\n".join(lines)


def examine(network: TriggerNetwork, folder: Path, events: int, *, synthesis: bool, timeout_s: float) -> Row:
    """Rebuild, verify and cost one network."""
    started = time.perf_counter()
    arrays = load_arrays(folder, network)
    quantised = build(network, arrays)
    spec = describe_network(quantised)
    codes = make_events(network, events)
    checked = verify(network, arrays, quantised, codes) | simulate(network, arrays, quantised, codes)
    wrong = sum(int(value) for key, value in checked.items() if key.startswith("mismatches_"))
    reports = costs(network, quantised, synthesis=synthesis, timeout_s=timeout_s)
    without = {backend: report for backend, report in reports.items() if isinstance(report, str)}
    print(f"{network.name}: {wrong} mismatches, {time.perf_counter() - started:.0f} s", flush=True)
    for backend, reason in without.items():
        print(f"    {backend}: {reason}", flush=True)
    figures = {"n_weights": spec.n_weights, "nonzeros": spec.nonzeros, "mismatches": wrong}
    return Row(figures | checked | figures_of(reports), without)


def main() -> None:
    parser = argparse.ArgumentParser(description="Real level-1 trigger networks: rebuilt, verified, costed.")
    parser.add_argument("--quick", action="store_true", help="two networks, 500 events")
    parser.add_argument("--models", type=Path, default=DEFAULT_MODELS, help="folder with NETWORK.npz and index.csv")
    parser.add_argument("--only", metavar="NAME", help="networks whose name contains this")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"events per network ({EVENTS})")
    parser.add_argument("--no-synthesis", action="store_true", help="leave out Yosys and the HLS compiler")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one synthesis")
    arguments = parser.parse_args()
    chosen = [n for n in NETWORKS if (arguments.only or "") in n.name and (not arguments.quick or n.name in QUICK)]
    events = min(arguments.events, 500) if arguments.quick else arguments.events
    rows: dict[str, Row] = {}
    try:
        for network in chosen:
            rows[network.name] = examine(
                network, arguments.models, events, synthesis=not arguments.no_synthesis, timeout_s=arguments.timeout
            )
    except DataError as error:
        parser.exit(2, f"{error}\n")
    print(table(rows))
    for name, reason in NOT_REBUILT.items():
        print(f"not rebuilt: {name}: {reason}")
    for network in chosen:
        facts = [f"types from {network.source}", *filter(None, (network.reference, *network.assumed))]
        print(f"{network.name}: {'; '.join(facts)}")
    figures = {f"{_key(name)}_{key}": value for name, row in rows.items() for key, value in row.figures.items()}
    if not arguments.only:
        write_result(
            "real_networks_quick" if arguments.quick else "real_networks",
            figures,
            ("trigger_prune", "alkaid", "pyosys", "hls4ml", "numpy", "torch"),
            networks={
                n.name: {
                    "source": n.source,
                    "reference": n.reference,
                    "assumed": n.assumed,
                    "reuse_factor_deployed": n.reuse_factor,
                    "without_report": rows[n.name].without,
                }
                for n in chosen
            },
            not_rebuilt=NOT_REBUILT,
            verilator=_verilator(),
        )
    sys.exit(int(any(row.figures["mismatches"] for row in rows.values())))


def _verilator() -> str:
    try:
        return find_verilator().version
    except TriggerPruneError as error:
        return error.message


def _key(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name.lower())


if __name__ == "__main__":
    main()
