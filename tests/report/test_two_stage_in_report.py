"""``run`` and ``two-stage`` in one output folder, in any order: the report shows findings of its own state only.

The pipeline, the store and both publishing hooks are the real ones; what the stages compute is made up.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from two_stage_findings import findings

from trigger_prune.config.load import load_project
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stage import Stage
from trigger_prune.pipeline.stages import two_stage, two_stage_report
from trigger_prune.pipeline.stages.reporting import REPORT
from trigger_prune.pipeline.stages.two_stage import TWO_STAGE
from trigger_prune.pipeline.stages.two_stage_lights import LIGHTS
from trigger_prune.pipeline.stages.two_stage_report import why_left_out
from trigger_prune.report.two_stage_page import two_stage_section

PROJECT = """
project: toy
data: {path: events.csv}
physics: {rate_khz: 100}
train: {epochs: 5}
prune: {final_epochs: 3}
"""
HTML = '<nav><a href="#input">Input</a></nav>\n<section id="input"></section>\n'
SHARED = {"load": ("data",), "teacher": ("teacher",), "train": ("train",), "baseline": ("baseline",)}
SHARED["prune"] = ("prune", "budget")


def made_up(stage: Stage[Any], **changes: Any) -> Stage[Any]:
    return replace(stage, files=None, tools=(), **changes)


def plain(name: str, keys: tuple[str, ...], inputs: tuple[str, ...] = ()) -> Stage[Any]:
    return Stage(
        name=name,
        title=name,
        compute=lambda context: "",
        save=lambda result, folder: None,
        load=lambda folder: "",
        inputs=inputs,
        config_keys=keys,
    )


UPSTREAM = tuple(plain(name, keys) for name, keys in SHARED.items())
LIGHT = plain("lights", ("two_stage.lights",), ("prune",))


@pytest.fixture(scope="module")
def study():
    return findings()


@pytest.fixture(scope="module")
def drawn(study):
    """The section, with its plots: drawn once."""
    return two_stage_section(study)


@pytest.fixture
def folder(tmp_path, study, drawn, monkeypatch):
    """A project, and the two commands on it: texts of ``project.yaml`` to replace, then what is run."""
    (tmp_path / "project").mkdir()
    out = tmp_path / "out"

    def write(context: Any) -> tuple[str, dict[str, Any]]:
        """As the real one, it says how the project is set."""
        return HTML + f"<!-- {context.config.train} {context.config.prune} {context.config.physics} -->", {}

    monkeypatch.setattr(two_stage_report, "two_stage_section", lambda found: drawn)
    monkeypatch.setattr(two_stage, "write_two_stage_page", lambda found, path, title: path.write_text(drawn))
    report = made_up(REPORT, inputs=tuple(SHARED), compute=write, load=lambda folder: None)
    two = made_up(TWO_STAGE, inputs=(*SHARED, "lights"), compute=lambda context: (study, "toy"))
    stages = {"run": (*UPSTREAM, report), "two-stage": (*UPSTREAM, LIGHT, two)}

    def call(command: str, *texts: tuple[str, str], **changes: Any) -> str:
        text = PROJECT
        for old, new in texts:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "project" / "project.yaml").write_text(text)
        chosen = tuple(replace(stage, **changes.get(stage.name, {})) for stage in stages[command])
        run_pipeline(load_project(tmp_path / "project"), chosen, out)
        return (out / "report.html").read_text(encoding="utf-8") if (out / "report.html").is_file() else ""

    call.out = out
    return call


def shown(page: str, study: Any) -> bool:
    """Whether the recommendation stands in the page; if not, no number of the study may."""
    there = 'data-key="two_stage"' in page
    assert there == (study.recommendation.sentences[-1].replace("+-", "±").replace("'", "&#39;")[:40] in page)
    assert page.count('<section id="two-stage">') == page.count('href="#two-stage"') <= 1
    return there


def test_the_section_stays_when_the_report_is_published_again(folder, study):
    before = folder("run")
    assert "two-stage" not in before
    page = folder("two-stage")
    assert shown(page, study)
    assert folder("run") == page and folder("two-stage") == page and folder("run") == page
    assert why_left_out(folder.out) is None
    # the artefact itself stays as it was computed, or it would be thrown away as altered
    (stored,) = folder.out.glob("artefacts/report-*/report.html")
    assert stored.read_text() == before


def test_the_order_of_the_commands_does_not_matter(folder, study):
    folder("two-stage")
    assert shown(folder("run"), study)


EPOCHS, RATE, PRUNE = ("epochs: 5", "epochs: 6"), ("rate_khz: 100", "rate_khz: 90"), ("epochs: 3}", "epochs: 4}")


@pytest.mark.parametrize(
    ("change", "said"),
    [(EPOCHS, "other results of stage train"), (RATE, "another physics"), (PRUNE, "other results of stage prune")],
)
def test_findings_of_an_older_state_are_left_out_and_it_is_said(folder, study, change, said):
    folder("run")
    folder("two-stage")
    page = folder("run", change)
    assert not shown(page, study)
    text = " ".join(page.split())
    assert said in text and "Run <code>trigger-prune two-stage</code> again" in text
    assert said in why_left_out(folder.out)
    # back to the old state: nothing is computed, and the section is there again
    assert shown(folder("run"), study)
    # the new state, after the study was done anew
    folder("run", change)
    assert shown(folder("two-stage", change), study) and shown(folder("run", change), study)


def test_new_findings_do_not_enter_an_old_report(folder, study):
    folder("run")
    page = folder("two-stage", EPOCHS)
    assert not shown(page, study) and "other results of stage train" in page
    assert shown(folder("run", EPOCHS), study)


def test_settings_of_the_study_alone_do_not_matter(folder, study):
    """The section states them itself: a study asked for on the command line is not of an older state."""
    folder("run")
    folder("two-stage", ("train:", "two_stage: {latency_budget_ns: 300}\ntrain:"))
    assert shown(folder("run"), study)
    assert shown(folder("run", ("project: toy", "project: toy\ndescription: other words")), study)


def test_code_that_would_compute_the_study_again(folder, study):
    folder("run")
    folder("two-stage", two_stage={"version": TWO_STAGE.version + 1})
    assert not shown(folder("run"), study)
    assert "another version of stage two_stage" in why_left_out(folder.out)
    for artefact in folder.out.glob("artefacts/two_stage-*"):  # of equal findings; either could be named
        shutil.rmtree(artefact)
    folder("two-stage", lights={"version": LIGHTS.version + 1})
    assert "another version of stage lights" in why_left_out(folder.out)
    folder("two-stage")
    assert why_left_out(folder.out) is None


def test_findings_whose_origin_is_not_known(folder, study):
    folder("run")
    folder("two-stage")
    path = folder.out / "two_stage" / "two_stage.json"
    whole = path.read_text()
    raw = json.loads(whole)
    raw["target_hz"] += 1
    path.write_text(json.dumps(raw))
    page = folder("run")
    assert not shown(page, study) and "no longer stored" in page
    path.write_text(whole)
    assert shown(folder("run"), study)
    for artefact in folder.out.glob("artefacts/two_stage-*"):
        shutil.rmtree(artefact)
    assert not shown(folder("run"), study)
    shutil.rmtree(folder.out / "two_stage")
    assert "two-stage" not in folder("run")


def test_a_report_of_another_program_is_left_alone(folder, study):
    folder("two-stage")
    (folder.out / "report.html").write_text("<p>foreign</p>")
    assert folder("two-stage") == "<p>foreign</p>"
    assert Path(folder.out / "report.html").read_text() == "<p>foreign</p>"
