"""Five small stages over the real project file. Each notes when it computes and refuses a half-written file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trigger_prune.config.load import LoadedProject, load_project
from trigger_prune.pipeline.stage import Stage, StageContext

END = "-- end --"
INPUTS: dict[str, tuple[str, ...]] = {
    "events": (),
    "train": ("events",),
    "quantize": ("train",),
    "scan": ("events", "quantize"),
    "report": ("train", "scan"),
}
CONFIG_KEYS: dict[str, tuple[str, ...]] = {
    "events": ("data", "split"),
    "train": ("seed", "train", "model"),
    "quantize": ("quantize", "train.batch_size"),
    "scan": ("sensitivity.max_events",),
    "report": ("project", "description"),
}


def save(result: dict[str, Any], folder: Path) -> None:
    """Two files, one below a folder, each written in two pieces and closed with a mark."""
    text = json.dumps(result, sort_keys=True)
    (folder / "parts").mkdir()
    for file in (folder / "result.txt", folder / "parts" / "copy.txt"):
        with file.open("w") as stream:
            stream.write(text)
            stream.flush()
            stream.write(END)


def load(folder: Path) -> dict[str, Any]:
    """Inverse of ``save``; a half-written file is an error that no test forgives."""
    texts = {(folder / name).read_text() for name in ("result.txt", "parts/copy.txt")}
    (text,) = texts
    assert text.endswith(END), f"{folder} was read half-written"
    found: dict[str, Any] = json.loads(text.removesuffix(END))
    return found


def make_stages(
    computed: Callable[[str], None], before: Callable[[str, StageContext], None] = lambda name, context: None
) -> tuple[Stage[Any], ...]:
    """The stages; ``computed`` is told every computation, ``before`` runs at the start of one."""

    def compute_for(name: str) -> Callable[[StageContext], dict[str, Any]]:
        def compute(context: StageContext) -> dict[str, Any]:
            before(name, context)
            computed(name)
            config: Any = context.config
            values: dict[str, Any] = {}
            for key in CONFIG_KEYS[name]:
                value = config
                for part in key.split("."):
                    value = getattr(value, part)
                values[key] = value if isinstance(value, int | str) else value.model_dump(mode="json")
            return {"name": name, "values": values, "from": [context.result(stage) for stage in INPUTS[name]]}

        return compute

    return tuple(
        Stage(
            name=name,
            title=f"toy {name}",
            inputs=INPUTS[name],
            config_keys=CONFIG_KEYS[name],
            compute=compute_for(name),
            save=save,
            load=load,
        )
        for name in INPUTS
    )


def toy_project(folder: Path, *overrides: str) -> LoadedProject:
    """A project in ``folder`` with default values but for the overrides."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "project.yaml"
    if not file.exists():
        file.write_text("project: toy\n")
    return load_project(folder, overrides)
