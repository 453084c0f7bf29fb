"""Commands about simulated events: make, card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.cli.output import DebugOption, errors_shown, make_console

if TYPE_CHECKING:
    from trigger_prune.generate.card import EventCard
    from trigger_prune.generate.driver import ShardMaker


class Kind(StrEnum):
    """What ``data make`` can make."""

    JETS = "jets"
    LEVEL1 = "level1"


def make(
    kind: Annotated[Kind, typer.Argument(help="Jets of five classes, or level-1 events.", show_default=False)],
    events: Annotated[
        int,
        typer.Option("--events", metavar="N", min=1, help="Jets: collisions of each class. Level1: background rows."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the files; may exist.")],
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="The same seed gives the same bytes.")] = 1,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="J", min=1, help="Processes; default: one per core.", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files, and drop unfinished ones, of other settings.")
    ] = False,
    pileup: Annotated[
        float | None,
        typer.Option("--pileup", metavar="MU", help="Level1: mean collisions per crossing; default 50."),
    ] = None,
    towers: Annotated[bool, typer.Option("--towers", help="Level1: keep the 18 x 14 calorimeter regions.")] = False,
    signals: Annotated[
        list[str] | None,
        typer.Option("--signals", metavar="NAMES", help="Level1: comma-separated signals, or none; default: all."),
    ] = None,
    signal_events: Annotated[
        int | None,
        typer.Option("--signal-events", metavar="N", min=1, help="Level1: rows of each signal; default: a share of N."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the files.")] = False,
    debug: DebugOption = False,
) -> None:
    """Simulate events with Pythia 8 (needs the extra `generate`).

    The bytes depend on the seed and the settings, not on the number of processes. A stopped or killed run goes on where
    it was with the same command.
    """
    with errors_shown(debug, "stopped; finished shards are kept, run the same command to go on"):
        from trigger_prune.generate.driver import produce
        from trigger_prune.generate.pythia import require_generate_extra
        from trigger_prune.pipeline.progress import progress_for

        require_generate_extra()
        words = ["trigger-prune data make", kind.value, f"--events {events} --seed {seed}"]
        if kind is Kind.JETS:
            _refuse_level1_options(pileup=pileup, towers=towers, signals=signals, signal_events=signal_events)
            from trigger_prune.generate.jets.production import JetMaker

            makers: Sequence[ShardMaker] = [JetMaker(events)]
        else:
            from trigger_prune.generate.level1.processes import SIGNALS
            from trigger_prune.generate.level1.production import level1_makers

            mean = 50.0 if pileup is None else pileup
            chosen = _signals(signals, SIGNALS)
            words.append(f"--pileup {mean:g} --signals {','.join(chosen) or 'none'}")
            words += ["--towers"] if towers else []
            words += [f"--signal-events {signal_events}"] if signal_events is not None else []
            makers = level1_makers(
                events=events,
                seed=seed,
                pile_up=mean,
                with_regions=towers,
                signals=chosen,
                signal_events=signal_events,
                out=out,
            )
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        progress = progress_for(None if quiet else make_console())
        for path in produce(makers, out, seed, jobs or cores, force, " ".join(words), progress):
            print(f"events: {path}")


def card(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A made file, a folder of them, or a shipped sample.")
    ] = "builtin:jets16",
    debug: DebugOption = False,
) -> None:
    """Tell how events were made: settings, seed, versions, rows per process, cross-sections."""
    with errors_shown(debug):
        from trigger_prune.data.builtin_events import builtin_files, data_card

        if what.startswith("builtin:"):
            builtin_files(what.removeprefix("builtin:"))
            print(data_card(what))
            return
        from trigger_prune.generate.card import read_cards

        cards = read_cards(Path(what))
        _print_processes(cards)
        for found in cards:
            _print_card(found)


def _refuse_level1_options(**options: object) -> None:
    from trigger_prune.errors import ConfigError

    for name, value in options.items():
        if value not in (None, False, []):
            raise ConfigError(f"--{name.replace('_', '-')} is for level1, not for jets", hint="leave it out")


def _signals(given: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """Names from ``--signals a,b --signals c``; ``none`` alone means no signal."""
    from trigger_prune.errors import ConfigError

    if not given:
        return known
    names = [name.strip() for text in given for name in text.split(",")]
    if names == ["none"]:
        return ()
    for name in names:
        if name not in known:
            raise ConfigError(f"--signals: there is no signal {name!r}", hint=f"one of {', '.join(known)}, or none")
    # in one order, so that the same choice is the same command
    return tuple(name for name in known if name in names)


def _print_processes(cards: list[EventCard]) -> None:
    from rich.table import Table

    table = Table("file", "process", "rows", "generated", "cross-section")
    for column in (2, 3, 4):
        table.columns[column].justify = "right"
    for found in cards:
        for process in found.processes:
            generated = "" if process.generated is None else str(process.generated)
            sigma = "" if process.sigma_mb is None else f"{process.sigma_mb:.4g} mb"
            table.add_row(found.path.name, process.name, str(process.rows), generated, sigma)
    make_console().print(table)


def _print_card(found: EventCard) -> None:
    import json

    print(f"\n{found.path.name}")
    if found.provenance is None:
        print("  no provenance: not written by `trigger-prune data make`")
    else:
        # short values on their own line each; the settings as they are
        for key, value in found.provenance.items():
            print(f"  {key}: {value if isinstance(value, str) else json.dumps(value)}")
    for key, number in found.scalars.items():
        print(f"  {key}: {number:g}")
    for key, text in found.arrays.items():
        print(f"  array {key}: {text}")


COMMANDS = (
    (
        "make",
        make,
        (
            "trigger-prune data make jets --events 20000 --seed 1 --out my_jets",
            "trigger-prune data make level1 --events 100000 --seed 1 --jobs 8 --out my_level1",
            "trigger-prune data make level1 --events 20000 --towers --signals ttbar --signal-events 5000 --out images",
        ),
    ),
    ("card", card, ("trigger-prune data card", "trigger-prune data card my_level1")),
)
"""Name, function and examples of every command of this file."""
