"""The commands precision and profile: bits without training, and ranges against types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from rich.console import Console

    from trigger_prune.quantize.profile.measure import RangeProfile


def precision(
    project: ProjectArgument,
    lut: Annotated[
        int | None, typer.Option("--lut", min=0, metavar="N", help="At most so many LUTs.", show_default=False)
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0,
            metavar="DROP",
            help="The cheapest network whose objective falls by no more than this below the float network's.",
            show_default=False,
        ),
    ] = None,
    weight_bits: Annotated[
        str | None,
        typer.Option(
            "--weight-bits", metavar="LIST", help="Weight bits to choose from, e.g. 3,4,6.", show_default=False
        ),
    ] = None,
    activation_bits: Annotated[
        str | None,
        typer.Option("--activation-bits", metavar="LIST", help="Activation bits to choose from.", show_default=False),
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the folder.")] = False,
    debug: DebugOption = False,
) -> None:
    """Choose the bits of every layer of the trained float network, without training it again.

    Every setting of every layer is tried on validation events; an exact solver chooses within the budget, and the
    networks on the way are built and judged. Writes into OUT/precision: the bits and types with their overflow
    probabilities (precision.json, precision.csv), every network on the way (front.csv), the candidates, the checkpoint
    network.pt, and the strings for hls4ml (hls4ml_precision.yml).
    """
    with errors_shown(debug, "stopped; run the same command to resume"):
        from trigger_prune.config.load import load_project
        from trigger_prune.errors import ConfigError
        from trigger_prune.pipeline.runner import run_pipeline

        if lut is not None and tolerance is not None:
            raise ConfigError("--lut and --tolerance were both given", hint="one of them decides how small it gets")
        settings = list(overrides or ())
        settings += [f"budget.lut={lut}", "precision.tolerance=null"] if lut is not None else []
        settings += [f"precision.tolerance={tolerance}"] if tolerance is not None else []
        settings += [f"precision.weight_bits={_numbers('--weight-bits', weight_bits)}"] if weight_bits else []
        settings += (
            [f"precision.activation_bits={_numbers('--activation-bits', activation_bits)}"] if activation_bits else []
        )
        loaded = load_project(project, settings, seed)
        from trigger_prune.pipeline.stages.precision import FOLDER, PRECISION_STAGES

        folder = output_folder(project, out)
        console = None if quiet else make_console()
        result = run_pipeline(loaded, PRECISION_STAGES, folder, console=console)
        if console is not None:
            _show_precision(console, result.result("precision").figures)
        print(f"Precision: {folder / FOLDER}")


def profile(
    project: ProjectArgument,
    network: Annotated[
        Path | None,
        typer.Option(
            "--network",
            metavar="FILE",
            help="Checkpoint of a network of this project, e.g. OUT/precision/network.pt; default: the network after "
            "quantisation-aware training.",
            show_default=False,
        ),
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the files.")] = False,
    debug: DebugOption = False,
) -> None:
    """Compare the ranges of weights and activations with their types, layer by layer.

    Overflow: values beyond the type's range. Underflow: values other than 0 that become 0. Writes a table (CSV, JSON)
    and a plot (SVG, PNG) into OUT/profile, of a --network into the folder profile beside the file.
    """
    with errors_shown(debug, "stopped; run the same command to resume"):
        from trigger_prune.config.load import load_project
        from trigger_prune.pipeline.profile_network import profile_checkpoint
        from trigger_prune.pipeline.runner import run_pipeline
        from trigger_prune.pipeline.stages.profile import FOLDER, PROFILE_STAGES, write_profiles

        loaded = load_project(project, overrides or (), seed)
        folder = output_folder(project, out)
        console = None if quiet else make_console()
        if network is None:
            profiles = run_pipeline(loaded, PROFILE_STAGES, folder, console=console).result("profile")
            written = sorted((folder / FOLDER).iterdir())
        else:
            profiles = profile_checkpoint(loaded, network, folder, console)
            written = write_profiles(profiles, network.parent / FOLDER)
        if not quiet:
            _show_profile(make_console(), profiles)
        for file in written:
            print(f"wrote {file}")


def _numbers(option: str, text: str) -> str:
    """A list in YAML from numbers with commas between them."""
    from trigger_prune.errors import ConfigError

    try:
        return str([int(part) for part in text.split(",")])
    except ValueError:
        raise ConfigError(f"{option} {text}: not numbers with commas between them", hint=f"{option} 3,4,6") from None


def _show_precision(console: Console, figures: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("layer", "weight bits", "activation bits", "weight type", "activation type", "overflow per event")
    for row in figures["layers"]:
        upper = row["overflow_upper"]
        overflow = "" if upper is None else f"{row['overflow_probability']:.2g} (at most {upper:.2g})"
        table.add_row(
            row["unit"],
            *("-" if row[key] is None else str(row[key]) for key in ("weight_bits", "activation_bits")),
            row["weight_type"],
            row["activation_type"] or "full accumulator",
            overflow,
        )
    console.print(table)
    chosen, objective = figures["chosen"], figures["objective"]
    console.print(
        f"{objective} on validation: float {abs(figures['float']['validation']['merit']):.4f}, chosen "
        f"{abs(chosen['merit']):.4f}; on test: float {abs(figures['float']['test']['merit']):.4f}, chosen "
        f"{abs(figures['test']['merit']):.4f}"
    )
    if chosen["predicted_loss"] is not None:
        console.print(f"loss: predicted {chosen['predicted_loss']:.4f}, came out {chosen['candidate_loss']:.4f}")
    measured = figures["measured"]
    text = "" if measured is None else f", measured {measured['lut']} ({measured['stage']})"
    console.print(f"LUT: expected {chosen['lut']}{text}")


def _show_profile(console: Console, profiles: tuple[RangeProfile, ...]) -> None:
    from rich.table import Table

    from trigger_prune.report.profile_plots import rate_text

    table = Table("layer", "what", "type", "smallest", "largest", "spare bits", "overflow", "of events", "underflow")
    for row in profiles:
        events = "" if row.event_rate is None else f"{rate_text(row.event_rate)} (at most {rate_text(row.event_upper)})"
        table.add_row(
            row.name,
            row.kind,
            row.type.replace("AP_", ""),
            f"{row.low:.4g}",
            f"{row.high:.4g}",
            str(row.spare_bits),
            rate_text(row.overflow_rate),
            events,
            rate_text(row.underflow_rate),
        )
    console.print(table)


COMMANDS = (
    (
        "precision",
        precision,
        (
            "trigger-prune precision hls_projects/jet_tagger --lut 25000",
            "trigger-prune precision my_trigger --tolerance 0.005 --weight-bits 3,4,5,6 --activation-bits 4,6,8",
            "trigger-prune precision my_trigger --lut 9000 --set precision.overflow_probability=1e-4",
        ),
    ),
    (
        "profile",
        profile,
        (
            "trigger-prune profile hls_projects/jet_tagger",
            "trigger-prune profile my_trigger --network my_trigger/build/precision/network.pt",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
