"""The commands `data make` and `data card`."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import typer
from toy_maker import ToyMaker
from typer.testing import CliRunner

from trigger_prune.cli.data import COMMANDS
from trigger_prune.generate.driver import produce
from trigger_prune.generate.event_files import read_npz, read_provenance, write_npz


@pytest.fixture
def call():
    app = typer.Typer()
    for name, function, _ in COMMANDS:
        app.command(name)(function)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.slow
def test_make_jets_and_their_card(call, tmp_path):
    words = ("make", "jets", "--events", 4, "--seed", 2, "--out", tmp_path / "a")
    first = call(*words, "--jobs", 1)
    assert first.exit_code == 0, first.output
    made = tmp_path / "a" / "jets.npz"
    assert f"events: {made}" in first.output.replace("\n", "")
    assert read_provenance(made)["command"] == "trigger-prune data make jets --events 4 --seed 2"
    again = call("make", "jets", "--events", 4, "--seed", 2, "--out", tmp_path / "b", "--jobs", 2, "--quiet")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "b" / "jets.npz").read_bytes() == made.read_bytes()

    card = call("card", made)
    assert card.exit_code == 0, card.output
    arrays = read_npz(made)
    for label, name in enumerate("gqWZt"):
        cells = [
            cell.strip() for cell in next(line for line in card.output.splitlines() if f" {name} " in line).split("│")
        ]
        assert cells[2:5] == [name, str(int((arrays["y"] == label).sum())), "4"]
        assert cells[5] == f"{arrays['sigma_mb'][label]:.4g} mb"
    assert "pythia8mc" in card.output and "command: trigger-prune data make jets --events 4 --seed 2" in card.output

    other = call("make", "jets", "--events", 4, "--seed", 3, "--out", tmp_path / "a")
    assert other.exit_code == 1
    assert "seed 2 there, 3 here" in other.output and "--force" in other.output


def test_level1_options_are_not_for_jets(call, tmp_path):
    for option in (["--pileup", 3], ["--towers"], ["--signals", "ttbar"], ["--signal-events", 3]):
        refused = call("make", "jets", "--events", 4, "--out", tmp_path, *option)
        assert refused.exit_code == 2
        assert f"{option[0]} is for level1" in refused.output
    assert not list(tmp_path.iterdir())


def test_unknown_signal(call, tmp_path):
    refused = call("make", "level1", "--events", 4, "--out", tmp_path, "--signals", "ttbar,HH4c")
    assert refused.exit_code == 2 and "no signal 'HH4c'" in refused.output and "HH4b" in refused.output


def test_numbers_below_one_are_refused(call, tmp_path):
    for option in (["--events", 0], ["--events", 1, "--jobs", 0], ["--events", 1, "--seed", -1]):
        assert call("make", "jets", "--out", tmp_path, *option).exit_code == 2


def test_card_of_the_shipped_sample(call):
    for words in (["card"], ["card", "builtin:jets16"]):
        shown = call(*words)
        assert shown.exit_code == 0 and "Data card: the shipped jets" in shown.output
    unknown = call("card", "builtin:jets17")
    assert unknown.exit_code == 2 and "there is no sample builtin:jets17" in unknown.output


def test_card_of_a_folder_of_level1_files(call, tmp_path):
    x = np.zeros((6, 80), np.int16)
    write_npz(tmp_path / "l1_qcd3.part1.npz", {"x": x, "sigma_mb": np.asarray(1.25e-3), "n_gen": np.asarray(3)})
    write_npz(tmp_path / "l1_soft.npz", {"x": x[:5], "pileup": np.asarray(50.0), "sigma_nd_mb": np.asarray(56.8)})
    shown = call("card", tmp_path)
    assert shown.exit_code == 0, shown.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.output.splitlines() if "│" in line]
    assert ["l1_qcd3.part1.npz", "qcd3", "6", "3", "0.00125 mb"] in rows
    assert ["l1_soft.npz", "soft", "5", "", ""] in rows
    assert "no provenance" in shown.output and "pileup: 50" in shown.output and "array x: int16 (6, 80)" in shown.output


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "other", "npy"])
def test_card_of_something_else(call, tmp_path, kind):
    path = tmp_path / "thing.npz"
    if kind == "empty":
        path.mkdir()
    elif kind == "text":
        path.write_text("no archive")
    elif kind == "other":
        write_npz(path, {"weights": np.zeros(3)})
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    shown = call("card", path)
    assert shown.exit_code == 2 and "error:" in shown.output and "thing.npz" in shown.output


def test_card_survives_damaged_provenance(call, tmp_path):
    write_npz(tmp_path / "a.npz", {"x": np.zeros((2, 80)), "provenance": np.array("{not json")})
    shown = call("card", tmp_path / "a.npz")
    assert shown.exit_code == 2 and "provenance cannot be read" in shown.output


def test_card_needs_no_generator(tmp_path):
    produce([ToyMaker(str(tmp_path / "log"), n_shards=1)], tmp_path, 1)
    code = (
        "import sys; [sys.modules.__setitem__(name, None) for name in ('pythia8mc', 'numba', 'awkward')]\n"
        "from trigger_prune.generate.card import read_cards; from pathlib import Path\n"
        f"(card,) = read_cards(Path({str(tmp_path / 'toy.npz')!r})); "
        "print(card.processes[0].rows, card.provenance['seed'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["50", "1"]


def test_the_commands_load_nothing_heavy():
    code = (
        "import sys, trigger_prune.cli.data\n"
        "print([name for name in ('numpy', 'numba', 'awkward', 'pythia8mc', 'torch') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
