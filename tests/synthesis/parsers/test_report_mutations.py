"""Damaged reports give an error of ours or the right value: never a foreign traceback, never another number or a zero.

A value may become unknown (None, or missing from a list) when the damage took the line that states it. Another number
is right only where the damage put another well-formed number there.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from mutants import DAMAGES, mutants

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.discover import PARSERS, load_reports
from trigger_prune.synthesis.parsers.recognise import recognise
from trigger_prune.synthesis.parsers.text import read_report

FIXTURES = sorted(path for path in (Path(__file__).parent / "reports").rglob("*") if path.is_file())
REAL = Path(__file__).parents[4] / "shared" / "hls_reports"
# What is text may be any text; a log that was cut tells so, and counts what is left.
TEXTS = ("part", "date", "build", "project", "solution", "design", "state", "command", "simulator", "family", "top")
TEXTS += ("name", "module", "kind", "directives", "errors", "version", "pipeline_type", "pipelined", "tool")
# Damages that put a well-formed number where another one stood.
VALID_ELSEWHERE = ("other_number", "swap_lines")
OF_LOGS = ("n_warnings", "n_critical_warnings", "peak_process_mib", "forced_operators", "failure", "ended")


def leaves(value: object, path: str = "") -> dict[str, object]:
    """Every plain value of a result by its path; elements of a list by their names where they have one."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        named: dict[str, object] = {}
        for i, inner in enumerate(value):
            name = getattr(inner, "name", getattr(inner, "language", i))
            named[name if name not in named else f"{name} {i}"] = inner
        value = named
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in leaves(inner, f"{path}/{key}").items()}
    return {path: value}


def outcome(kind: str, text: str, original: dict[str, object], damage: str) -> str:
    """``error`` or ``value``; fails the test on anything else."""
    try:
        found = leaves(PARSERS[kind](text, source="damaged"))
    except ReportFormatError as error:
        assert "damaged" in error.message
        return "error"
    for path, value in found.items():
        steps = path.split("/")
        if original.get(path, value) == value or value is None or path not in original:
            continue
        if set(steps).intersection(TEXTS) or (kind == "log" and set(steps).intersection(OF_LOGS)):
            continue
        number = isinstance(value, int | float) and isinstance(original[path], int | float | None)
        assert damage in VALID_ELSEWHERE and number, f"{damage}: {path} was {original[path]!r}, is {value!r}"
    if damage not in VALID_ELSEWHERE:
        zeros = [path for path, value in found.items() if value == 0 and original.get(path) not in (0, None)]
        assert not [path for path in zeros if path.split("/")[1] not in OF_LOGS], zeros
    return "value"


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_damaged_fixtures(path):
    text = read_report(path)
    kind = recognise(path.name, text)
    original = leaves(PARSERS[kind](text, source=str(path)))
    outcomes = [outcome(kind, changed, original, damage) for damage, changed in mutants(text, 65, seed=11)]
    assert len(outcomes) > 50
    assert outcomes.count("error") > (4 if kind == "log" else 10)


def test_the_damages_bite():
    """Over all fixtures: more than a thousand copies, errors for every kind of damage."""
    seen = dict.fromkeys(DAMAGES, 0)
    total = 0
    for path in FIXTURES:
        text = read_report(path)
        kind = recognise(path.name, text)
        original = leaves(PARSERS[kind](text, source=str(path)))
        for damage, changed in mutants(text, 52, seed=12):
            total += 1
            seen[damage] += outcome(kind, changed, original, damage) == "error"
    assert total > 1000
    assert all(count > 5 for count in seen.values()), seen


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tool reports do not lie beside the checkout")
@pytest.mark.slow
def test_damaged_real_reports():
    """At least a thousand copies of real reports, every format among them; made in memory, nothing is written."""
    files = [file for solution in load_reports(REAL) for file in solution.files]
    by_kind: dict[str, list[Path]] = {}
    for file in files:
        if file.kind == "cosim" and not file.path.name.endswith("cosim.rpt"):
            continue  # inside what hls4ml printed, and damaged with it
        by_kind.setdefault(file.kind, []).append(file.path)
    total = 0
    for kind, paths in sorted(by_kind.items()):
        # Large files last: a tenth of a second each.
        for i, path in enumerate(sorted(paths, key=lambda path: path.stat().st_size)[:: max(1, len(paths) // 20)]):
            text = read_report(path)
            original = leaves(PARSERS[kind](text, source=str(path)))
            for damage, changed in mutants(text, 13, seed=i):
                total += 1
                outcome(kind, changed, original, damage)
    assert total >= 1000
