"""The command enter: models that were made elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trigger_prune.cli.output import EXIT_FAILED, DebugOption, errors_shown, make_console

if TYPE_CHECKING:
    from trigger_prune.cost.report import HardwareReport
    from trigger_prune.entry.steps import Entered
    from trigger_prune.verify.verdict import Verdict


class Kind(StrEnum):
    """What the file is."""

    AUTO = "auto"
    QONNX = "qonnx"
    ONNX = "onnx"
    KERAS = "keras"


class Step(StrEnum):
    """What is done with it."""

    COST = "cost"
    VERIFY = "verify"
    SYNTH = "synth"


def enter(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Model: .onnx or .keras.", show_default=False)],
    events: Annotated[
        str,
        typer.Option(
            metavar="EVENTS",
            help="Events as the network receives them: npz, HDF5, parquet, ROOT, or [cyan]builtin:jets16[/].",
            show_default=False,
        ),
    ],
    kind: Annotated[
        Kind, typer.Option(help="auto: by suffix; an ONNX file with Quant nodes is qonnx, one without is onnx.")
    ] = Kind.AUTO,
    step: Annotated[
        list[Step] | None,
        typer.Option(help="cost, verify or synth; may be repeated (default: all).", show_default=False),
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Type of the events as they reach the network, e.g. [cyan]ap_fixed<10,4>[/]; needed for .keras, and "
            "for QONNX without a Quant node on the input.",
            show_default=False,
        ),
    ] = None,
    transform: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An input_transform.json to apply to the events.", show_default=False),
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="TENSOR", help="ONNX: tensor to take as the output.", show_default=False)
    ] = None,
    nearest_power_of_two: Annotated[
        bool, typer.Option(help="QONNX: replace other scales by powers of two; changes the outputs.")
    ] = False,
    weight_bits: Annotated[int, typer.Option(min=1, max=24, help="Float ONNX: bits of the weights.")] = 8,
    activation_bits: Annotated[int, typer.Option(min=1, max=24, help="Float ONNX: bits of the activations.")] = 8,
    python: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keras: interpreter of an environment with hgq2 (default: $TRIGGER_PRUNE_HGQ2_PYTHON).",
            show_default=False,
        ),
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(metavar="PROJECT", help="Take target and cost from its project.yaml.", show_default=False),
    ] = None,
    max_events: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use so many events.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New folder for results; default: NAME_entered.", show_default=False),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Take in a model that was made elsewhere, and measure, verify or synthesise it.

    QONNX (of Brevitas and others) and HGQ2 models keep every bit; a float ONNX model is quantised with the events. What
    has no exact fixed-point form is refused, with the node, the reason and the remedy.
    """
    with errors_shown(debug):
        import json

        from trigger_prune.config.project import CostConfig
        from trigger_prune.entry import steps
        from trigger_prune.entry.enter import Options, enter_file
        from trigger_prune.entry.foreign import ForeignDesign
        from trigger_prune.errors import ConfigError
        from trigger_prune.fixed_point import FixedPoint
        from trigger_prune.report.files import write_text
        from trigger_prune.target import Target

        folder = out or Path(f"{file.stem}_entered")
        if folder.exists():
            raise ConfigError(f"{folder} exists already", hint="choose a new folder with --out")
        target, cost = Target(), CostConfig()
        if project is not None:
            from trigger_prune.config.load import load_project

            config = load_project(project, (), None).config
            target, cost = config.make_target(), config.cost
        options = Options(
            kind.value,
            None if input_type is None else FixedPoint.parse(input_type),
            transform,
            output,
            nearest_power_of_two,
            weight_bits,
            activation_bits,
            python,
            max_events,
        )
        wanted = step or list(Step)
        found = enter_file(file, events, folder, options)
        model = found.model
        _describe(model, found.remarks)
        failed = False
        exported = None
        if not isinstance(model, ForeignDesign) and set(wanted) & {Step.VERIFY, Step.SYNTH}:
            exported, why_not = steps.write_network(model, folder, target)
            if why_not is not None:
                print(f"no hls4ml project: {why_not}")
        if Step.COST in wanted:
            report = steps.cost_of(model, cost, target)
            write_text(report.to_json(), folder / "cost.json")
            _show_cost(report)
        if Step.VERIFY in wanted:
            verdict = steps.verify_of(model, exported, found.features, target=target)
            write_text(json.dumps(verdict.to_dict(), indent=2), folder / "verify.json")
            _show_verdict(verdict)
            failed = not verdict.ok
        if Step.SYNTH in wanted:
            steps.synth_of(model, folder, cost, target)
        print(f"results are in {folder}")
        if failed:
            raise typer.Exit(EXIT_FAILED)


def _describe(model: Entered, remarks: tuple[str, ...]) -> None:
    kind = getattr(model, "kind", "keras")
    print(f"{model.name} ({kind}): events of shape {model.input_shape}, {model.input_type}")
    for remark in remarks:
        print(f"note: {remark}")


def _show_cost(report: HardwareReport) -> None:
    from rich.table import Table

    latency = "-" if report.latency_ns is None else f"{report.latency_cycles} ({report.latency_ns:g} ns)"
    table = Table("LUT", "FF", "DSP", "BRAM18", "latency", "II", title=f"cost: {report.stage.label}")
    table.add_row(*(map(_text, (report.lut, report.ff, report.dsp, report.bram18))), latency, _text(report.ii))
    make_console().print(table)


def _show_verdict(verdict: Verdict) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("representation", "events", "differ", "first difference or failure", title="bits")
    for pair in verdict.pairs:
        first = pair.first_difference
        where = "" if first is None else f"event {first.event}, {first.layer}: {first.got!r} for {first.expected!r}"
        table.add_row(pair.name, str(pair.events), _text(pair.mismatches), Text(pair.failure or where))
    make_console().print(table)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


COMMANDS = (
    (
        "enter",
        enter,
        (
            "trigger-prune enter tagger.onnx --events events.npz",
            "trigger-prune enter brevitas.onnx --events builtin:jets16 --step cost --step verify",
            "trigger-prune enter hgq2.keras --events events.npz --input-type 'ap_fixed<10,4>' --python hgq2/bin/python",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
