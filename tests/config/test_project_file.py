"""Reading project.yaml and --set: every mistake is named with its place, and right values arrive unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from trigger_prune.config.load import load_project
from trigger_prune.config.project import BudgetConfig, ProjectConfig, TargetConfig, make_budget
from trigger_prune.config.yaml_source import parse_yaml
from trigger_prune.errors import ConfigError
from trigger_prune.target import Budget


def write(folder: Path, text: str) -> Path:
    file = folder / "project.yaml"
    file.write_text(text)
    return file


def message(folder: Path, text: str, *overrides: str) -> str:
    write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_project(folder, overrides)
    return caught.value.message


def test_folder_and_file_give_the_same_project(tmp_path: Path) -> None:
    file = write(tmp_path, "project: p\ntrain: {epochs: 3, learning_rate: 1e-3}\nbudget:\n")
    loaded = load_project(tmp_path)
    assert loaded == load_project(file)
    assert (loaded.project_dir, loaded.file) == (tmp_path.resolve(), file.resolve())
    assert loaded.config.train.epochs == 3
    assert loaded.config.train.learning_rate == 1e-3
    assert loaded.config.budget == BudgetConfig(), "a section without keys is one with defaults"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("project: p\nepochs_per_rounds: 3\n", "yaml:2: unknown key epochs_per_rounds; did you mean prune.epochs_per_"),
        (
            "project: p\ntrain:\n  epochs_per_round: 3\n",
            "yaml:3: unknown key train.epochs_per_round; did you mean prune.",
        ),
        ("project: p\ntrain:\n  lr: 3\n", "yaml:3: unknown key train.lr; did you mean train.learning_rate?"),
        ("project: p\nepochs: 3\n", "did you mean teacher.epochs, train.epochs, quantize.epochs or baseline.epochs?"),
        ("project: p\nquantise: {weight_bits: 4}\n", "yaml:2: unknown key quantise; did you mean quantize?"),
        ("project: p\nsplit:\n  xyzzy: 3\n", "known in split: train_fraction, validation_fraction, seed"),
        ("project: 7\n", "yaml:1: project is 7, but it must be text"),
        ("seed: 7\n", "project is missing; it must be text"),
        ("project: p\ntrain:\n  epochs: many\n", 'yaml:3: train.epochs is "many", but it must be whole number >= 1'),
        ("project: p\ntrain:\n  epochs: true\n", "yaml:3: train.epochs is true, but it must be whole number >= 1"),
        ("project: p\ntrain:\n  epochs: 0\n", "train.epochs is 0, but it must be whole number >= 1"),
        ("project: p\ntrain:\n  epochs: 2.0\n", "train.epochs is 2.0, but it must be whole number >= 1"),
        ("project: p\ntrain:\n  learning_rate: .inf\n", "train.learning_rate is Infinity, but it must be number > 0"),
        ("project: p\ntrain:\n  device: gpu\n", 'train.device is "gpu", but it must be one of auto, cpu, cuda'),
        ("project: p\ntrain: 5\n", "yaml:2: train is 5, but must hold keys: epochs, batch_size"),
        (
            "project: p\nsensitivity:\n  sparsities:\n  - 0.5\n  - 2\n",
            "yaml:5: entry 2 of sensitivity.sparsities is 2, but sensitivity.sparsities must be list of numbers >= 0 a",
        ),
        ("project: p\ndata: {features: 3}\n", "data.features is 3, but it must be text or list of text or null"),
        (
            "project: p\ndata:\n  label_expression: {a: 3}\n",
            "yaml:3: data.label_expression is 3, but it must be mapping",
        ),
        ("project: p\ndata: {label: y, label_expression: {a: b}}\n", "label and label_expression are both given"),
        ("project: p\nsplit:\n  train_fraction: 0.9\n", "yaml:2: split: train_fraction and validation_fraction must"),
        (
            "project: p\ncost: {pipeline_stages: 3, adders_per_stage: 4}\n",
            "pipeline_stages and adders_per_stage are both",
        ),
        ("project: p\ncost: {batch_sizes: [4, 1]}\n", "cost: batch_sizes [4, 1] must ascend"),
        ("project: p\ncost: {batch_sizes: []}\n", "cost.batch_sizes is []"),
        (
            "project: p\ncost: {backend: verilator}\n",
            "one of rtl, analytic, analytic_hls, csynth, vsynth, cosim, pnr, runtime",
        ),
        ("project: p\nbudget: {latency_p99_us: 0}\n", "budget.latency_p99_us is 0, but it must be number > 0 or null"),
        ("project: p\nseed: 1\ntrain: {}\nseed: 2\n", "yaml:4: seed is given twice, first on line 2"),
        ("project: p\ntrain:\n  epochs: 2\n  epochs: 3\n", "yaml:4: train.epochs is given twice, first on line 3"),
        ("project: p\nmodel:\n  args:\n    1: 3\n", "yaml:4: key 1 is not text for YAML; write '1' in quotes"),
        ("project: p\n\ttrain: 3\n", "yaml:2: not valid YAML"),
        ("project: p\ntrain: [1\n", "yaml:3: not valid YAML"),
        ("project: p\n---\nproject: q\n", "not valid YAML: expected a single document"),
        ("project: !!python/name:os.system\n", "not valid YAML"),
        ("- project\n", 'holds ["project"], not keys'),
        ("project: p\nmodel: {args: &a {b: *a}}\n", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert said in message(tmp_path, text)


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    said = message(
        tmp_path,
        "project: 5\nbudget: {lut: -1}\nepochz: 3\ntrain:\n  epochs: 1\n  epochs: 2\n",
        "train.epoch=3",
        "seed=-4",
    )
    lines = said.splitlines()
    assert lines[0] == "6 problems in the project"
    assert [line.split(": ")[0].strip().rpartition(":")[2] for line in lines[1:5]] == ["1", "2", "3", "6"]
    assert lines[5].startswith("  --set train.epoch=3: unknown key train.epoch; did you mean train.epochs?")
    assert lines[6].startswith("  --set seed=-4: seed is -4, but it must be whole number >= 0")


def test_missing_or_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no project\.yaml"):
        load_project(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_project(tmp_path / "nowhere")
    (tmp_path / "project.yaml").write_bytes(b"project: \xff\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_project(tmp_path)


def test_overrides_win_over_the_file_and_the_last_one_over_the_others(tmp_path: Path) -> None:
    write(tmp_path, "project: p\nseed: 4\ntrain: {epochs: 7}\nmodel: {args: {hidden: [64], dropout: 0.1}}\n")
    config = load_project(
        tmp_path,
        [
            "train.epochs=9",
            "train.epochs=11",
            "model.args.hidden=[32,16]",
            "model.args.deep.er=1e-3",
            "budget={lut: 500}",
            "data.label=null",
        ],
        seed=9,
    ).config
    assert (config.seed, config.train.epochs, config.budget.lut) == (9, 11, 500)
    assert config.model.args == {"hidden": [32, 16], "dropout": 0.1, "deep": {"er": 1e-3}}


def test_the_solver_has_a_criterion_of_its_own_unless_one_is_given(tmp_path: Path) -> None:
    write(tmp_path, "project: p\nprune: {scope: layer}\n")
    assert load_project(tmp_path).config.prune.criterion == "magnitude_l1"
    assert load_project(tmp_path, ["prune.scope=solver"]).config.prune.criterion == "obs_gauss_newton"
    assert load_project(tmp_path, ["prune.scope=solver", "prune.criterion=obs"]).config.prune.criterion == "obs"
    write(tmp_path, "project: p\nprune: {criterion: wanda}\n")
    assert load_project(tmp_path, ["prune.scope=solver"]).config.prune.criterion == "wanda"


@pytest.mark.parametrize("scope", ["solver", "learned"])
@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("regrow: rigl", "regrow"),
        ("schedule: linear", "schedule"),
        ("schedule: one_shot, repair: true", "schedule, repair"),
        ("layer_sparsity: {head: 0.5}", "layer_sparsity"),
    ],
)
def test_what_a_scope_makes_no_use_of_is_refused(tmp_path: Path, scope: str, given: str, names: str) -> None:
    said = message(tmp_path, f"project: p\nprune: {{scope: {scope}, {given}}}\n")
    assert f"scope {scope} makes no use of {names}; use scope global or layer" in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs", "--set train.epochs: write --set key=value"),
        ("=3", "--set =3: write --set key=value"),
        ("train.epochs.x=3", "train.epochs has no keys below it, it is whole number >= 1"),
        ("train.epochs=many", '--set train.epochs=many: train.epochs is "many", but it must be'),
        ("train.epochs=[1", "--set train.epochs=[1:1: not valid YAML"),
        ("trane.epochs=1", "unknown key trane.epochs; did you mean train.epochs?"),
        ("lut=5", "unknown key lut; did you mean budget.lut or front.lut?"),
        ("model.args.hidden.size=5", "model.args.hidden is [64]"),
        ("split.train_fraction=0.85", "leave a test part (with --set split.train_fraction=0.85)"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, said: str) -> None:
    assert said in message(tmp_path, "project: p\nmodel: {args: {hidden: [64]}}\nsplit: {seed: 1}\n", override)


def test_a_path_on_the_command_line_starts_at_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").mkdir()
    write(tmp_path / "p", "project: p\ndata: {path: events/a.npz}\n")
    monkeypatch.chdir(tmp_path)
    assert load_project(Path("p")).config.data.path == "events/a.npz", "left to start at project.yaml"
    assert load_project(Path("p"), ["data.path=b.npz"]).config.data.path == str(tmp_path / "b.npz")
    assert load_project(Path("p"), ["data.path=/c.npz"]).config.data.path == "/c.npz"
    assert load_project(Path("p"), ["data.path=builtin:jets16"]).config.data.path == "builtin:jets16"


@pytest.mark.parametrize(
    "text",
    [
        "12", "-3", "+4", "0x1f", "0o17", "1_000", "1.5", "08", "1.", "1.0e-3", ".inf", "-.INF", "yes", "off", "~",
        "null", "abc", "1e", "e3", "1-2", "1.2.3", "-", ".", "12 a", "'12'", "[1, 2.5, x]", "{a: {b: [c]}}", "0b11",
    ],
)  # fmt: skip
def test_values_are_read_as_pyyaml_reads_them(text: str) -> None:
    assert repr(parse_yaml(text, "t").values) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("4E5", 4e5), ("-2e+3", -2e3), ("1.5e3", 1500.0), ("-.5", -0.5)]
)
def test_numbers_that_pyyaml_takes_for_text(text: str, value: float) -> None:
    assert parse_yaml(text, "t").values == value


def test_dates_stay_text() -> None:
    assert parse_yaml("2024-05-06", "t").values == "2024-05-06"


@pytest.mark.parametrize(
    ("latency_ns", "clock_ns", "cycles"),
    [(None, 5.0, None), (25.0, 5.0, 5), (24.9, 5.0, 4), (0.3, 0.1, 3), (100.0, 2.5, 40), (4.0, 5.0, 0)],
)
def test_a_latency_budget_is_whole_cycles_of_the_target_clock(
    latency_ns: float | None, clock_ns: float, cycles: int | None
) -> None:
    budget = make_budget(BudgetConfig(latency_ns=latency_ns, lut=7), TargetConfig(clock_period_ns=clock_ns))
    assert (budget.latency_cycles, budget.lut) == (cycles, 7)
    assert make_budget(BudgetConfig(uram=3, latency_p99_us=8.5, event_time_us=0.25), TargetConfig()) == Budget(
        uram=3, latency_p99_us=8.5, event_time_us=0.25
    )
    config = ProjectConfig(
        project="p", budget=BudgetConfig(latency_ns=latency_ns, lut=7), target=TargetConfig(clock_period_ns=clock_ns)
    )
    assert config.make_budget() == budget
    assert config.make_target().clock_period_ns == clock_ns
