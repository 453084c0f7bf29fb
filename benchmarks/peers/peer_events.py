"""The same events, split and input grid for every peer, as one npz file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trigger_prune.config.project import DataConfig, InputConfig, SplitConfig
from trigger_prune.data.load import load_sample
from trigger_prune.data.split import split_sample
from trigger_prune.data.transform import fit_input_transform

BUILTIN_WIDTH = 10
"""Bits of an input of the shipped jets, as in hls_projects/jet_tagger; other files get ``FILE_WIDTH``."""

FILE_WIDTH = 12
INTEGER_BITS = 4


@dataclass(frozen=True)
class EventFile:
    """``path`` holds x_PART, y_PART (train, validation, test), width and integer; ``digest`` is of their content."""

    name: str
    path: Path
    digest: str
    facts: dict[str, object]


def export_events(source: str, folder: Path) -> EventFile:
    """Load ``source`` (``builtin:jets16`` or a file with x and y), split 60/20/20, centre, scale, put on the grid."""
    width = BUILTIN_WIDTH if source.startswith("builtin:") else FILE_WIDTH
    name = source.removeprefix("builtin:") if source.startswith("builtin:") else Path(source).stem
    split = split_sample(load_sample(DataConfig(path=source), Path.cwd()), SplitConfig())
    transform = fit_input_transform(split.train, InputConfig(width_bits=width, integer_bits=INTEGER_BITS))
    arrays = {}
    for part in ("train", "validation", "test"):
        sample = getattr(split, part)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = transform.apply(sample.features), sample.labels
    digest = hashlib.sha256(f"{width} {INTEGER_BITS}".encode())
    for key in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[key]).tobytes())
    path = folder / f"{name}-{digest.hexdigest()[:12]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, width=width, integer=INTEGER_BITS, **arrays)
        temporary.rename(path)
    counts = {part: len(arrays[f"y_{part}"]) for part in ("train", "validation", "test")}
    facts = {"source": Path(source).name, "input_type": str(transform.fixed), "events": counts}
    return EventFile(name, path, digest.hexdigest(), facts)
