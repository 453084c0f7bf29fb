"""Runs the matrix: python -m trigger_prune.verify.matrix [--rows mlp,conv1d] [--events 1000] [--one-of-each]"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from trigger_prune.verify.matrix.cells import CELLS, ONE_OF_EACH
from trigger_prune.verify.matrix.networks import ROWS, row_network
from trigger_prune.verify.matrix.runner import CellResult, verify_cells, verify_others
from trigger_prune.verify.matrix.table import figures, markdown, to_json, write
from trigger_prune.verify.verdict import Verdict


def main() -> int:
    """0 when every cell agrees or is refused, and every other representation agrees."""
    options = _options()
    names = tuple(options.rows.split(",")) if options.rows else tuple(ROWS)
    wanted = dict.fromkeys(names, CELLS)
    if options.one_of_each:
        wanted = {name: (ONE_OF_EACH[name],) for name in names}
    results: dict[str, list[CellResult]] = {}
    others: dict[str, Verdict] = {}
    for name in names:
        network, features = row_network(name, options.events)
        others[name] = verify_others(network, features)
        print(name, {pair.name: pair.failure or pair.mismatches for pair in others[name].pairs}, flush=True)
        results[name] = []
        for cell in wanted[name]:
            start = time.perf_counter()
            results[name] += verify_cells(network, features, [cell], cache=options.cache)
            print(f"{name}, {cell}: {_described(results[name][-1])} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(figures(results))
    if not options.rows and not options.one_of_each:
        packages = ("trigger_prune", "torch", "hls4ml", "qonnx", "onnxruntime", "alkaid", "da4ml")
        versions = {package: version(package) for package in packages} | {"python": platform.python_version()}
        write(markdown(results, others, {name: ROWS[name].title for name in names}), options.docs)
        write(to_json(results, others, versions=versions), options.json)
        print(f"wrote {options.docs} and {options.json}")
    good = all(cell.ok for cells in results.values() for cell in cells) and all(v.ok for v in others.values())
    return 0 if good else 1


def _described(result: CellResult) -> str:
    if result.refusal is not None:
        return f"refused, {result.refusal}; use instead: {result.refusal.instead}"
    if result.pair is None or result.pair.failure is not None:
        return f"FAILED: {result.pair.failure if result.pair else 'not run'}"
    return f"{result.pair.mismatches} of {result.pair.events} events differ"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trigger_prune.verify.matrix", description=__doc__)
    parser.add_argument("--rows", help=f"some of {','.join(ROWS)}; writes no table")
    parser.add_argument("--events", type=int, default=1000, help="events in every cell (1000)")
    parser.add_argument("--one-of-each", action="store_true", help="one cell per row and column; writes no table")
    parser.add_argument("--cache", type=Path, default=Path("build/matrix_cache"), help="agreements found before")
    parser.add_argument("--docs", type=Path, default=Path("docs/matrix.md"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/matrix.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
