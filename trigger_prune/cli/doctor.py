"""The command doctor: what is installed here, and what is missing for which cost backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trigger_prune.cli.output import DebugOption, errors_shown, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from trigger_prune.synthesis.hls.inventory import Inventory


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show which tools and packages are installed, and which cost backends work here. No vendor tool is started."""
    with errors_shown(debug):
        import json

        from trigger_prune.synthesis.hls.inventory import take_inventory

        inventory = take_inventory()
        if as_json:
            print(json.dumps(inventory.to_dict(), indent=2))
        else:
            _show(inventory, make_console())


def _show(inventory: Inventory, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    memory = "unknown" if inventory.memory_mib is None else f"{inventory.memory_mib / 1024:.1f} GiB"
    disk = "unknown" if inventory.free_disk_mib is None else f"{inventory.free_disk_mib / 1024:.1f} GiB free here"
    console.print(f"Python {inventory.python}, {escape(inventory.system)}, {inventory.cores} cores, {memory}, {disk}")

    backends = Table("cost backend", "works", "with", "to install", title="Cost backends", title_justify="left")
    for backend in inventory.backends:
        row = (backend.name, "yes" if backend.works else "no", backend.with_what, backend.missing)
        backends.add_row(*map(escape, row))
    console.print(backends)

    if inventory.installations:
        tools = Table("tool", "version", "path", "found through", title="Vitis and Vivado", title_justify="left")
        for tool in inventory.installations:
            through = "PATH" if tool.on_path else f"module {tool.module}" if tool.module else "folder"
            tools.add_row(*map(escape, (tool.kind, tool.version or "unknown", str(tool.path), through)))
        console.print(tools)
    else:
        console.print("Vitis and Vivado: none found on PATH, under the usual folders or in environment modules")

    for licence in inventory.licences:
        state = {None: "server, not asked", True: "file exists", False: "NO SUCH FILE"}[licence.found]
        console.print(escape(f"Licence: {licence.source} = {licence.value} ({state})"))
    if not inventory.licences:
        console.print("Licence: neither XILINXD_LICENSE_FILE nor LM_LICENSE_FILE is set, no file in ~/.Xilinx")

    free = ", ".join(f"{name}: {said or 'not installed'}" for name, said in inventory.free_tools.items())
    console.print(escape(f"Other tools: {free}"))

    wrong = [package for package in inventory.packages if package.state != "ok"]
    packages = Table("package", "wanted", "installed", "needed for", title="Packages", title_justify="left")
    for package in wrong:
        row = (package.name, package.wanted, package.installed or "not installed", package.extra or "everything")
        packages.add_row(*map(escape, row))
    right = len(inventory.packages) - len(wrong)
    if wrong:
        console.print(packages)
    console.print(f"{right} of {len(inventory.packages)} packages are installed in a version that is asked for")
    for problem in inventory.problems:
        console.print(escape(f"Not determined: {problem}"))


COMMANDS = (("doctor", doctor, ("trigger-prune doctor", "trigger-prune doctor --json")),)
"""Name, function and examples of every command of this file."""
