"""Runs the stages in order; what is stored is loaded, what is not is computed and stored."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trigger_prune.config.load import LoadedProject
from trigger_prune.errors import ArtefactError, ConfigError
from trigger_prune.pipeline.artefacts import ArtefactStore, locked
from trigger_prune.pipeline.keys import Identity, identities
from trigger_prune.pipeline.progress import Progress, progress_for
from trigger_prune.pipeline.stage import Stage, StageContext, Upstream, check_stages
from trigger_prune.pipeline.view import view_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class StageRun:
    """One stage of a finished run. ``seconds`` is the time it took when it was computed, in this run or an earlier."""

    name: str
    key: str
    folder: Path
    state: Literal["loaded", "computed"]
    seconds: float
    published: tuple[Path, ...]


@dataclass(frozen=True)
class RunResult:
    """The stages of a run by name, in order; ``result`` reads a stage's result from its files on first use."""

    out: Path
    runs: dict[str, StageRun]
    _results: dict[str, Callable[[], Any]] = field(repr=False)

    def result(self, stage: str) -> Any:
        """What ``stage`` found. Raises ArtefactError when the run did not reach it."""
        if stage not in self._results:
            raise ArtefactError(f"the run did not reach stage {stage!r}", hint=f"reached: {', '.join(self._results)}")
        return self._results[stage]()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Stages that were found finished."""
        return tuple(name for name, run in self.runs.items() if run.state == "loaded")

    @property
    def computed(self) -> tuple[str, ...]:
        """Stages that were computed in this run."""
        return tuple(name for name, run in self.runs.items() if run.state == "computed")


def run_pipeline(
    project: LoadedProject,
    stages: Sequence[Stage[Any]],
    out: Path,
    until: str | None = None,
    from_stage: str | None = None,
    console: Console | None = None,
) -> RunResult:
    """Run ``stages`` in order up to ``until`` (included; None: all) with ``out`` as output folder.

    ``from_stage`` and everything that depends on it are computed again even when stored. ``console`` shows progress;
    None is silent. Raises ConfigError for an unknown stage name, ArtefactError when another run uses ``out``, and
    whatever a stage raises.
    """
    check_stages(stages)
    names = [stage.name for stage in stages]
    last = _index(until, names, "--until")
    first = _index(from_stage, names, "--from")
    chosen = list(stages) if last is None else list(stages[: last + 1])
    if first is not None and first >= len(chosen):
        raise ConfigError(f"--from {from_stage} comes after --until {until}", hint=f"the order is {', '.join(names)}")
    progress = progress_for(console)
    out = out.absolute()
    with locked(out):
        store = ArtefactStore(out, progress.warn)
        store.sweep()
        known = identities(project, stages)
        if from_stage is not None:
            # Removed before anything is computed: if this run is killed, a plain one goes on from where it was.
            for stage in _downstream(stages, from_stage):
                store.remove(known[stage.name])
                store.drop_scratch(known[stage.name])
        runs: dict[str, StageRun] = {}
        upstream: dict[str, Upstream] = {}
        for number, stage in enumerate(chosen, start=1):
            run = _run_stage(project, stage, known[stage.name], store, upstream, progress, f"{number}/{len(chosen)}")
            runs[stage.name] = run
            upstream[stage.name] = Upstream(run.folder, run.seconds, _once(stage.load, run.folder))
    return RunResult(out, runs, {name: finished.result for name, finished in upstream.items()})


def stored_stages(project: LoadedProject, stages: Sequence[Stage[Any]], out: Path) -> dict[str, bool]:
    """For every stage, whether a usable result for the project as it is now lies in ``out``. Changes nothing."""
    store = ArtefactStore(out.absolute(), lambda text: None)
    return {name: store.find(identity) is not None for name, identity in identities(project, stages).items()}


def _run_stage(
    project: LoadedProject,
    stage: Stage[Any],
    identity: Identity,
    store: ArtefactStore,
    upstream: dict[str, Upstream],
    progress: Progress,
    position: str,
) -> StageRun:
    folder = store.folder(identity)
    manifest = store.find(identity)
    state: Literal["loaded", "computed"] = "loaded"
    if manifest is not None:
        progress.stored(position, stage.name, stage.title, manifest.seconds)
    else:
        state = "computed"
        with progress.stage(position, stage.name, stage.title):
            context = StageContext(
                stage=stage.name,
                config=view_of(project.config, (*stage.config_keys, *stage.limit_keys), stage.name),
                project_dir=project.project_dir,
                scratch=store.scratch(identity),
                progress=progress,
                upstream={name: upstream[name] for name in stage.inputs},
            )
            start = time.monotonic()
            result = stage.compute(context)
            seconds = time.monotonic() - start
            manifest = store.write(identity, seconds, lambda into: stage.save(result, into))
    # Also after loading: a kill may have come between the rename and this line.
    store.drop_scratch(identity)
    published = () if stage.publish is None else tuple(stage.publish(folder, store.out))
    return StageRun(stage.name, identity.key, folder, state, manifest.seconds, published)


def _once(load: Callable[[Path], Any], folder: Path) -> Callable[[], Any]:
    kept: list[Any] = []

    def result() -> Any:
        if not kept:
            kept.append(load(folder))
        return kept[0]

    return result


def _downstream(stages: Sequence[Stage[Any]], first: str) -> list[Stage[Any]]:
    """``first`` and every stage that depends on it, directly or not."""
    reached = {first}
    found = []
    for stage in stages:
        if stage.name in reached or reached & set(stage.inputs):
            reached.add(stage.name)
            found.append(stage)
    return found


def _index(name: str | None, names: list[str], option: str) -> int | None:
    if name is None:
        return None
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{option} {name}: no such stage{meant}", hint=f"the stages are {', '.join(names)}")
    return names.index(name)
