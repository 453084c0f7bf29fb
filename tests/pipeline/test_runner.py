"""What is computed, what is loaded, and what each stage may see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_stages import INPUTS, make_stages, toy_project

from trigger_prune.errors import ArtefactError, ConfigError
from trigger_prune.pipeline.runner import RunResult, run_pipeline, stored_stages
from trigger_prune.pipeline.stage import Stage, StageContext, check_stages
from trigger_prune.pipeline.view import UndeclaredAccessError

ALL = tuple(INPUTS)


class Toys:
    """Runs the toy stages in one output folder and remembers what each call computed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed: list[str] = []
        self.stages = make_stages(self.computed.append)

    def run(self, *overrides: str, **options: Any) -> RunResult:
        self.computed.clear()
        return run_pipeline(toy_project(self.folder, *overrides), self.stages, self.folder / "build", **options)


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys(tmp_path)


def test_a_second_run_computes_nothing_and_finds_the_same(toys: Toys) -> None:
    first = toys.run()
    assert tuple(toys.computed) == ALL == first.computed
    second = toys.run()
    assert toys.computed == []
    assert second.loaded == ALL
    assert second.result("report") == first.result("report")
    assert {n: (r.key, r.seconds) for n, r in second.runs.items()} == {
        n: (r.key, r.seconds) for n, r in first.runs.items()
    }, "the seconds are those of the computation"


@pytest.mark.parametrize(
    ("override", "rerun"),
    [
        ("data.max_events=5", ALL),
        ("split.seed=3", ALL),
        ("seed=2", ("train", "quantize", "scan", "report")),
        ("train.epochs=2", ("train", "quantize", "scan", "report")),
        ("train.batch_size=7", ("train", "quantize", "scan", "report")),
        ("model.args.hidden=[8]", ("train", "quantize", "scan", "report")),
        ("quantize.weight_bits=3", ("quantize", "scan", "report")),
        ("sensitivity.max_events=3", ("scan", "report")),
        ("sensitivity.sparsities=[0.5]", ()),
        ("description=other", ("report",)),
        ("project=other", ("report",)),
        ("budget.lut=5", ()),
        ("train.epochs=60", ()),
    ],
)
def test_a_changed_key_reruns_exactly_what_depends_on_it(toys: Toys, override: str, rerun: tuple[str, ...]) -> None:
    before = toys.run()
    changed = toys.run(override)
    assert tuple(toys.computed) == rerun
    for name in ALL:
        assert (changed.runs[name].key != before.runs[name].key) == (name in rerun)
    assert toys.run(override).computed == ()
    back = toys.run()
    assert back.computed == (), "the earlier results are still there"
    assert back.result("report") == before.result("report")


def test_an_undeclared_config_key_cannot_be_read(toys: Toys) -> None:
    def spy(name: str, context: StageContext) -> None:
        if name != "quantize":
            return
        config: Any = context.config
        assert config.quantize.weight_bits == 6
        assert config.train.batch_size == 1024
        for read in (lambda: config.train.epochs, lambda: config.seed, lambda: config.model_dump()):
            with pytest.raises(UndeclaredAccessError, match="quantize"):
                read()
        with pytest.raises(UndeclaredAccessError, match=r"train\.epochs"):
            _ = config.train.epochs
        for use in (context.result, context.folder, context.seconds):
            use("train")
            with pytest.raises(UndeclaredAccessError, match="'events', which is not among its inputs"):
                use("events")
        raise KeyError("reached the end")

    toys.stages = make_stages(toys.computed.append, spy)
    with pytest.raises(KeyError, match="reached the end"):
        toys.run()


def test_until_stops_after_a_stage(toys: Toys) -> None:
    result = toys.run(until="quantize")
    assert toys.computed == ["events", "train", "quantize"] == list(result.runs)
    assert toys.run().computed == ("scan", "report")
    with pytest.raises(ArtefactError, match="did not reach stage 'report'"):
        result.result("report")


def test_from_computes_a_stage_and_what_depends_on_it_again(toys: Toys) -> None:
    toys.run()
    assert toys.run(from_stage="quantize").computed == ("quantize", "scan", "report")
    assert toys.run(from_stage="events", until="train").computed == ("events", "train")
    assert toys.run().computed == ("quantize", "scan", "report"), "they depended on the events computed again"


def test_from_forgets_partial_work(toys: Toys) -> None:
    def leave_work(name: str, context: StageContext) -> None:
        if name == "train":
            assert not any(context.scratch.iterdir())
            (context.scratch / "half").write_text("x")
            raise KeyError("interrupted")

    toys.stages = make_stages(toys.computed.append, leave_work)
    for _ in range(2):
        with pytest.raises(KeyError, match="interrupted"):
            toys.run(from_stage="train")


@pytest.mark.parametrize("option", ["until", "from_stage"])
def test_an_unknown_stage_is_named_with_the_nearest(toys: Toys, option: str) -> None:
    with pytest.raises(ConfigError, match=r"--(until|from) quantise: no such stage; did you mean quantize\?") as caught:
        toys.run(**{option: "quantise"})
    assert caught.value.hint == "the stages are events, train, quantize, scan, report"


def test_from_after_until_is_refused(toys: Toys) -> None:
    with pytest.raises(ConfigError, match="--from scan comes after --until train"):
        toys.run(from_stage="scan", until="train")


def test_only_what_is_needed_is_loaded(toys: Toys) -> None:
    loads: list[str] = []

    def noting(stage: Stage[Any]) -> Stage[Any]:
        def load(folder: Path) -> Any:
            loads.append(stage.name)
            return stage.load(folder)

        return replace(stage, load=load)

    toys.stages = tuple(noting(stage) for stage in toys.stages)
    toys.run()
    loads.clear()
    result = toys.run("description=other")
    assert sorted(loads) == ["scan", "train"], "the inputs of the report"
    loads.clear()
    result.result("report")
    result.result("report")
    assert loads == ["report"], "read once, when asked for"


def test_input_files_tools_and_version_are_part_of_the_key(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    events = toys.folder / "events.bin"
    events.write_text("one")
    plain = toys.stages
    with_file = (replace(plain[0], files=lambda project: [project.project_dir / "events.bin"]), *plain[1:])
    toys.stages = with_file
    toys.run()
    events.write_text("two")
    assert toys.run().computed == ALL
    events.write_text("one")
    assert toys.run().computed == ()
    toys.stages = (*with_file[:3], replace(with_file[3], version=2), with_file[4])
    assert toys.run().computed == ("scan", "report")
    toys.stages = (*with_file[:2], replace(with_file[2], tools=("torch", "no-such-tool")), *with_file[3:])
    assert toys.run().computed == ("quantize", "scan", "report")
    monkeypatch.setattr("trigger_prune.pipeline.keys.version", lambda name: "0.0.1" if name == "torch" else "same")
    changed = toys.run()
    assert changed.computed == ALL, "the version of this package counts too"
    monkeypatch.setattr("trigger_prune.pipeline.keys.version", lambda name: "0.0.2" if name == "torch" else "same")
    assert toys.run().computed == ("quantize", "scan", "report")
    events.unlink()
    with pytest.raises(ConfigError, match=r"events\.bin cannot be read"):
        toys.run()


def test_final_files_are_published_after_computing_and_after_loading(toys: Toys) -> None:
    def publish(folder: Path, out: Path) -> list[Path]:
        (out / "final.txt").write_text((folder / "result.txt").read_text())
        return [out / "final.txt"]

    toys.stages = (*toys.stages[:-1], replace(toys.stages[-1], publish=publish))
    final = toys.folder / "build" / "final.txt"
    assert toys.run().runs["report"].published == (final,)
    text = final.read_text()
    final.unlink()
    assert toys.run().computed == ()
    assert final.read_text() == text


def test_the_list_of_stored_stages_changes_nothing(toys: Toys) -> None:
    toys.run(until="train")
    before = sorted(toys.folder.rglob("*"))
    stored = stored_stages(toy_project(toys.folder), toys.stages, toys.folder / "build")
    assert stored == {"events": True, "train": True, "quantize": False, "scan": False, "report": False}
    other = stored_stages(toy_project(toys.folder, "seed=5"), toys.stages, toys.folder / "build")
    assert [name for name, found in other.items() if found] == ["events"]
    assert sorted(toys.folder.rglob("*")) == before


def test_a_wrongly_declared_stage_is_refused(toys: Toys) -> None:
    train = toys.stages[1]
    for wrong, said in (
        ((train,), "input 'events' of stage 'train' is no earlier stage"),
        ((toys.stages[0], toys.stages[0]), "used twice"),
        ((toys.stages[0], replace(train, config_keys=("train.epoch",))), r"train\.epoch.*does not exist"),
    ):
        with pytest.raises(ValueError, match=said):
            check_stages(wrong)
