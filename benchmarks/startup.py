"""How long the package takes to import and the command to answer ``--help``.

    python benchmarks/startup.py [--quick]

Each figure is the median over fresh processes, after one that warms the file cache. ``python -c pass`` is measured in
the same way, as the part that no package can save.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _result import write_result

ROOT = Path(__file__).parents[1]
LIMITS_S = {"import_s": 1.0, "help_s": 1.5}

_HELP = "import sys; sys.argv = ['trigger-prune', '--help']; from trigger_prune.cli import main; main()"
PROCESSES = {
    "python_s": [sys.executable, "-c", "pass"],
    "import_s": [sys.executable, "-c", "import trigger_prune"],
    "help_s": [sys.executable, "-c", _HELP],
}


def seconds(command: list[str]) -> float:
    """Wall-clock time of one process, in seconds."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return time.perf_counter() - start


def main() -> None:
    """Measure, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 processes per figure instead of 21")
    quick = parser.parse_args().quick
    repeats = 5 if quick else 21
    figures: dict[str, float] = {}
    for name, command in PROCESSES.items():
        seconds(command)
        times = [seconds(command) for _ in range(repeats)]
        figures[name] = round(statistics.median(times), 4)
        figures[name.replace("_s", "_slowest_s")] = round(max(times), 4)
    write_result(
        "startup_quick" if quick else "startup",
        {**figures, "processes": repeats},
        ("trigger_prune", "typer", "rich"),
    )
    print(f"{'figure':<10} {'median':>9} {'slowest':>9} {'limit':>9}   ({repeats} processes each)")
    for name in PROCESSES:
        limit = f"{LIMITS_S[name]:.1f} s" if name in LIMITS_S else ""
        slowest = figures[name.replace("_s", "_slowest_s")]
        print(f"{name:<10} {figures[name]:>7.3f} s {slowest:>7.3f} s {limit:>9}")


if __name__ == "__main__":
    main()
