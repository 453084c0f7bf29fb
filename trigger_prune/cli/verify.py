"""The command verify: the same bits in any layout that hls4ml can build."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.cli.output import (
    EXIT_FAILED,
    DebugOption,
    OutOption,
    SeedOption,
    SetOption,
    errors_shown,
    make_console,
    output_folder,
)

if TYPE_CHECKING:
    from trigger_prune.verify.matrix.runner import CellResult
    from trigger_prune.verify.verdict import Verdict


class Backend(StrEnum):
    """Compilers hls4ml writes for."""

    VITIS = "Vitis"
    VIVADO = "Vivado"


class Io(StrEnum):
    """Interfaces of the layers."""

    PARALLEL = "io_parallel"
    STREAM = "io_stream"


class Strategy(StrEnum):
    """How hls4ml lays out a matrix product."""

    LATENCY = "Latency"
    RESOURCE = "Resource"
    UNROLLED = "Resource_Unrolled"
    DISTRIBUTED_ARITHMETIC = "distributed_arithmetic"


def verify(
    network: Annotated[
        Path,
        typer.Argument(
            metavar="PROJECT|CHECKPOINT",
            help="Folder with project.yaml whose pruned network is taken, or a network.pt below such a folder.",
            show_default=False,
        ),
    ],
    backend: Annotated[Backend | None, typer.Option(help="Compiler; default Vitis.", show_default=False)] = None,
    io: Annotated[Io | None, typer.Option(help="Interface; default of project.yaml.", show_default=False)] = None,
    strategy: Annotated[
        Strategy | None, typer.Option(help="Strategy; default of project.yaml.", show_default=False)
    ] = None,
    reuse_factor: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Of every layer; default 1, for Resource and Resource_Unrolled the nearest to 4 that a layer allows.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[int, typer.Option(min=1, metavar="N", help="Test events to compare.")] = 1000,
    all_: Annotated[bool, typer.Option("--all", help="Every backend, interface and strategy.")] = False,
    project: Annotated[
        Path | None,
        typer.Option(
            metavar="PROJECT", help="Project of the checkpoint; default: the nearest above it.", show_default=False
        ),
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """Compare every representation of a network bit by bit, on test events.

    torch in float32, QONNX, the lowered ONNX, alkaid, and hls4ml's C simulation in the layout asked for; prints the
    mismatches of each. A layout that hls4ml cannot build is refused with the reason and what to use instead. Ends with
    status 1 when any bit differs. A project is run up to its pruning where that is not done.
    """
    with errors_shown(debug):
        from trigger_prune.config.load import load_project
        from trigger_prune.config.project import make_target
        from trigger_prune.errors import ConfigError
        from trigger_prune.pipeline.deployed import deployed_of
        from trigger_prune.verify.matrix.cells import CELLS, Cell
        from trigger_prune.verify.matrix.runner import verify_cells, verify_others

        if all_ and (backend or io or strategy):
            raise ConfigError("--all runs every layout", hint="leave out --backend, --io and --strategy")
        home = project or _project_of(network)
        checkpoint = network if network.suffix == ".pt" else None
        loaded = load_project(home, overrides or (), seed)
        target = make_target(loaded.config.target)
        console = make_console()
        found, features = deployed_of(loaded, output_folder(home, out), checkpoint, console)
        features = features[:events]
        others = verify_others(found, features)
        one = Cell(
            (backend or Backend.VITIS).value,
            io.value if io else target.io_type,
            strategy.value if strategy else target.strategy,
        )
        own_reuse = target.reuse_factor if strategy is None and not all_ else None
        results = verify_cells(found, features, CELLS if all_ else (one,), base=target, reuse=reuse_factor or own_reuse)
        _print(others, results, len(features))
        refused = not all_ and results[0].state == "refused"
        if refused or not others.ok or not all(result.ok for result in results):
            raise typer.Exit(EXIT_FAILED)


def _project_of(path: Path) -> Path:
    """The project itself, or the nearest folder with project.yaml above a checkpoint."""
    from trigger_prune.config.load import FILE_NAME
    from trigger_prune.errors import ConfigError

    if path.suffix != ".pt":
        return path
    for folder in path.resolve().parents:
        if (folder / FILE_NAME).is_file():
            return folder
    raise ConfigError(f"no {FILE_NAME} lies in a folder above {path}", hint="name the project: --project DIR")


def _print(others: Verdict, results: list[CellResult], n_events: int) -> None:
    from rich.table import Table

    console = make_console()
    table = Table(title=f"{n_events} test events against torch in float64", title_justify="left")
    for heading in ("representation", "events", "mismatches", "remark"):
        table.add_column(heading)
    for pair in others.pairs:
        table.add_row(pair.name, str(pair.events), "" if pair.mismatches is None else str(pair.mismatches), _why(pair))
    for result in results:
        table.add_row(f"hls4ml {result.cell}", *_cells(result))
    console.print(table)


def _cells(result: CellResult) -> tuple[str, str, str]:
    if result.refusal is not None:
        return "", "refused", f"{result.refusal}; use instead: {result.refusal.instead}"
    if result.pair is None or result.pair.mismatches is None:
        return "", "failed", _why(result.pair)
    return str(result.pair.events), str(result.pair.mismatches), _why(result.pair)


def _why(pair: object) -> str:
    from trigger_prune.verify.verdict import PairVerdict

    if not isinstance(pair, PairVerdict):
        return ""
    first = pair.first_difference
    if first is None:
        return pair.failure or ""
    return f"first in event {first.event}, layer {first.layer}: {first.got!r} instead of {first.expected!r}"


COMMANDS = (
    (
        "verify",
        verify,
        (
            "trigger-prune verify hls_projects/jet_tagger",
            "trigger-prune verify my_trigger --backend Vivado --io io_stream --strategy Resource --reuse-factor 4",
            "trigger-prune verify my_trigger/build/trials/round2/network.pt --all --events 200",
        ),
    ),
)
"""Name, function and examples of every command of this file."""
