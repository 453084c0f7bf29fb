"""Commands about the store of finished syntheses: ls, show, export, import, prune."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trigger_prune.cli.output import DebugOption, errors_shown, make_console, show_error

if TYPE_CHECKING:
    from trigger_prune.synthesis.store.entry import StoredRun
    from trigger_prune.synthesis.store.reports import ReportStore

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="The store; default: $TRIGGER_PRUNE_STORE, else the user's cache folder.",
        show_default=False,
    ),
]
ToolOption = Annotated[
    str | None,
    typer.Option("--tool", metavar="TEXT", help="Only runs of this tool, e.g. [cyan]vitis[/] or [cyan]2023.2[/]."),
]
PartOption = Annotated[str | None, typer.Option("--part", metavar="TEXT", help="Only parts that contain this.")]
StageOption = Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="Only runs with this stage.")]
FailedOption = Annotated[bool, typer.Option("--failed", help="Only remembered failures.")]

_SPANS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_SHOWN_DIGITS = 12


def ls(
    tool: ToolOption = None,
    part: PartOption = None,
    stage: StageOption = None,
    failed: FailedOption = False,
    store: StoreOption = None,
    debug: DebugOption = False,
) -> None:
    """List the stored syntheses, newest first."""
    with errors_shown(debug):
        from rich.table import Table

        found = _open(store)
        runs = _select(_runs(found), tool, part, stage, failed)
        table = Table("key", "age", "stage", "tool", "part", "LUT", "cycles")
        for column in (1, 5, 6):
            table.columns[column].justify = "right"
        for run in sorted(runs, key=lambda run: (run.created, run.key), reverse=True):
            for row in _rows(run):
                table.add_row(run.key[:_SHOWN_DIGITS], _age(run.created), *row)
        make_console().print(table)
        print(f"{len(runs)} {'entry' if len(runs) == 1 else 'entries'} in {found.folder}")


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key of the entry, or its first digits.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
    log: Annotated[bool, typer.Option("--log", help="The end of the tool's log, too.")] = False,
    store: StoreOption = None,
    debug: DebugOption = False,
) -> None:
    """Show one entry: what was synthesised, by which tool, and all it reported."""
    with errors_shown(debug):
        import json

        found = _open(store)
        run = found.get(found.find(key))
        if run is None:
            from trigger_prune.errors import ArtefactError

            raise ArtefactError(f"the entry {key} was removed just now")
        if as_json:
            print(json.dumps(_as_dict(run), indent=2, sort_keys=True))
            return
        _print_run(run)
        if log:
            print(run.log or "no log was kept")


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="New file.", show_default=False)],
    tool: ToolOption = None,
    part: PartOption = None,
    stage: StageOption = None,
    without_networks: Annotated[
        bool,
        typer.Option(
            "--without-networks",
            help="Leave out the integer weights that were synthesised. Counts over them, which tell no weight, go "
            "along: the reports still refine estimates.",
        ),
    ] = False,
    store: StoreOption = None,
    debug: DebugOption = False,
) -> None:
    """Write entries into one file for another group. It names no folder, machine or person."""
    with errors_shown(debug):
        from trigger_prune.errors import ArtefactError
        from trigger_prune.synthesis.store.archive import export_runs

        runs = _select(_runs(_open(store)), tool, part, stage, failed=False)
        if not runs:
            raise ArtefactError("no entry matches: nothing was written")
        count = export_runs(runs, file, with_networks=not without_networks)
        weights = "without" if without_networks else "with"
        print(f"wrote {file}: {count} {'entry' if count == 1 else 'entries'}, {weights} the networks' weights")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="Written by export.", show_default=False)],
    keep_mine: Annotated[bool, typer.Option("--keep-mine", help="In a conflict keep this store's entry.")] = False,
    take_theirs: Annotated[bool, typer.Option("--take-theirs", help="In a conflict take the file's entry.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and say what would happen.")] = False,
    store: StoreOption = None,
    debug: DebugOption = False,
) -> None:
    """Add the entries of an exported file. All are checked first; the same key with other figures is a conflict."""
    with errors_shown(debug):
        from trigger_prune.errors import ConfigError
        from trigger_prune.synthesis.store.archive import import_runs, read_archive

        if keep_mine and take_theirs:
            raise ConfigError("--keep-mine and --take-theirs are both given", hint="choose one")
        result = import_runs(
            _open(store),
            read_archive(file),
            on_conflict="mine" if keep_mine else "theirs" if take_theirs else "error",
            dry_run=dry_run,
        )
        kept = f", {'kept mine' if keep_mine else 'took theirs'} in {len(result.conflicts)}" if result.conflicts else ""
        would = "would add" if dry_run else "added"
        print(f"{would} {len(result.added)}, knew {len(result.known)} already{kept}")


def prune(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Older than e.g. 30d, 12h, 8w.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=0, help="All but the newest N (of those that match).")
    ] = None,
    tool: ToolOption = None,
    failed: FailedOption = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Entries that cannot be read.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    debug: DebugOption = False,
) -> None:
    """Remove entries. All that is said must hold at once; what is removed must be synthesised again when needed."""
    with errors_shown(debug):
        from trigger_prune.errors import ConfigError

        if older_than is None and keep is None and tool is None and not failed and not damaged:
            raise ConfigError(
                "nothing says which entries to remove",
                hint="--older-than 30d, --keep 100, --tool NAME, --failed or --damaged",
            )
        found = _open(store)
        unreadable: list[str] = []
        runs = list(found.runs(lambda key, error: unreadable.append(key)))
        keys = (
            _doomed(runs, older_than, keep, tool, failed) if (older_than or tool or failed or keep is not None) else []
        )
        keys += unreadable if damaged else []
        for key in keys:
            print(f"{'would remove' if dry_run else 'to remove'} {key[:_SHOWN_DIGITS]}")
        if not dry_run:
            if keys and not yes:
                typer.confirm(f"Remove {len(keys)} of {len(found.keys())} entries of {found.folder}?", abort=True)
            removed = sum(found.discard(key) for key in keys)
            found.sweep()
            print(f"removed {removed} {'entry' if removed == 1 else 'entries'}")
        else:
            print(f"{len(keys)} {'entry' if len(keys) == 1 else 'entries'}; nothing was removed")


def _open(folder: Path | None) -> ReportStore:
    from trigger_prune.synthesis.store.location import default_store_folder
    from trigger_prune.synthesis.store.reports import ReportStore

    return ReportStore(default_store_folder() if folder is None else folder)


def _runs(store: ReportStore) -> list[StoredRun]:
    """All readable entries; the others are named on standard error."""
    return list(store.runs(lambda key, error: show_error(error.message, error.hint)))


def _select(
    runs: Iterable[StoredRun], tool: str | None, part: str | None, stage: str | None, failed: bool
) -> list[StoredRun]:
    from trigger_prune.cost.report import CostStage
    from trigger_prune.errors import ConfigError

    if stage is not None and stage not in list(CostStage):
        raise ConfigError(f"there is no stage {stage!r}", hint=f"one of {', '.join(CostStage)}")
    return [
        run
        for run in runs
        if (tool is None or tool.lower() in _tool(run).lower())
        and (part is None or part.lower() in str(run.parts["target"]["part"]).lower())
        and (stage is None or any(stage == own for own in run.reports))
        and (not failed or run.failure is not None)
    ]


def _doomed(
    runs: list[StoredRun], older_than: str | None, keep: int | None, tool: str | None, failed: bool
) -> list[str]:
    matching = sorted(_select(runs, tool, None, None, failed), key=lambda run: (run.created, run.key), reverse=True)
    matching = matching[keep or 0 :]
    if older_than is not None:
        seconds = _span(older_than)
        matching = [run for run in matching if _seconds_old(run.created) > seconds]
    return [run.key for run in matching]


def _span(text: str) -> float:
    from trigger_prune.errors import ConfigError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if match is None:
        raise ConfigError(f"--older-than {text} is not an age", hint="a number and m, h, d or w, as in 30d")
    return float(match[1]) * _SPANS[match[2]]


def _seconds_old(created: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()


def _age(created: str) -> str:
    seconds = max(_seconds_old(created), 0.0)
    unit = next((unit for unit in ("w", "d", "h") if seconds >= 2 * _SPANS[unit]), "m")
    return f"{seconds / _SPANS[unit]:.0f} {'min' if unit == 'm' else unit}"


def _tool(run: StoredRun) -> str:
    """Tool and version, as the reports state it; of a failure, as the key does."""
    for report in run.reports.values():
        return f"{report.tool} {report.tool_version}"
    tool = run.parts["tool"]
    return f"{tool.get('tool', run.parts['flow'])} {tool.get('version', '')}".strip()


def _rows(run: StoredRun) -> list[tuple[str, ...]]:
    part = str(run.parts["target"]["part"])
    if run.failure is not None:
        return [(f"failed: {run.failure.cause}", _tool(run), part, "", "")]
    return [
        (stage.value, f"{report.tool} {report.tool_version}", part, _number(report.lut), _number(report.latency_cycles))
        for stage, report in run.reports.items()
    ]


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _as_dict(run: StoredRun) -> dict[str, Any]:
    import json

    return {
        "key": run.key,
        "parts": dict(run.parts),
        "created": run.created,
        "failure": None if run.failure is None else {**vars(run.failure), "limits": dict(run.failure.limits)},
        "reports": {stage.value: json.loads(report.to_json()) for stage, report in run.reports.items()},
        "log": run.log,
        "raw": sorted(run.raw),
        "nonzeros": None if run.network is None else run.network.nonzeros,
        "refines_estimates": run.network is not None or run.design is not None,
    }


def _print_run(run: StoredRun) -> None:
    from rich.table import Table

    target, tool = run.parts["target"], run.parts["tool"]
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("key", run.key),
        ("created", f"{run.created} ({_age(run.created)} ago)"),
        ("flow", run.parts["flow"]),
        ("generators and tool", ", ".join(f"{name} {value}" for name, value in sorted(tool.items()))),
        ("target", ", ".join(f"{name} {value}" for name, value in target.items())),
        ("options", ", ".join(f"{name} {value}" for name, value in run.parts["options"].items()) or "none"),
        ("network", _network(run)),
        ("raw reports", ", ".join(sorted(run.raw)) or "none"),
    ):
        facts.add_row(name, str(value))
    if run.failure is not None:
        facts.add_row("failed", f"{run.failure.cause}: {run.failure.message}")
    console = make_console()
    console.print(facts)
    table = Table("", *(f"{stage.value}" for stage in run.reports))
    quantities = ("lut", "ff", "dsp", "bram18", "uram", "latency_cycles", "ii", "estimated_clock_ns", "wns_ns")
    for name in quantities:
        values = [getattr(report, name) for report in run.reports.values()]
        if any(value is not None for value in values):
            table.add_row(name, *("" if value is None else f"{value:g}" for value in values))
    if run.reports:
        console.print(table)


def _network(run: StoredRun) -> str:
    if run.network is None:
        known = "nothing of its layers is known" if run.design is None else f"{len(run.design.layers)} layers as counts"
        return f"content hash {run.parts['content_hash'][:_SHOWN_DIGITS]}, without its weights; {known}"
    return f"{run.network.nonzeros} of {run.network.n_weights} weights not zero, {len(run.network.layers)} layers"


COMMANDS = (
    ("ls", ls, ("trigger-prune store ls", "trigger-prune store ls --tool vitis --part xcvu13p")),
    ("show", show, ("trigger-prune store show 3f9c", "trigger-prune store show 3f9c --json")),
    ("export", export, ("trigger-prune store export vu13p.tar.gz --part xcvu13p",)),
    ("import", import_, ("trigger-prune store import vu13p.tar.gz",)),
    ("prune", prune, ("trigger-prune store prune --older-than 8w --dry-run",)),
)
"""Name, function and examples of every command of this file."""
