"""``report.html``: one file that opens from disk and asks for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.parts import find_part
from trigger_prune.report import numbers, plots, series
from trigger_prune.report.inputs import ReportInputs
from trigger_prune.report.summary import is_stand_in
from trigger_prune.report.trigger import few_events, paired_difference
from trigger_prune.report.trigger_page import path_functions, trigger_page
from trigger_prune.units import ns_to_bunch_crossings

FINDINGS_SHOWN = 12
"""Input findings on the page; the rest is folded."""

QUANTITIES = MappingProxyType(
    {
        "lut": "LUT",
        "ff": "FF",
        "dsp": "DSP",
        "bram18": "BRAM (18 Kbit)",
        "uram": "URAM",
        "latency_cycles": "latency (cycles)",
        "ii": "initiation interval (cycles)",
        "latency_p99_us": "latency, 99th percentile (µs)",
        "event_time_us": "time per event (µs)",
    }
)
"""Cost quantities in the order of the tables, and their names."""

CLOCKS = MappingProxyType(
    {
        "estimated_clock_ns": "estimated clock (ns)",
        "clock_uncertainty_ns": "uncertainty kept free (ns)",
        "achieved_clock_ns": "achieved clock (ns)",
        "wns_ns": "worst slack (ns)",
    }
)
"""What tools say about the clock; shown where one of them says it."""

_ON_PROCESSORS = ("latency_p99_us", "event_time_us")

STAGE_REMARK = MappingProxyType(
    {
        CostStage.ANALYTIC: "not a synthesis: no tool was run",
        CostStage.RTL_SYNTH: "not a Vivado synthesis",
        CostStage.CSYNTH: "an estimate by the HLS compiler, usually above the synthesised design",
        CostStage.COSIM: "latency and interval as simulated, no resources",
        CostStage.VSYNTH: "before place and route",
        CostStage.PNR: "the implemented design",
        CostStage.RUNTIME: "no FPGA figure; zero weights make a processor no faster, removed neurons do",
    }
)
"""What a number of each stage must not be taken for."""

STAND_IN_REMARK = "figures of a stand-in, not of a compiler: nothing was synthesised"

_FORMATS: MappingProxyType[str, Callable[[Any], str]] = MappingProxyType(
    {
        "count": numbers.count,
        "ratio": numbers.ratio,
        "percent": numbers.percent,
        "auc": lambda value: numbers.decimal(value, 4),
        "loss": lambda value: numbers.decimal(value, 4),
        "ns": numbers.time_ns,
        "us": numbers.time_us,
    }
)


def render_report(inputs: ReportInputs, summary: dict[str, Any]) -> str:
    """The page as HTML text. Every number that ``summary`` (of ``build_summary``) holds is taken from there."""
    page = _environment().get_template("report.html.j2")
    network_names = {"float": "float", "dense": f"dense {inputs.dense_bits} bit", "deployed": "deployed"}
    study = inputs.trigger
    return page.render(
        inputs=inputs,
        s=summary,
        t=summary["trigger"],
        trigger=None if study is None else trigger_page(study, summary["trigger"], network_names),
        objective=_objective(summary),
        few_events=lambda part, share=1.0: few_events(summary, part, share),
        importance=lambda finding: series.importance(inputs.scan, finding) if inputs.scan else 0.0,
        own_objective=summary["objective"]["label"] if series.has_own_figure(summary["objective"]["label"]) else None,
        **path_functions(summary),
        style=Markup(_resource("style.css")),
        figures=_figures(inputs),
        number=_number_of(summary),
        estimate=_estimate_of(summary),
        quantities=_quantities(inputs, summary),
        kinds={name: "us" if name in _ON_PROCESSORS else "count" for name in QUANTITIES},
        clocks=_stated_clocks(inputs),
        interval=_interval_of(summary),
        runs_on_processor=inputs.deployed_cost.stage is CostStage.RUNTIME,
        trial_cost=_trial_cost(inputs),
        stage_remark=STAND_IN_REMARK if is_stand_in(inputs.deployed_cost) else STAGE_REMARK[inputs.deployed_cost.stage],
        clock_proven=inputs.deployed_cost.stage is CostStage.PNR,
        part=find_part(inputs.target.part),
        bunch_crossings=_bunch_crossings(inputs),
        findings=series.rank_inputs(inputs.scan) if inputs.scan else (),
        findings_shown=FINDINGS_SHOWN,
        importance_scale=_importance_scale(inputs),
        config_yaml=yaml.safe_dump(summary["config"], sort_keys=False, allow_unicode=True),
        network_names=network_names,
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=numbers.count,
        ratio=numbers.ratio,
        percent=numbers.percent,
        decimal=numbers.decimal,
        duration=numbers.duration,
        ns=numbers.time_ns,
        signed=numbers.signed,
        us=numbers.time_us,
        rate=lambda value: numbers.count(value) if value >= 100 else f"{value:.3g}",
        capitalize_first=lambda text: text[:1].upper() + text[1:],
    )
    environment.globals["with_error"] = numbers.with_error
    return environment


def _resource(name: str) -> str:
    return (files("trigger_prune.report") / name).read_text(encoding="utf-8")


def _look_up(summary: dict[str, Any], key: str, item: str | None) -> Any:
    value: Any = summary
    for part in key.split("."):
        value = value[part]
    return value if item is None or value is None else value.get(item)


def _tag(text: str, key: str, item: str | None) -> Markup:
    """The number with the key it comes from, so that page and summary.json can be compared by a program."""
    extra = Markup(' data-item="{}"').format(item) if item is not None else ""
    return Markup('<span class="num" data-key="{}"{}>{}</span>').format(key, extra, text)


def _number_of(summary: dict[str, Any]) -> Callable[..., Markup]:
    def number(key: str, kind: str, item: str | None = None) -> Markup:
        return _tag(_FORMATS[kind](_look_up(summary, key, item)), key, item)

    return number


def _estimate_of(summary: dict[str, Any]) -> Callable[..., Markup]:
    """``estimate("float", "accuracy", 100)``: value, 68 % band, and the 95 % range on a second line."""

    def estimate(network: str, figure: str, scale: float = 1.0, item: str | None = None, wide: bool = True) -> Markup:
        raw = _look_up(summary["intervals"], f"{network}.{figure}", item) if summary["intervals"][network] else None
        parts = numbers.estimate_parts(raw, scale)
        unit = f"{numbers.THIN_SPACE}%" if scale == 100 and raw else ""
        result = _tag(parts["value"] + unit, f"{network}.{figure}", item)
        if parts["band68"]:
            result += Markup(' <span class="band">{}</span>').format(parts["band68"])
        if wide and parts["range95"]:
            result += Markup('<br><span class="range">95 %: {}</span>').format(parts["range95"])
        return result

    return estimate


def _figures(inputs: ReportInputs) -> dict[str, Any]:
    """All plots; a missing one is an empty list or None, and the template says why."""
    scan, trials = inputs.scan, inputs.trials
    objective = None if inputs.objective is None else inputs.objective.label
    figures: dict[str, Any] = {
        "roc": [(name, Markup(svg)) for name, svg in plots.plot_roc(series.roc_series(inputs))],
        "sensitivity": None,
        "trials": None,
        "training": [],
    }
    if scan is not None and scan.layers:
        curves, baseline = series.sensitivity_series(scan), series.scan_baseline(scan)
        figures["sensitivity"] = Markup(plots.plot_sensitivity(curves, baseline, scan.objective))
    quantity = series.trial_quantity(trials, inputs.budget) if trials else None
    if quantity is not None:
        shown = series.trial_series(trials, quantity, objective)
        figures["trials"] = Markup(plots.plot_trials(shown, getattr(inputs.budget, quantity)))
    for index, (phase, history) in enumerate(inputs.histories.items()):
        if history.epochs:
            svg = plots.plot_training(series.training_series(phase, history, objective), f"training{index}")
            figures["training"].append((phase, Markup(svg)))
    return figures


def _objective(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The tile of an objective that is neither accuracy nor loss: texts, paired difference, warnings."""
    found = summary["objective"]
    if not series.has_own_figure(found["label"]):
        return None
    is_efficiency = found["name"].startswith("efficiency")
    kind = "percent" if is_efficiency else "auc"
    return {"label": found["label"], "kind": kind, "pair": paired_difference(summary, "float")}


def _costs(inputs: ReportInputs) -> list[HardwareReport]:
    shown = (inputs.dense_cost, inputs.deployed_cost, inputs.analytic_deployed, inputs.hls_deployed, inputs.csynth)
    return [report for report in shown if report is not None]


def _quantities(inputs: ReportInputs, summary: dict[str, Any]) -> dict[str, str]:
    """Rows of the cost tables: what belongs to the stage, and whatever else is limited. URAM only where it is used."""
    on_processor = inputs.deployed_cost.stage is CostStage.RUNTIME
    unusual = {"uram"} if not any(report.uram for report in _costs(inputs)) else set()
    return {
        name: text
        for name, text in QUANTITIES.items()
        if summary["budget"][name] is not None or ((name in _ON_PROCESSORS) == on_processor and name not in unusual)
    }


def _stated_clocks(inputs: ReportInputs) -> dict[str, str]:
    """Rows about the clock; none where no tool says anything but the margin that it keeps."""
    stated = {name for name in CLOCKS if any(getattr(report, name) is not None for report in _costs(inputs))}
    return {name: text for name, text in CLOCKS.items() if name in stated and stated != {"clock_uncertainty_ns"}}


def _interval_of(summary: dict[str, Any]) -> Callable[[str, str], Markup]:
    """``interval("hls_estimate.deployed", "lut")``: the 90 % prediction interval on a line of its own, or nothing."""

    def interval(place: str, quantity: str) -> Markup:
        found = _look_up(summary, place, None)
        text = numbers.bounds(found["interval_90"].get(quantity)) if found else ""
        return Markup('<br><span class="range">90 %: {}</span>').format(text) if text else Markup("")

    return interval


def _trial_cost(inputs: ReportInputs) -> dict[str, str]:
    """Cost columns of the table of trials: quantity -> heading."""
    if inputs.deployed_cost.stage is CostStage.RUNTIME:
        return {"latency_p99_us": "p99 latency (µs)", "event_time_us": "time per event (µs)"}
    return {"lut": "LUT", "ff": "FF", "dsp": "DSP", "latency_cycles": "cycles"}


def _bunch_crossings(inputs: ReportInputs) -> dict[str, str]:
    costs = {"dense": inputs.dense_cost, "deployed": inputs.deployed_cost}
    times = {name: cost.latency_ns for name, cost in costs.items()}
    return {
        name: numbers.MISSING if time is None else f"{ns_to_bunch_crossings(time):.2f}" for name, time in times.items()
    }


def _importance_scale(inputs: ReportInputs) -> float:
    """Largest importance of any input, the length of a full bar."""
    values = [series.importance(inputs.scan, x) for x in inputs.scan.inputs] if inputs.scan else []
    return max([value for value in values if value > 0], default=1.0)
