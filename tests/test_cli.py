"""The command as a user meets it: exit codes, messages, files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

import trigger_prune
from trigger_prune.cli import app
from trigger_prune.cli.output import output_folder
from trigger_prune.errors import BudgetError, DataError
from trigger_prune.pipeline.stage import Stage, StageContext

Invoke = Callable[..., Any]
COMMANDS = (
    "run", "stages", "clean", "check", "init", "schema", "budget", "sensitivity", "lottery", "trials", "doctor",
    "validate", "precision", "profile", "enter", "verify", "two-stage",
)  # fmt: skip
GROUPS = {
    "reports": ("show", "diff"),
    "cost": ("calibrate", "evaluate", "predict"),
    "store": ("ls", "show", "export", "import", "prune"),
    "data": ("make", "card"),
    "qkeras": ("export", "import", "finetune", "verify", "hls4ml"),
}


def write_text(result: str, folder: Path) -> None:
    (folder / "text").write_text(result)


def read_text(folder: Path) -> str:
    return (folder / "text").read_text()


def publish_report(folder: Path, out: Path) -> list[Path]:
    (out / "report.html").write_text(read_text(folder))
    return [out / "report.html"]


def stage(name: str, compute: Callable[[StageContext], str], **options: Any) -> Stage[str]:
    return Stage(name=name, title=f"the {name}", compute=compute, save=write_text, load=read_text, **options)


def train(context: StageContext) -> str:
    epochs = context.config.train.epochs
    errors: dict[int, Exception] = {
        13: BudgetError("lut 5 is below 10", hint="raise budget.lut"),
        14: DataError("events.npz: row 3 is nan"),
    }
    if epochs == 15:
        raise KeyboardInterrupt
    if epochs in errors:
        raise errors[epochs]
    return f"{epochs} epochs, seed {context.config.seed}"


STAGES = (
    stage("train", train, config_keys=("train", "seed")),
    stage("report", lambda c: c.result("train"), inputs=("train",), publish=publish_report),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("trigger_prune.pipeline.stages")
    module.STAGES = STAGES  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "project.yaml").write_text("project: toy\n")
    monkeypatch.chdir(tmp_path)
    return Path("toy")


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_run_ends_with_the_report_file_and_the_second_run_loads(project: Path) -> None:
    first = call("run", "toy", "--set", "train.epochs=3", "--seed", "8")
    assert first.exit_code == 0, first.output
    assert first.output.splitlines()[-1] == "Report: toy/build/report.html"
    assert (project / "build" / "report.html").read_text() == "3 epochs, seed 8"
    second = call("run", "toy/project.yaml", "--set", "train.epochs=3", "--seed", "8")
    assert [line.split(" (took")[0] for line in second.output.splitlines()] == [
        "[1/2] train: loaded",
        "[2/2] report: loaded",
        "Report: toy/build/report.html",
    ]
    again = call("run", "toy", "--set", "train.epochs=3", "--seed", "8", "--from", "report").output
    assert "train: loaded" in again and "report: done" in again


def test_run_until_out_and_quiet(project: Path) -> None:
    result = call("run", "toy", "--until", "train", "--out", "elsewhere")
    assert result.output.splitlines()[-1] == "Stopped after train; results are in elsewhere"
    assert not (project / "build").exists()
    assert call("run", "toy", "--quiet").output == "Report: toy/build/report.html\n"
    assert call("run", "toy", "--quiet", "--until", "train").output == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "toy", "--set", "train.epoch=3"), 2, "error: --set train.epoch=3: unknown key train.epoch; did you"),
        (("run", "nowhere"), 2, "error: nowhere does not exist\n  -> `trigger-prune init nowhere`"),
        (("run", "toy", "--until", "trian"), 2, "error: --until trian: no such stage; did you mean train?"),
        (("run", "toy", "--set", "train.epochs=14"), 2, "error: events.npz: row 3 is nan\n"),
        (("run", "toy", "--set", "train.epochs=13"), 1, "error: lut 5 is below 10\n  -> raise budget.lut\n"),
        (("run", "toy", "--set", "train.epochs=15"), 130, "stopped; run the same command to resume\n"),
        (
            ("run", "toy", "--set", "train.epochs=15", "--from", "train"),
            130,
            "stopped; run the same command without --from to resume\n",
        ),
        (("schema", "trane"), 2, "error: there is no section trane\n"),
        (("check", "toy", "--set", "prune.max_rounds=0"), 2, "error: --set prune.max_rounds=0: prune.max_rounds is 0"),
        (("run",), 2, "Missing argument"),
    ],
)
def test_mistakes_give_a_message_and_a_code_but_no_traceback(
    project: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_debug_shows_where_an_error_comes_from(project: Path) -> None:
    assert isinstance(call("run", "toy", "--set", "train.epochs=13", "--debug").exception, BudgetError)


def test_stages_lists_what_reruns_a_stage_and_what_is_finished(project: Path) -> None:
    plain = call("stages").output
    assert re.search(r"train +│ the train +│ +│ train, seed +│$", plain, re.MULTILINE)
    call("run", "toy", "--until", "train")
    listed = call("stages", "toy").output
    assert re.search(r"train .*│ yes +│$", listed, re.MULTILINE)
    assert re.search(r"report .*│ no +│$", listed, re.MULTILINE)
    assert re.search(r"train .*│ no +│$", call("stages", "toy", "--seed", "9").output, re.MULTILINE)


def test_clean_removes_stored_results_but_not_the_report(project: Path) -> None:
    call("run", "toy")
    result = call("clean", "toy")
    assert result.exit_code == 0
    assert result.output.startswith("removed 0.0 MiB of stored results from toy/build")
    assert not (project / "build" / "artefacts").exists()
    assert (project / "build" / "report.html").exists()
    assert "train: done" in call("run", "toy").output
    assert call("clean", "nowhere").exit_code == 2


def test_init_writes_a_project_that_check_accepts(project: Path) -> None:
    made = call("init", "fresh")
    assert made.output.splitlines()[-1] == "next: trigger-prune check fresh"
    checked = call("check", "fresh", "--set", "data.max_events=2000")
    assert checked.exit_code == 0, checked.output
    assert checked.output.splitlines()[-1] == "ok"
    assert re.search(r"^ events +2000 from builtin:jets16", checked.output, re.MULTILINE)
    refused = call("init", "fresh")
    assert (refused.exit_code, "exists already" in refused.stderr) == (2, True)


def test_schema_prints_every_key_and_a_json_schema(project: Path) -> None:
    from trigger_prune.config.keys import keys_by_name

    output = call("schema").output
    assert [name for name in keys_by_name() if f" {name} " not in output] == []
    assert json.loads(call("schema", "--json").output)["required"] == ["project"]
    assert "| `prune.max_rounds` | whole number | `10` | >= 1 |" in call("schema", "--markdown").output
    assert "train.epochs" not in call("schema", "prune").output


def test_these_are_all_commands() -> None:
    names = {command.name for command in app.registered_commands}
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    assert names == set(COMMANDS)
    assert {name: {c.name for c in group.registered_commands} for name, group in groups.items()} == {
        name: set(members) for name, members in GROUPS.items()
    }


@pytest.mark.parametrize("command", [*COMMANDS, *(f"{group} {name}" for group in GROUPS for name in GROUPS[group])])
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    result = call(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"trigger-prune {command}" in result.output.split("Examples:")[1]


def test_version() -> None:
    assert call("--version").output == f"trigger-prune {trigger_prune.__version__}\n"


INTERRUPTIBLE = """
import signal, sys, time
from pathlib import Path
from types import ModuleType
from trigger_prune.pipeline.stage import Stage

# a parent that was started in the background hands on an ignored SIGINT
signal.signal(signal.SIGINT, signal.default_int_handler)

def work(context):
    (context.project_dir / "started").write_text("x")
    with context.progress.track(10, "epoch") as epochs:
        while True:
            epochs.advance(loss=1.0)
            time.sleep(0.01)

module = ModuleType("trigger_prune.pipeline.stages")
module.STAGES = (Stage(name="train", title="t", compute=work, save=print, load=print),)
sys.modules[module.__name__] = module
from trigger_prune.cli import main
main()
"""


def test_ctrl_c_in_a_pipe_leaves_plain_text_and_code_130(project: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(trigger_prune.__file__).parents[1]), "FORCE_COLOR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "run", "toy"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not (project / "started").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130
    assert output == "[1/1] train: t\n"
    assert errors == "\nstopped; run the same command to resume\n"


def test_two_files_of_one_folder_do_not_share_their_output() -> None:
    folder = Path("toy")
    assert output_folder(folder / "project.yaml", None) == folder / "build"
    assert output_folder(folder / "conv1d.yaml", None) == folder / "build" / "conv1d"
    assert output_folder(folder / "conv1d.yaml", Path("elsewhere")) == Path("elsewhere")
