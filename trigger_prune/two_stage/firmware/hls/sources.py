"""What the templates need of the two networks: types and ports of the hls4ml projects, words, widths of the scores."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trigger_prune.errors import ExportError
from trigger_prune.export.hls4ml_project import port_inputs
from trigger_prune.physics.scores import Score
from trigger_prune.two_stage.firmware.design import FirmwareDesign, FirmwareModel

LIGHT, FULL = "light", "full"

_PORT = re.compile(r"(\w+)\s+(\w+)\[([\d*]+)\]")
_TYPE = r"typedef\s+ap_u?fixed<\d+,\s*(-?\d+)[^>]*>\s+{name};"


@dataclass(frozen=True)
class Port:
    """An array of the top function: its element type, its name here, and the words of an object that it reads."""

    type: str
    name: str
    size: int
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One network as C++.

    role         ``light`` or ``full``: name of the folder and of the stage
    words        of an object that reach the network; of the full network's job these are 0, 1, 2, ... to its ports
    fraction     the score is in steps of ``2 ** -fraction``; ``score_bits`` hold every score
    """

    role: str
    function: str
    namespace: str
    words: tuple[int, ...]
    ports: tuple[Port, ...]
    output: Port
    score: Score
    formula: str
    fraction: int
    score_bits: int


def function_name(role: str) -> str:
    """Top function of the hls4ml project of a stage."""
    return f"{role}_network"


def namespace_name(role: str) -> str:
    """Namespace of that project."""
    return f"{role}_net"


def stage_of(design: FirmwareDesign, role: str, project: Path) -> Stage:
    """Describe a stage whose hls4ml project has been written. Raises ExportError for a project of another form."""
    model = design.light if role == LIGHT else design.full
    words = np.arange(design.words_per_object).reshape(1, *design.feature_shape)[:, list(model.kept_inputs)]
    if role == FULL:  # a job holds only what the full network reads
        wired = port_inputs(model.network, np.arange(words.size).reshape(words.shape))
    else:
        wired = port_inputs(model.network, words)
    function = function_name(role)
    header = (project / "firmware" / f"{function}.h").read_text()
    found = [(kind, name, _product(size)) for kind, name, size in _PORT.findall(header)]
    if len(found) != len(wired) + 1 or [size for *_, size in found[:-1]] != [part.size for part in wired]:
        raise ExportError(f"the top function of {project} has the arrays {found}, not what the {role} network reads")
    ports = tuple(
        Port(kind, f"port{k}", size, tuple(part.ravel().tolist()))
        for k, ((kind, _, size), part) in enumerate(zip(found[:-1], wired, strict=True))
    )
    kind, name, size = found[-1]
    fraction = model.score_fraction
    # one bit for the sign of an unsigned output, one for the difference of two
    bits = _integer_bits(project, kind) + fraction + 2
    return Stage(
        role,
        function,
        namespace_name(role),
        tuple(words.ravel().tolist()),
        ports,
        Port(kind, name, size),
        model.score,
        _formula(model, size),
        fraction,
        bits,
    )


def _formula(model: FirmwareModel, outputs: int) -> str:
    return model.score.describe([str(k) for k in range(outputs)])


def _product(text: str) -> int:
    return int(np.prod([int(factor) for factor in text.split("*")]))


def _integer_bits(project: Path, name: str) -> int:
    match = re.search(_TYPE.format(name=re.escape(name)), (project / "firmware" / "defines.h").read_text())
    if match is None:
        raise ExportError(f"the output type {name} of {project} is no ap_fixed type")
    return int(match[1])
