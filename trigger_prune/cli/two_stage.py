"""The command two-stage: a light model on every object, a time-shared full model on what is left."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.cli.output import (
    DebugOption,
    OutOption,
    ProjectArgument,
    SeedOption,
    SetOption,
    errors_shown,
    make_console,
    output_folder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from trigger_prune.config.project import ProjectConfig
    from trigger_prune.two_stage.findings import BestDesign, ComparedRow, TwoStageFindings
    from trigger_prune.two_stage.latency import FixedLatency


class LightKind(StrEnum):
    """Ways to a light model."""

    PRUNED = "pruned"
    TINY = "tiny"
    INPUTS = "inputs"


class Resource(StrEnum):
    """Resources that can be made small."""

    LUT = "lut"
    FF = "ff"
    DSP = "dsp"


def two_stage(
    project: ProjectArgument,
    light: Annotated[
        list[LightKind] | None,
        typer.Option(
            help="Try only the light models of this kind in two_stage.lights, or one with default keys; may be "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    full: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="dense, deployed, or a folder of `enter`.", show_default=False),
    ] = None,
    escalated: Annotated[
        str | None,
        typer.Option(metavar="P,P,...", help="Shares of the objects that go to the full model.", show_default=False),
    ] = None,
    reuse_factor: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Reuse factors of the full model.", show_default=False)
    ] = None,
    clock_multiple: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Clock cycles per bunch crossing.", show_default=False)
    ] = None,
    fifo_depth: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Objects that can wait.", show_default=False)
    ] = None,
    latency_ns: Annotated[
        str | None,
        typer.Option(
            metavar="NS,NS,...",
            help="Latency budget of the decision; of several, everything is shown for the largest, and the best design "
            "and the recommendation for each.",
            show_default=False,
        ),
    ] = None,
    resource: Annotated[Resource | None, typer.Option(help="Resource that is to be small.", show_default=False)] = None,
    firmware: Annotated[
        bool, typer.Option("--firmware", help="Write the firmware of the best design, with test bench.")
    ] = False,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the page's file.")] = False,
    debug: DebugOption = False,
) -> None:
    """Find out whether a light model before a time-shared full model pays, and what to build.

    Every design is searched on validation events and quoted on test events, beside the full model alone, the pruned
    network alone, every light model alone and cuts, all at equal rate. Finished stages are loaded, not computed again.
    """
    with errors_shown(debug, "stopped; run the same command to resume"):
        from trigger_prune.config.load import load_project
        from trigger_prune.pipeline.runner import run_pipeline

        settings = list(overrides or ())
        settings += [f"two_stage.full={full}"] if full else []
        for option, key, text, kind in (
            ("--escalated", "escalated", escalated, float),
            ("--reuse-factor", "reuse_factors", reuse_factor, int),
            ("--clock-multiple", "clock_multiples", clock_multiple, int),
            ("--fifo-depth", "fifo_depths", fifo_depth, int),
        ):
            settings += [f"two_stage.{key}={_numbers(option, text, kind)}"] if text else []
        settings += _budgets(latency_ns) if latency_ns is not None else []
        settings += [f"two_stage.resource={resource.value}"] if resource is not None else []
        loaded = load_project(project, settings, seed)
        if light:
            chosen = _lights(loaded.config, [kind.value for kind in light])
            loaded = load_project(project, [*settings, f"two_stage.lights={chosen}"], seed)
        from trigger_prune.pipeline.stages.two_stage import PAGE, TWO_STAGE_STAGES
        from trigger_prune.pipeline.stages.two_stage_lights import FOLDER
        from trigger_prune.pipeline.stages.two_stage_setup import check_signal, check_two_stage

        check_two_stage(loaded.config, loaded.project_dir)
        folder = output_folder(project, out)
        console = None if quiet else make_console()
        events = run_pipeline(loaded, TWO_STAGE_STAGES, folder, until="load", console=console).result("load")
        # before hours of training, not after
        check_signal(loaded.config, events.train, loaded.config.two_stage.signal)
        stages = TWO_STAGE_STAGES
        if firmware:
            from trigger_prune.pipeline.stages.two_stage_firmware import FIRMWARE_STAGES

            stages = FIRMWARE_STAGES
        result = run_pipeline(loaded, stages, folder, console=console)
        if console is not None:
            show(console, result.result("two_stage"))
            _say_where(console, folder)
        print(f"Two stages: {folder / FOLDER / PAGE}")


def _say_where(console: Console, folder: Path) -> None:
    """Whether the project's report shows the findings too."""
    from rich.text import Text

    from trigger_prune.pipeline.stages.two_stage_report import REPORT, why_left_out

    reason = why_left_out(folder)
    if reason is not None:
        text = f"{REPORT} does not show them: {reason}; run trigger-prune run, which brings it up to date"
        console.print(Text(f"\nwarning: {text}", style="yellow"))


def _lights(config: ProjectConfig, kinds: list[str]) -> str:
    """The light models of these kinds, as YAML."""
    import json

    from trigger_prune.config.two_stage_section import LightConfig

    known = config.two_stage.lights
    found = [light for kind in dict.fromkeys(kinds) for light in known if light.kind == kind]
    found += [LightConfig.model_validate({"kind": kind}) for kind in kinds if kind not in {one.kind for one in found}]
    return json.dumps([one.model_dump(mode="json") for one in found])


def _budgets(text: str) -> list[str]:
    """Settings for one latency budget or more."""
    import math

    from trigger_prune.errors import ConfigError

    *smaller, largest = sorted(set(_parsed("--latency-ns", text, float)))
    if not all(map(math.isfinite, (*smaller, largest))):
        raise ConfigError(f"--latency-ns {text}: a budget is no finite number", hint="--latency-ns 500,750,1000")
    return [f"two_stage.latency_budget_ns={largest}", f"two_stage.smaller_budgets_ns={smaller}"]


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> str:
    """A list in YAML from numbers with commas between them."""
    return str(_parsed(option, text, kind))


def _parsed(option: str, text: str, kind: type[int] | type[float]) -> list[float]:
    from trigger_prune.errors import ConfigError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: not numbers with commas between them", hint=f"{option} 1,2,4") from None


def show(console: Console, findings: TwoStageFindings) -> None:
    """The comparison, the chosen design, the recommendation and the warnings."""
    from rich.text import Text

    console.print(_comparison(findings))
    for line in _stages(findings):
        console.print(Text(line, style="dim"))
    if findings.best is not None:
        console.print()
        console.print(_parts(findings.best))
        for line in _chosen(findings, findings.best):
            console.print(Text(line))
    console.print()
    for warning in findings.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    of = f" at {findings.latency_budget_ns:g} ns" if findings.budgets else ""
    console.print(Text(f"\nRecommendation{of}", style="bold"))
    for sentence in findings.recommendation.sentences:
        console.print(Text(f"- {sentence}"))
    if findings.budgets:
        console.print()
        console.print(_budget_table(findings))
        for budget in findings.budgets:
            if budget.latency_budget_ns < findings.latency_budget_ns:
                console.print(Text(f"\nRecommendation at {budget.latency_budget_ns:g} ns", style="bold"))
                for sentence in budget.recommendation.sentences:
                    console.print(Text(f"- {sentence}"))


def _comparison(findings: TwoStageFindings) -> object:
    from rich.table import Column, Table
    from rich.text import Text

    rates = findings.rate_weights
    target = f"{findings.target_hz / 1e3:g} kHz" if rates else f"{100 * findings.target_hz:g} % of the background"
    table = Table(
        Column("", min_width=30),
        Column("efficiency", no_wrap=True),
        Column("rate\nkHz" if rates else "rate\n% bkg", no_wrap=True),
        Column("loss in %\n90 % limit", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in ("LUT", "FF", "DSP", "BRAM")),
        Column("latency", justify="right", no_wrap=True),
        title=f"Efficiency of {findings.signal_name} at {target}: test events, thresholds of validation events; "
        "relative loss against the full model alone at exactly equal rate",
        title_justify="left",
    )
    for row in findings.rows:
        label = Text(f"{_KINDS[row.kind]}: {row.name}", style="bold" if row.kind == "two_stage" else "")
        table.add_row(
            label.append(f"\n{row.note}" if row.note else "", style="dim"),
            f"{row.efficiency.value:.4f}\n+- {row.efficiency.error:.4f}",
            _rate(findings, row),
            _loss(row),
            *(_resource(row, name) for name in ("lut", "ff", "dsp", "bram18")),
            "-" if row.latency is None else _latency(row.latency),
            end_section=True,
        )
    return table


def _budget_table(findings: TwoStageFindings) -> object:
    """Every latency budget with its best two-stage design."""
    from rich.table import Column, Table

    table = Table(
        Column("budget", justify="right", no_wrap=True),
        Column("best two-stage design", min_width=24),
        Column("loss in %\n90 % limit", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in ("LUT", "FF", "DSP", "BRAM")),
        Column("latency", justify="right", no_wrap=True),
        "verdict",
        title="Latency budgets",
        title_justify="left",
    )
    for budget in findings.budgets:
        row, design = budget.row, budget.design
        verdict = budget.recommendation.verdict.replace("_", " ")
        if row is None or design is None:
            table.add_row(f"{budget.latency_budget_ns:g} ns", "none", *["-"] * 6, verdict, end_section=True)
            continue
        table.add_row(
            f"{budget.latency_budget_ns:g} ns",
            f"{row.name}\nreuse factor {design.reuse_factor}, FIFO of {design.engine.fifo_depth}",
            _loss(row),
            *(_resource(row, name) for name in ("lut", "ff", "dsp", "bram18")),
            f"{design.latency.output_bx} BX\n{design.latency.output_ns:.0f} ns",
            verdict,
            end_section=True,
        )
    return table


_KINDS = {
    "full": "full alone",
    "pruned": "pruned alone",
    "light": "light alone",
    "menu": "cuts",
    "two_stage": "two stages",
}


def _latency(latency: FixedLatency) -> str:
    return f"{latency.total_cycles} cycles\n{latency.output_bx} BX\n{latency.output_ns:.0f} ns"


def _rate(findings: TwoStageFindings, row: ComparedRow) -> str:
    scale = 1e-3 if findings.rate_weights else 100.0
    return f"{scale * row.rate.rate_hz:.3g}\n+- {scale * row.rate.error_hz:.2g}"


def _loss(row: ComparedRow) -> str:
    if row.loss is None:
        return "-"
    loss = row.loss.relative_loss
    return f"{100 * loss.value:.2f} +- {100 * loss.error:.2f}\n< {100 * row.loss.relative_loss_limit90:.2f}"


def _resource(row: ComparedRow, name: str) -> str:
    if row.cost is None:
        return "-"
    values = [getattr(cost, name) for cost in (row.cost, row.buffer) if cost is not None]
    return "?" if None in values else str(sum(values))


def _stages(findings: TwoStageFindings) -> list[str]:
    """How the numbers were obtained."""
    costs = {row.cost.source for row in findings.rows if row.cost is not None}
    buffers = {row.buffer.source for row in findings.rows if row.buffer is not None}
    lines = [f"Resources of networks: {', '.join(sorted(costs))}."] if costs else []
    return lines + ([f"FIFO and control: {', '.join(sorted(buffers))}, included in the sums."] if buffers else [])


def _parts(best: BestDesign) -> object:
    from rich.table import Column, Table

    table = Table(
        Column("part of the two-stage design", min_width=38),
        *(Column(name, justify="right") for name in ("LUT", "FF", "DSP", "BRAM")),
        "stage",
    )
    for part in best.parts:
        values = [getattr(part.cost, name) for name in ("lut", "ff", "dsp", "bram18")]
        of = f" of {part.cost.predicts}" if part.cost.predicts else ""
        table.add_row(part.name, *("?" if value is None else str(value) for value in values), f"{part.cost.stage}{of}")
    return table


def _chosen(findings: TwoStageFindings, best: BestDesign) -> list[str]:
    point, latency, queue = best.working_point, best.point.latency, best.working_point.queue
    depths = ", ".join(f"{depth}: {loss:.2g}" for depth, loss in best.overflow_by_depth)
    integers = best.integer_thresholds.items()
    return [
        f"latency {latency.light_cycles} light + {latency.wait_cycles} longest wait + {latency.full_cycles} full + "
        f"{latency.control_cycles} control = {latency.total_cycles} cycles, {latency.clock_multiple} per BX; decisions "
        f"leave after {latency.output_bx} BX = {latency.output_ns:.0f} ns of {findings.latency_budget_ns:.0f} ns",
        f"escalated {100 * point.escalated.value:.3g} +- {100 * point.escalated.error:.2g} % on test, "
        f"{100 * point.validation_escalated.value:.3g} % on validation; beam {findings.beam}; engine busy "
        f"{100 * queue.utilisation:.2g} % of the time; mean wait {queue.mean_wait_cycles:.2g} cycles",
        f"lost per escalated object by FIFO depth: {depths}",
        "comparators, in steps of the scores: "
        + ", ".join(f"{name} {'off' if value is None else value}" for name, value in integers),
    ]


COMMANDS = (
    (
        "two-stage",
        two_stage,
        (
            "trigger-prune two-stage hls_projects/jet_tagger --set physics.signal=[W,Z,t]",
            "trigger-prune two-stage my_trigger --latency-ns 500 --resource lut --light tiny --light inputs",
            "trigger-prune two-stage my_trigger --latency-ns 500,750,1000",
            "trigger-prune two-stage my_trigger --escalated 0.02,0.1 --reuse-factor 9,18,36 --fifo-depth 0,1,2,4",
            "trigger-prune two-stage my_trigger --full deployed --firmware",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
