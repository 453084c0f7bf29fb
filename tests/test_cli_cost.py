"""trigger-prune cost ...: from report folders to tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from synthesised_project import write_synthesised_project as write_project
from typer.testing import CliRunner

from trigger_prune.cli.cost import COMMANDS


@pytest.fixture
def app() -> typer.Typer:
    found = typer.Typer()
    for name, function, _ in COMMANDS:
        found.command(name)(function)
    return found


def run(app: typer.Typer, *arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_calibrate_then_evaluate(app: typer.Typer, tmp_path: Path) -> None:
    write_project(tmp_path / "known" / "a" / "toy")
    write_project(tmp_path / "known" / "b" / "toy", lut=940, version="2021.1")
    out = tmp_path / "site.json"
    code, text = run(app, "calibrate", "--reports", tmp_path / "known", "--out", out, "--quiet")
    assert code == 0, text
    assert "6 layers, 2 designs of 2 projects" in text
    assert json.loads(out.read_text())["provenance"]["projects"] == ["a", "b"]
    write_project(tmp_path / "new" / "c" / "toy", lut=960, version="2023.1")
    code, text = run(app, "evaluate", "--reports", tmp_path / "new", "--calibration", out, "--json")
    assert code == 0, text
    found = json.loads(text)
    assert (found["seen"], found["reports"]) == (0, 4)
    lut = next(line for line in found["tables"]["all"] if (line["family"], line["quantity"]) == ("network", "lut"))
    assert lut["count"] == 1
    assert lut["smape"] is not None and lut["coverage"] in (0.0, 1.0)
    both = ["evaluate", "--reports", tmp_path / "new", "--reports", tmp_path / "known", "--calibration", out]
    code, text = run(app, *both)
    assert code == 0, text
    assert "errors, unseen reports" in text
    assert "8 of 12 reports were in the calibration" in text
    # Coverage comes with its own uncertainty: of one report there is 0 to 97.5 %, or 2.5 to 100 %.
    words = " ".join(text.split())
    assert "85-95 %?" in words and "95 % Clopper-Pearson interval" in words and "perhaps" in words
    assert "0.00-0.97" in words or "0.03-1.00" in words
    assert lut["coverage_low"] == pytest.approx(0.025 * lut["coverage"])


def test_predict_beside_the_report(app: typer.Typer, tmp_path: Path) -> None:
    project = write_project(tmp_path / "toy_reuse2")
    code, text = run(app, "predict", "--project", project)
    assert code == 0, text
    assert "(500)" in text and "(900)" in text
    assert "note: layer fc1: reuse factor 2 by the folder's name" in text


def test_predict_without_a_report(app: typer.Typer, tmp_path: Path) -> None:
    project = write_project(tmp_path / "toy")
    for report in project.rglob("*_csynth.xml"):
        report.unlink()
    code, text = run(app, "predict", "--project", project)
    assert code == 0, text
    assert "fc1" in text and "estimate, xczu7ev" in text
    assert "(" not in text.split("estimate, xczu7ev")[1]


def test_bad_input_says_what_to_do(app: typer.Typer, tmp_path: Path) -> None:
    code, text = run(app, "evaluate", "--reports", tmp_path / "nowhere")
    assert code == 2
    assert "does not exist" in text
    write_project(tmp_path / "toy")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    code, text = run(app, "evaluate", "--reports", tmp_path, "--calibration", broken)
    assert code == 1
    assert "is not a calibration" in text
    (tmp_path / "toy" / "keras_model.h5").unlink()
    code, text = run(app, "calibrate", "--reports", tmp_path, "--out", tmp_path / "x.json")
    assert code == 1
    assert "its layers are unknown" in text
    assert not (tmp_path / "x.json").exists()
